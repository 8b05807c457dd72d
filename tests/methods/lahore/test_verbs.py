"""LaHoRe in runs: rankings by every way, resuming with a reference, index and search."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from running import main, refusal, tiny
from runs import Runs
from transformers import AutoModelForCausalLM

import zoo
from datamodules import ESConvStrategies
from zoo.cli.trainer import ZooTrainer
from zoo.errors import InputError

SMALL = (
    *(*tiny("lahore"), "--data.max_train", "2", "--data.max_val", "2", "--data.max_test", "2"),
    *("--data.max_turns", "1"),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_from_training_to_rankings(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoint -> generate, predict, export -> the same scores in Python, by transformers too."""
    first = runs.generate("lahore").split("\n\n")[0]
    assert first.startswith("query:")
    assert sum(line[9:10] == "*" for line in first.splitlines()) == 1, first
    rows, folder = runs.predict("lahore"), runs.export("lahore")
    module = zoo.load(folder)
    records = runs.data("lahore").records("test")
    for row, record, scores in zip(rows, records, module.scores(records), strict=True):
        assert dict(row["ranking"]) == pytest.approx(
            dict(zip(record.pool, scores, strict=True)), abs=1e-5
        )
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    head, tail = module.encoder().halves(records[0].query, records[0].corpus.documents["Others"])
    with torch.no_grad():
        logits = plain(torch.tensor([[*head, *tail]])).logits[0, -1]
    true, false = module.encoder().option_ids
    score = (logits[true] - logits[false]).item()
    assert dict(rows[0]["ranking"])["Others"] == pytest.approx(score, abs=1e-4)

    given = ("--config", str(runs.fit("lahore") / "config.yaml"), "--ckpt_path", str(folder))
    capsys.readouterr()
    main("index", *given, "--output", str(tmp_path / "i"))
    assert f"index       {tmp_path / 'i'}: 8 documents, 8 new" in capsys.readouterr().out
    search = ("--index", str(tmp_path / "i"), "--k", "3")
    found = tmp_path / "new" / "r.jsonl"
    main("search", *given, *search, "--output", str(found))
    for line, row in zip(found.open(), rows, strict=True):
        result = json.loads(line)
        assert result["id"] == row["id"]
        assert [n for n, _ in result["ranking"]] == [n for n, _ in row["ranking"][:3]]
    capsys.readouterr()
    main("search", *given, *search, "--query", "seeker: hello")
    (line,) = capsys.readouterr().out.splitlines()
    assert len(json.loads(line)["ranking"]) == 3
    below = ("--output", str(found / "r.jsonl"))
    said = refusal(capsys, tmp_path, *search, *below, verb="search", given=given)
    assert "r.jsonl cannot be written (Not a directory)" in said


def dpo(folder: Path, steps: int, data: Any, **options: Any) -> Any:
    """Train by DPO for some steps, in this process; return the module."""
    module = zoo.LaHoRe(
        {"name": "tiny-llama"},
        {"lr": 1e-3, "schedule": "constant", "warmup_ratio": 0.0},
        objective="dpo",
    )
    trainer = ZooTrainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=folder,
    )
    trainer.fit(module, datamodule=data, **options)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


def test_a_resumed_dpo_run_keeps_its_reference(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Four steps equal two and two, though the reference cannot be computed again by then."""
    said = "log-probabilities of the reference"

    def data(limit: int = 2) -> Any:
        return ESConvStrategies(max_train=limit, max_turns=1, batch_size=4)

    with caplog.at_level(logging.WARNING):
        whole = dpo(tmp_path / "whole", 4, data())
        assert f"{said} for 16 pairs (once)" in caplog.text
        caplog.clear()
        dpo(tmp_path / "half", 2, data())
        assert said not in caplog.text  # from the cache
        (file,) = cache.glob("reference-*.safetensors")
        aside = file.rename(tmp_path / "aside")
        half = tmp_path / "half" / "last.ckpt"
        assert torch.load(half, weights_only=True)["reference"]["values"].shape == (16, 2)
        resumed = dpo(tmp_path / "rest", 4, data(), ckpt_path=str(half))
        assert said not in caplog.text
        for name, value in whole.state_dict().items():
            assert torch.equal(resumed.state_dict()[name], value), name
        with pytest.raises(InputError, match="made with other training pairs; use init_from"):
            dpo(tmp_path / "other", 4, data(1), ckpt_path=str(half))
        aside.rename(file)
        dpo(tmp_path / "next", 1, data(), init_from=str(half))  # other weights, another reference
        assert f"{said} for 16 pairs (once)" in caplog.text
    twins = data()
    twins._records["train"] = [twins.records("train")[0]] * 2
    with pytest.raises(InputError, match="two training records have the same id"):
        dpo(tmp_path / "twins", 1, twins)


@pytest.mark.parametrize(
    ("verb", "args", "said"),
    [
        ("fit", ("--model.labels", "[<T>, <F>]"), "model.labels: '<T>' is 3 tokens"),
        ("fit", ("--model.labels", "[A, A]"), "model.labels: 'A' and 'A' are the same token"),
        ("fit", ("--model.document_tokens", "5000"), "model.max_length: 4096 leaves no room"),
        ("index", ("--output", "i", "--model.order", "query_first"), "model.order: an index needs"),
        ("index", ("--output", "i", "--shard_size", "0"), "shard_size: 0 is not above 0"),
        ("search", ("--index", "none"), "none: no index.json there; it is no index"),
        ("search", ("--index", "none", "--k", "0"), "k: 0 is not above 0"),
        ("search", ("--index", "none", "--engine", "faiss"), "engine: the scores of LaHoRe are no"),
        ("search", ("--index", "i", "--queries", "q.jsonl"), "queries: cannot read q.jsonl"),
    ],
)
def test_refusals(verb: str, args: tuple[str, ...], said: str, refused: Callable[..., str]) -> None:
    assert refused(*args, verb=verb, given=SMALL).startswith(said)


def test_search_leaves_a_querys_own_document_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Queries that are documents too, as ArguAna's, do not find themselves."""
    texts = [{"_id": f"a{i}", "title": None, "text": f"argument {i}"} for i in range(4)]
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("a0\ta1\t1\na2\ta3\t1\n")
    for name in ("corpus", "queries"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, texts)))
    model = ("--model", "zoo.LaHoRe", "--model.backbone.name", "tiny-llama")
    data = ("--data", "datamodules.BEIR", "--data.path", str(tmp_path))
    main("index", *model, *data, "--output", str(tmp_path / "i"))
    capsys.readouterr()
    main("search", *model, *data, "--index", str(tmp_path / "i"), "--k", "3")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = {row["id"]: {name for name, _ in row["ranking"]} for row in rows}
    assert names == {"a0": {"a1", "a2", "a3"}, "a2": {"a0", "a1", "a3"}}


def test_a_method_without_documents_is_not_indexed(refused: Callable[..., str]) -> None:
    sft = ("--model", "zoo.SFT", "--model.backbone.name", "tiny-llama", "--output", "i")
    line = refused(*sft, "--data", "datamodules.Documents", verb="index", given=())
    assert line == "model: SFT encodes no documents, so no index"
    line = refused(*sft, "--data", "datamodules.ESConv", verb="index", given=())
    assert line == "data: ESConv has no documents to index"


def test_the_corpus_of_a_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder: Any = tmp_path / "corpus"
    folder.mkdir()
    lines = [{"_id": str(i), "text": f"text {i}", "title": "", "url": "u"} for i in range(20)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = ("--data", "datamodules.Documents", "--data.path", str(folder))
    model = ("--model", "zoo.LaHoRe", "--model.backbone.name", "tiny-llama")
    main("index", *model, *data, "--output", str(tmp_path / "i"))
    assert "20 documents, 20 new" in capsys.readouterr().out
    assert len(list((tmp_path / "i").glob("shard-*"))) == 2
    main("search", *model, *data, "--index", str(tmp_path / "i"), "--query", "text", "--k", "2")
    assert len(json.loads(capsys.readouterr().out)["ranking"]) == 2

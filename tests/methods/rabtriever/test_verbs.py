"""Rabtriever through the command line and on disk: teacher, student, index, refusals, figures."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from running import board, main, tiny
from runs import Runs
from training import quiet_trainer

import datamodules
import zoo
from zoo.callbacks.figures import Figures
from zoo.errors import InputError
from zoo.methods.m3_jepa.metrics import search
from zoo.methods.rabtriever.document_vectors import MAX_VECTORS
from zoo.methods.rabtriever.encoder import StateEncoder
from zoo.ranking.evaluation import FILLER, RankedQuery
from zoo.ranking.faiss_search import vector_search
from zoo.ranking.index import Index, build
from zoo.records import Corpus, Document, Ranking
from zoo.tiny_models import byte_tokenizer

DOCUMENTS = [Document(f"d{i}", text) for i, text in enumerate(["tea", "a dog", "ferry", "wool"])]
Make = Callable[..., Any]


@pytest.fixture
def student(make: Make) -> Any:
    return make("Rabtriever", "tiny-llama", spread=8.0)


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"labels": ["<T>", "<F>"]}, "model.labels: '<T>' is 3 tokens"),
        ({"labels": ["A", "A"]}, "model.labels: 'A' and 'A' are the same token"),
        ({"document_tokens": 5000}, "model.max_length: 2048 leaves no room"),
        ({"num_layers": 4}, "model.num_layers must be 1, 2 or 3"),
        ({"kl_weight": 0.0}, "and model.kl_weight above 0"),
        ({"mse": False, "divergence": "none"}, "divergence is none: nothing to learn"),
        ({"lora": {}}, "model.backbone.lora: the backbone is the teacher and stays frozen"),
    ],
)
def test_settings_that_are_refused(options: dict[str, Any], said: str) -> None:
    lora = zoo.LoRA() if "lora" in options else None
    given = {name: value for name, value in options.items() if name != "lora"}
    with pytest.raises(InputError, match=re.escape(said)):
        zoo.Rabtriever(zoo.Backbone("tiny-llama", lora=lora), **given).validate()


def test_refusals_write_nothing(refused: Callable[..., str]) -> None:
    for verb, args, said in (
        ("fit", ("--model.labels", "[A, A]"), "model.labels: 'A' and 'A' are the same token"),
        ("search", ("--index", "none"), "none: no index.json there; it is no index"),
    ):
        assert refused(*args, verb=verb, given=tiny("rabtriever")).startswith(said)


def test_an_empty_document_of_a_record(student: Any) -> None:
    corpus = Corpus({"d": Document("d", "  ")})
    with pytest.raises(InputError, match="document 'd' is empty"):
        student.scores([Ranking("q", corpus, (("d", 1),), id="r")])


def test_long_documents_lose_their_end_and_are_counted(
    student: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two documents that differ behind their slot are one; validation says how many were cut."""
    long = {name: Document(name, "x" * 40 + name) for name in "ab"}
    corpus = Corpus({**long, "c": Document("c", "short")})
    record = Ranking("q", corpus, (("a", 1),), id="r")
    first, second, third = student.scores([record])[0]
    assert first == second != third
    student._encoder = None
    with caplog.at_level(logging.WARNING):
        quiet_trainer().validate(student, Given([record]), verbose=False)
    assert "2 texts are longer than the slot of a document, 32 tokens, and lose their end" in [
        row.getMessage() for row in caplog.records
    ]
    encoder = StateEncoder(byte_tokenizer(), document_tokens=32)
    assert all(len(pair.head) <= encoder.slot for pair in encoder(record))


# -- index -------------------------------------------------------------------------------------


def test_an_index_survives_a_kill(
    student: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline, calls = student.offline, []

    def dies(documents: Any) -> Any:
        calls.append(documents)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return offline(documents)

    monkeypatch.setattr(student, "offline", dies)
    with pytest.raises(KeyboardInterrupt):
        build(student, DOCUMENTS, tmp_path / "i", shard_size=1)
    monkeypatch.setattr(student, "offline", offline)
    with pytest.raises(InputError, match="not finished; run the same index again"):
        Index(student, tmp_path / "i")
    assert build(student, DOCUMENTS, tmp_path / "i", shard_size=1) == 2
    corpus = Corpus({document.id: document for document in DOCUMENTS})
    row = student.scores([Ranking("water", corpus, (), id="r")])[0]
    expected = sorted(zip(corpus.documents, row, strict=True), key=lambda pair: -pair[1])
    for engine in ("torch", "faiss"):
        if engine == "faiss":
            pytest.importorskip("faiss")
        (found,) = Index(student, tmp_path / "i").search(["water"], 4, engine=engine)
        assert [name for name, _ in found] == [name for name, _ in expected]
        assert [s for _, s in found] == pytest.approx([s for _, s in expected], abs=1e-6)


def test_what_changed_since_is_named(student: Any, make: Make, tmp_path: Path) -> None:
    """Prompt and frozen weights refuse; another predictor does not touch documents."""
    build(student, DOCUMENTS, tmp_path / "i")
    for options, said in (
        ({"document_tokens": 16}, r"other model\.document_tokens \(32, now 16\)"),
        ({"template": "paper"}, r"other model\.template \(followup, now paper\)"),
        ({"system": "Hi."}, r"other model\.system"),
        ({"product": False}, r"other model\.product \(True, now False\)"),
    ):
        with pytest.raises(InputError, match=said):
            Index(make("Rabtriever", "tiny-llama", spread=8.0, **options), tmp_path / "i")
    with pytest.raises(InputError, match=r"other method \(Rabtriever, now LaHoRe\)"):
        Index(make("LaHoRe", "tiny-llama", spread=8.0, template="followup"), tmp_path / "i")
    with torch.no_grad():
        student.predictor.layers[0].weight.add_(1)
        Index(student, tmp_path / "i")
        student.lm.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-6
    with pytest.raises(InputError, match=r"i: the index was built with other weights .*new one"):
        Index(student, tmp_path / "i")


def test_fit_index_and_search_by_commands(
    runs: Runs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both engines print the same ranking of an index that a trained student built."""
    pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    given = runs.given("rabtriever")
    capsys.readouterr()
    main("index", *given, "--output", "i")
    assert "index       i: 8 documents, 8 new" in capsys.readouterr().out
    printed = []
    for engine in ("torch", "faiss"):
        asked = ("--query", "seeker: hello", "--k", "3", "--engine", engine)
        main("search", *given, "--index", "i", *asked)
        (line,) = capsys.readouterr().out.splitlines()
        printed.append(json.loads(line)["ranking"])
    assert [name for name, _ in printed[0]] == [name for name, _ in printed[1]]
    assert [s for _, s in printed[0]] == pytest.approx([s for _, s in printed[1]], abs=1e-6)


# -- many vectors ------------------------------------------------------------------------------


def test_faiss_finds_the_ten_best_of_many() -> None:
    """100,000 vectors: FAISS and brute force in float64 agree."""
    pytest.importorskip("faiss")
    vectors, asked = torch.randn(100_000, 32), torch.randn(5, 32)
    module = SimpleNamespace(search_vectors=lambda queries: asked)
    scores, places = vector_search(module, ["q"] * 5, vectors, 10)
    odds = (asked.double() @ vectors.double().t()).sort(1, descending=True)
    assert torch.equal(places, odds.indices[:, :10])
    torch.testing.assert_close(scores, odds.values[:, :10], rtol=1e-5, atol=1e-4)
    assert torch.equal(search(asked, vectors, 10)[1], places)


def test_vector_search_refuses_and_returns_at_most_all() -> None:
    pytest.importorskip("faiss")
    module = SimpleNamespace(search_vectors=lambda queries: torch.eye(3)[:2])
    scores, places = vector_search(module, ["a", "b"], torch.eye(3), 10)
    assert scores.shape == places.shape == (2, 3)
    assert places[:, 0].tolist() == [0, 1]
    with pytest.raises(
        InputError, match="scores of SimpleNamespace are no inner products; use torch"
    ):
        vector_search(SimpleNamespace(), ["a"], torch.eye(3), 1)


def test_without_faiss_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    module = SimpleNamespace(search_vectors=lambda queries: torch.eye(2))
    with pytest.raises(InputError, match="faiss is not installed; pip install faiss-cpu"):
        vector_search(module, ["a"], torch.eye(2), 1)


# -- TensorBoard -------------------------------------------------------------------------------


class Given(datamodules.ZooDataModule):
    """A data module of given records."""

    record_types = (Ranking,)

    def __init__(self, records: list[Ranking]) -> None:
        super().__init__()
        self.given = records

    def load(self, split: str) -> list[Any]:
        return [*self.given]


def test_the_board_shows_scores_recall_and_document_states(student: Any, tmp_path: Path) -> None:
    """Histograms of both kinds of documents, recall at k, and e_D[-1] in the projector."""
    data = datamodules.BEIR()
    trainer = quiet_trainer(logger=TensorBoardLogger(tmp_path), callbacks=[Figures()])
    trainer.validate(student, data, verbose=False)
    corpus = data.records("val")[0].corpus
    vectors, titles = student.figures()["documents"]
    names = list(student.shown.kept)
    assert len(names) == len(titles) == len(corpus.documents)
    for name, title, vector in zip(names, titles, vectors, strict=True):
        document = corpus.documents[name]
        assert title == (document.title or document.text)[:80]
        (expected,) = student.offline([document])["vectors"]
        torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-4)
    (axes,) = student.figures()["scores"].axes
    assert len(axes.get_legend().get_texts()) == 2
    folder = Path(trainer.logger.log_dir)
    assert set(board(folder).Tags()["images"]) == {"val/scores", "val/recall"}
    for file in ("tensors.tsv", "metadata.tsv"):
        (written,) = folder.rglob(file)
        assert "documents" in str(written.relative_to(folder))
        assert len(written.read_text().splitlines()) == len(names)


def test_the_projector_is_bounded_and_shows_no_filler(student: Any) -> None:
    many = Corpus({str(i): Document(str(i), f"text {i}") for i in range(MAX_VECTORS + 5)})
    record = Ranking("q", many, (("0", 1),), id="r")
    student.shown.add([FILLER, record], torch.arange(MAX_VECTORS + 6.0)[:, None])
    assert len(student.shown.kept) == MAX_VECTORS
    student.answers = {"r": (None, RankedQuery(dict.fromkeys(record.pool, 0.0), {"0": 1}, ""))}
    vectors, titles = student.figures()["documents"]
    assert len(vectors) == len(titles) == MAX_VECTORS - 1
    assert "?" not in titles
    assert vectors[3].item() == 4.0
    student.on_validation_epoch_start()
    assert student.shown.kept == {}

"""M3-JEPA through the command line on tiny encoders: every verb, figures, export."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.m3_jepa.m3_jepa_samples import asked
from running import board, last, main, tiny

import zoo
from datamodules import DigitsText

DATA = ("--data.max_train", "60", "--data.max_val", "14", "--data.max_test", "6")
WAYS = ("image2text", "text2image")
GIVEN = (*tiny("m3_jepa"), *DATA)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of four steps with two validations; yields its folder, the working folder."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(
            *("fit", *GIVEN, "--trainer.max_steps", "4", "--trainer.val_check_interval", "2"),
            *("--trainer.log_every_n_steps", "1", "--trainer.default_root_dir", str(folder)),
        )
        yield folder


def ckpt(run: Path) -> tuple[str, ...]:
    return ("--ckpt_path", str(last(run)))


# -- TensorBoard -------------------------------------------------------------------------------


def test_scalars(run: Path) -> None:
    """Each direction's losses from its first turn; recall of both views after each validation."""
    found = board(run)
    tags = set(found.Tags()["scalars"])
    for term in ("regression", "contrastive"):
        steps = [[e.step for e in found.Scalars(f"train/{way}_{term}_loss")] for way in WAYS]
        assert [min(some) for some in steps] == [0, 1]  # the directions take turns
        assert {f"val/{way}_{term}_loss" for way in WAYS} <= tags
    recalls = {f"{view}R@{k}_{way}" for view in ("", "regression_") for k in (1, 5) for way in WAYS}
    assert {f"val/{name}" for name in recalls} | {"val/R@1", "speed/pairs_per_s"} <= tags
    assert len(found.Scalars("val/R@1")) == 2


def test_figures(run: Path) -> None:
    """Gate usage and a grid of retrieved pictures, after each validation."""
    found = board(run)
    assert {"val/gate_usage", "val/retrieval"} <= set(found.Tags()["images"])
    for tag in ("val/gate_usage", "val/retrieval"):
        images = found.Images(tag)
        assert [image.step for image in images] == [2, 4]
        assert min(image.width for image in images) > 100


def test_vectors_for_the_projector(run: Path) -> None:
    """One row per item, with its name."""
    names = {"text": 10, "image": 14}  # ten digits, each text once
    for modality, count in names.items():
        folders = sorted(run.glob(f"*/val*vectors*{modality}"))
        assert len(folders) == 2
        for folder in folders:
            rows = (folder / "tensors.tsv").read_text().splitlines()
            labels = (folder / "metadata.tsv").read_text().splitlines()
            assert len(rows) == len(labels) == count
            assert len(rows[0].split("\t")) == 32


# -- the other verbs ---------------------------------------------------------------------------


def test_check(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main("check", *GIVEN)
    out = capsys.readouterr().out
    assert "method      M3JEPA on bert, vit" in out
    total, trained, new = (int(n.replace(",", "")) for n in re.findall(r" ([\d,]+)\b", out)[:3])
    assert new < trained < total
    assert "predictor.gate.weight" in out
    assert "lora" not in out
    assert "the first has 10 pairs, 140 text tokens" in out
    assert "media       digits:0\ntext        the digit zero" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_evaluation(verb: str, run: Path, tmp_path: Path) -> None:
    root = ("--trainer.default_root_dir", str(tmp_path))
    main(verb, *GIVEN, *ckpt(run), *root)
    found = board(tmp_path)
    stage = "val" if verb == "validate" else "test"
    assert {f"{stage}/gate_usage", f"{stage}/retrieval"} <= set(found.Tags()["images"])
    if verb == "validate":  # what the training run has logged
        for tag in ("val/R@1", "val/image2text_regression_loss"):
            expected = board(run).Scalars(tag)[-1].value
            assert found.Scalars(tag)[-1].value == pytest.approx(expected, abs=1e-5)


def test_generate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each test record the nearest pictures and texts."""
    main("generate", *GIVEN, *ckpt(run), "--num_records", "3")
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert len(blocks) == 3
    for block in blocks:
        assert re.search(r"^text: +the digit \w+$", block, re.MULTILINE)
        assert re.search(r"^nearest image: digits:\d+(, digits:\d+){2}$", block, re.MULTILINE)
        assert re.search(r"^nearest texts: the digit \w+ \| ", block, re.MULTILINE)


@pytest.mark.parametrize(
    ("way", "shown"),
    [
        (WAYS[0], ["text", "image", "nearest texts"]),
        (WAYS[1], ["text", "nearest image", "image"]),
        ("image+text2text", ["text", "image", "question", "answer"]),
    ],
)
def test_generate_with_one_direction(
    way: str, shown: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the direction finds is shown, and nothing of a direction that is not there."""
    model = (*tiny("m3_jepa"), "--model.directions", f"[{way}]", "--num_records", "2")
    data = asked_on_the_command_line(tmp_path)
    main("generate", *model, *data)
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert len(blocks) == 2
    for block in blocks:
        assert [line.partition(":")[0] for line in block.splitlines()] == shown
    if way == WAYS[1]:
        return
    with pytest.raises(SystemExit):
        main("generate", *model, *data, "--prompt", "a round digit")
    said = f"--prompt: searching needs the direction text2image; model.directions has {way}"
    assert said in capsys.readouterr().err


def asked_on_the_command_line(folder: Path) -> tuple[str, ...]:
    """Return the arguments that name pictures with questions."""
    data = asked(folder)
    given = ("--data.path", str(data.path), "--data.annotations", str(data.annotations))
    return ("--data", "datamodules.ImageText", *given)


def test_generate_with_a_prompt(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main("generate", *GIVEN, *ckpt(run), "--prompt", "a round digit")
    out = capsys.readouterr().out
    assert out.startswith("text:    a round digit\nnearest image: digits:")
    assert "nearest texts" not in out


def test_predict(run: Path, tmp_path: Path) -> None:
    """A line for each pair with both gallery vectors, those of `embed`."""
    main("predict", *GIVEN, *ckpt(run), "--trainer.default_root_dir", str(tmp_path))
    rows = [json.loads(x) for x in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert set(rows[0]) == {"id", "text", "image_vector", "text_vector"}
    module = restored(run)
    expected = module.embed([row["text"] for row in rows], "text")
    found = torch.tensor([row["text_vector"] for row in rows])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def restored(run: Path) -> Any:
    module = zoo.M3JEPA.load_from_checkpoint(last(run), weights_only=True, map_location="cpu")
    if not module.built:  # Lightning has built it to load the weights
        module.configure_model()
    return module.eval()


# -- export ------------------------------------------------------------------------------------


def vectors(module: Any) -> list[torch.Tensor]:
    records = DigitsText(max_test=6).records("test")
    texts, media = [r.texts[0] for r in records], [r.media for r in records]
    embedded = [module.embed(texts, "text"), module.embed(media, "image")]
    return [*embedded, module.ask(texts, WAYS[1]), module.ask(media, WAYS[0])]


def test_export(run: Path, tmp_path: Path) -> None:
    """Two plain encoders, adapters merged; `zoo.load` gives the vectors of the checkpoint."""
    from transformers import AutoModel, AutoTokenizer

    out = tmp_path / "out"
    main("export", *GIVEN, *ckpt(run), "--output", str(out))
    module = zoo.load(out)
    before = restored(run)
    for _ in range(2):  # computed, then from what is kept
        for ours, theirs in zip(vectors(module), vectors(before), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    for modality in ("text", "image"):
        plain = AutoModel.from_pretrained(out / modality, local_files_only=True)
        assert not [name for name in plain.state_dict() if "lora" in name]
    tokenizer = AutoTokenizer.from_pretrained(out / "text", local_files_only=True)
    assert tokenizer("the digit")["input_ids"] == before.tokenizer("the digit")["input_ids"]
    assert not module.training


def test_export_keeps_how_pictures_are_prepared(tmp_path: Path) -> None:
    """An encoder from a folder takes its preprocessor file along."""
    from transformers import AutoModel

    from zoo import export
    from zoo.tiny_models import tiny_tower_config

    folder = tmp_path / "vit"
    AutoModel.from_config(tiny_tower_config("tiny-vit")).save_pretrained(folder)
    settings = {"size": 28, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    towers = {"text": zoo.Tower("tiny-bert"), "image": zoo.Tower(str(folder), adapt_blocks=1)}
    module = zoo.M3JEPA(**towers, hidden=32, num_experts=4, top_k=2)
    module.configure_model()
    export.save(module.eval(), tmp_path / "out")
    loaded = zoo.load(tmp_path / "out")
    for ours, theirs in zip(vectors(loaded), vectors(module), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)

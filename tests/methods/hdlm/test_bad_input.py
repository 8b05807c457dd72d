"""Bad data and settings of HdLM: one line that names the place, status 2, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from running import tiny

Refused = Callable[..., str]
HDLM = (*tiny("hdlm"), "--model.layers", "[2]", "--model.max_length", "512")
GOOD = ("text,level_1,level_2", "Deaf.,med,ear", "Blind.,med,eye", "Heir.,law,will")


@pytest.fixture
def refused(refused: Refused) -> Refused:
    """Run HdLM with something that must fail; return its line without `error: `."""
    return partial(refused, given=HDLM)


def texts(tmp_path: Path, *lines: str, **files: tuple[str, ...]) -> list[str]:
    """Write a folder whose train split has more lines, other splits on request."""
    for name, rows in {"train": (*GOOD, *lines), "val": GOOD, **files}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return ["--data", "datamodules.LabelPaths", "--data.path", str(tmp_path)]


def test_unknown_label(tmp_path: Path, refused: Refused) -> None:
    """A class of validation that no training text has."""
    said = refused(*texts(tmp_path, val=(*GOOD, "Deaf too.,med,earr")))
    assert said == (
        f"{tmp_path}/val.csv:5: unknown label 'earr' in med; did you mean 'ear'? (one of: ear, eye)"
    )


def test_unknown_intent(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "domains.json").write_text(json.dumps({"bank": ["pay_bill", "balance"]}))
    splits = {"train": [["Pay.", "pay_bill"]], "val": [["Left?", "balanse"]]}
    (tmp_path / "data_full.json").write_text(json.dumps(splits))
    said = refused("--data.path", str(tmp_path))
    assert said.startswith(f"{tmp_path}/data_full.json: val[0]: unknown intent 'balanse'")
    assert "'balance'" in said


def test_child_under_two_parents(tmp_path: Path, refused: Refused) -> None:
    said = refused(*texts(tmp_path, "Sued.,law,ear"))
    assert said == (
        f"{tmp_path}/train.csv:5: 'ear' stands under law, but under med at {tmp_path}/train.csv:2; "
        "set allow_shared_names to true if both are meant"
    )


def test_levels_of_unequal_depth(tmp_path: Path, refused: Refused) -> None:
    said = refused(*texts(tmp_path, "Sick.,med,"))
    assert said == (
        f"{tmp_path}/train.csv:5: 1 levels, but 2 at {tmp_path}/train.csv:2; "
        "every text needs all levels"
    )


def test_more_levels_than_the_model_has(refused: Refused) -> None:
    said = refused("--data", "datamodules.DBpedia")
    assert said.endswith("3 levels, but the model has 2; set model.layers to 2 of them")


def test_question_without_rationale(refused: Refused) -> None:
    said = refused("--data", "datamodules.CommonsenseQA")
    assert said.endswith(
        "no rationale to decode before the answer; set model.layers to [] to answer at once"
    )


def test_dialogue_without_strategy(refused: Refused) -> None:
    said = refused("--data", "datamodules.EmpatheticDialogues")
    assert said.endswith("turn 1: no strategy; model.guide says what must be there")


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (("--model.layers", "[5]"), "model.layers: [5] do not ascend within 1..4, the depth of"),
        (("--model.layers", "[0]"), "model.layers: [0] do not ascend within 1..4"),
        (("--model.layers", "[3, 2]"), "model.layers: [3, 2] do not ascend within 1..4"),
        (("--model.weights", "[1, 2, 3]"), "model.weights: 3 for 2 levels"),
        (("--model.max_length", "40"), "does not fit into the window max_length=40"),
        (("--model.guide", "[mood]"), "mood"),
    ],
)
def test_settings(args: tuple[str, ...], wanted: str, refused: Refused) -> None:
    assert wanted in refused(*args)

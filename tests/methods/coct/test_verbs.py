"""CoCT through the command line: the tables of its concepts, a teacher's replies and its pupil."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from methods.coct.coct_answers import answering
from running import main, scalars, tiny

from datamodules.files import SAMPLES


def test_coct_writes_its_transition_tables(tmp_path: Path) -> None:
    main("test", *tiny("coct"), "--data.max_test", "1", "--trainer.default_root_dir", str(tmp_path))
    rows = (tmp_path / "transitions_strategy.csv").read_text().splitlines()
    assert rows[0].startswith(",Question,Restatement or Paraphrasing,Reflection of feelings")
    assert len(rows) == 9


def three_splits(folder: Path) -> Path:
    """Write a folder in ESConv's hub form: one dialogue in each split, another one in each."""
    lines = (SAMPLES / "esconv_valid.txt").read_text().splitlines()
    for name, line in zip(("train", "valid", "test"), lines, strict=False):
        (folder / f"{name}.txt").write_text(line + "\n")
    return folder


def predicted(folder: Path, *args: str) -> list[dict[str, Any]]:
    """Return what `predict` writes."""
    main("predict", *tiny("coct"), *args, "--trainer.default_root_dir", str(folder))
    return [json.loads(row) for row in (folder / "predictions.jsonl").read_text().splitlines()]


def test_a_pupil_learns_what_its_teacher_predicts(
    tmp_path: Path, monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """The commands of `configs/coct_sft.yaml`, on data whose splits have no id in common."""
    data = ("--data.path", str(three_splits(tmp_path)))
    answering(monkeypatch, *["<Question> Why?"] * 99)
    rows = predicted(tmp_path / "teacher", *data, "--data.predict_split", "train")
    assert {row["id"].partition(":")[0] for row in rows} == {"train.txt"}
    tagged = ("--model.tagged", str(tmp_path / "teacher" / "predictions.jsonl"))
    pupil = (*tiny("coct_sft"), *data, *tagged, "--trainer.max_steps", "1")
    options = ("--trainer.log_every_n_steps", "1", "--trainer.val_check_interval", "1")
    main("fit", *pupil, *options, "--trainer.default_root_dir", str(tmp_path / "pupil"))
    assert scalars(tmp_path / "pupil")["train/speak_loss"] > 0
    others = predicted(tmp_path / "test", *data)
    assert {row["id"].partition(":")[0] for row in others} == {"test.txt"}
    capfd.readouterr()
    wrong = ("--model.tagged", str(tmp_path / "test" / "predictions.jsonl"))
    with pytest.raises(SystemExit):
        main("fit", *pupil, *wrong, "--trainer.default_root_dir", str(tmp_path / "wrong"))
    said = capfd.readouterr().err
    assert "model.tagged: none of the " in said
    assert "its first is 'test.txt:1, turn " in said
    assert "the data's 'train.txt:1, turn " in said

"""Studies that are refused: mixed settings, bad values, measures that no fit logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from running import last, refusal, tiny
from small_study import LR, SHORT, SIZE, Fits, settings, written
from torch.utils.tensorboard import SummaryWriter

from zoo.cli.study import Study
from zoo.cli.study_cells import _measured, cell_name
from zoo.errors import InputError
from zoo.study import StudyCell, StudyResults


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"fixed": {**SHORT, "trainer.max_steps": 9}}, "fixed.trainer.max_steps 8, now it is 9"),
        ({"fixed": {**SHORT, "trainer.devices": 1}}, "fixed.trainer.devices not set, now it is 1"),
        ({"vary": {LR: [1e-3], SIZE: [2, 4]}}, "vary.model.optimizer.lr"),
        ({"measure": {"answers": "val/x"}}, 'measure.answers "val/speak_loss", now it is "val/x"'),
        ({"fit": list(tiny("sft_thought")[1::2])}, "learn_thought false, now it is true"),
    ],
)
def test_changed_settings_are_refused_by_name(
    tmp_path: Path, fits: Fits, changed: dict[str, Any], name: str
) -> None:
    """Also what a config file of the fits says; nothing is run."""
    Study(**settings(tmp_path)).run()
    with pytest.raises(InputError) as refused:
        Study(**settings(tmp_path, **changed)).run()
    assert name in str(refused.value)
    assert str(tmp_path / "small") in str(refused.value)
    assert len(fits.run) == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vary": {}}, "vary: empty"),
        ({"vary": {LR: []}}, f"vary.{LR}: a list of at least one value"),
        ({"fixed": {LR: 1}}, f"fixed.{LR}: is varied too"),
        ({"extra": [{LR: 1}]}, f"extra.0: needs a value for each of {LR}, {SIZE}"),
        ({"minimise": {"answer": 1.0}}, "minimise.answer: no such measure; did you mean 'answers'"),
        ({"trials": 3}, "sampler and trials belong together"),
        ({"parallel": 0}, "parallel: 0 is not above 0"),
        ({"fit": ["sftt"]}, "no such config file; did you mean 'sft'"),
        ({"folde": "x"}, "no such key 'folde'; did you mean 'folder'"),
        ({"parallel": "two"}, "parallel: 'two' does not fit"),
    ],
)
def test_bad_studies_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    changed: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, **changed)
    given = ("--config", path)
    assert message in refusal(capfd, tmp_path, verb="study", given=given)


def test_a_measure_that_no_fit_logs_is_named(tmp_path: Path, fits: Fits) -> None:
    study = Study(**settings(tmp_path, measure={"answers": "val/spek_loss"}))
    with pytest.raises(InputError, match=r"measure.answers: .* did you mean 'val/speak_loss'"):
        study.run()


def test_a_cell_that_is_not_validated_at_its_end_is_refused(tmp_path: Path, fits: Fits) -> None:
    """The fit is 9 steps long and validated at 4 and 8."""
    study = Study(**settings(tmp_path, fixed={**SHORT, "trainer.max_steps": 9}))
    with pytest.raises(InputError, match=r"step 8 of 9; choose a trainer.val_check_interval"):
        study.run()


@pytest.mark.parametrize("name", ["max_epochs", "max_time", "callbacks"])
def test_where_epochs_end_a_fit_its_checkpoint_says_when(tmp_path: Path, name: str) -> None:
    trainer = {"max_steps": 50, "max_epochs": -1, "max_time": None, "callbacks": None}
    text = yaml.safe_dump({"trainer": trainer | {name: 2}})
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"global_step": 6, "state_dict": {"w": torch.zeros(3)}}, last(tmp_path))
    with SummaryWriter(str(tmp_path)) as board:
        board.add_scalar("val/loss", 2.0, 5)
    assert _measured("fit", tmp_path, {}, {"loss": "val/loss"}).measures == {"loss": 2.0}
    torch.save({"global_step": 7, "state_dict": {"w": torch.zeros(3)}}, last(tmp_path))
    with pytest.raises(InputError, match="its last validation is at step 6 of 7"):
        _measured("fit", tmp_path, {}, {"loss": "val/loss"})


def test_names_of_cells_differ() -> None:
    assert cell_name({"data.ratio": 0.5, LR: 1e-3}) == "ratio=0.5,lr=0.001"
    assert cell_name({"a.lr": 1, "b.lr": 2}) == "a.lr=1,b.lr=2"
    long = [cell_name({"k": "a/b" * 50 + end}) for end in ("1", "2")]
    assert len(set(long)) == 2
    assert all(len(name) < 120 and "/" not in name for name in long)


def test_results_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(InputError, match="no such file"):
        StudyResults.load(path)
    path.write_text(json.dumps({"cells": 3}))
    with pytest.raises(InputError, match="no results of a study"):
        StudyResults.load(path)
    found = StudyResults((StudyCell({"k": 1}, {"m": 2.0}, {"m": [(1, 2.0)]}),), {"m": 3.0})
    found.save(path)
    assert StudyResults.load(path).cells[0].measures == {"m": 2.0}

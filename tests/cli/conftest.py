"""Fits of a study that only log."""

from __future__ import annotations

import pytest
from small_study import Fits

from zoo.cli import study_cells


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    made = Fits()
    monkeypatch.setattr(study_cells, "_run", made)
    monkeypatch.setattr("zoo.cli.study.HEARTBEAT", 1)
    monkeypatch.setattr("zoo.cli.study_queue.HEARTBEAT", 1)
    return made

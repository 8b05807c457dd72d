import pytest

from benchmarks.harness import Setting
from benchmarks.result import agree
from benchmarks.sova import dilemma_batch

TINY = Setting("cpu", quick=True)


@pytest.fixture
def tiny(monkeypatch, save_tiny):
    monkeypatch.setattr(dilemma_batch, "BACKBONE", save_tiny(3))
    monkeypatch.setattr(dilemma_batch, "WINDOW", 16384)
    monkeypatch.setattr(dilemma_batch, "ROWS", 2)
    monkeypatch.delenv("ZOO_DATA", raising=False)


def test_all_sides_choose_alike(tiny):
    mine, *others = (side(TINY, count=3) for side in dilemma_batch.SIDES.values())
    assert len(mine.checks["choices"]) == 3
    assert mine.checks["mean size of the odds"] > 0
    for theirs in others:
        agree(mine, theirs, dilemma_batch.TOLERANCES)
    assert mine.work["choices"] == [6.0]

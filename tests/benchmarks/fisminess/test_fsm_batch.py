import pytest

from benchmarks.fisminess import fsm_batch
from benchmarks.harness import Setting
from benchmarks.result import agree

TINY = Setting("cpu", quick=True)


@pytest.fixture
def tiny(monkeypatch, save_tiny):
    monkeypatch.setattr(fsm_batch, "BACKBONE", save_tiny(3))
    monkeypatch.setattr(fsm_batch, "WINDOW", 8192)
    monkeypatch.setattr(fsm_batch, "REPLY_TOKENS", 3)
    monkeypatch.setattr(fsm_batch, "DEPTHS", (0, 1))


def test_all_sides_walk_alike(tiny):
    mine, *others = (side(TINY, count=2) for side in fsm_batch.SIDES.values())
    assert len(mine.checks["answers"]) == 4
    assert len({tuple(answer) for answer in mine.checks["answers"]}) > 1
    for theirs in others:
        agree(mine, theirs, {"answers": 0.0})
    assert mine.work["calls"] == [12.0]

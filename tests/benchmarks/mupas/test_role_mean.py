import pytest

from benchmarks.harness import Setting
from benchmarks.mupas import role_mean

TINY = Setting("cpu", quick=True)


@pytest.fixture(autouse=True)
def tiny(monkeypatch, save_tiny):
    monkeypatch.setattr(role_mean, "BACKBONE", save_tiny())


def test_loss_and_gradients_equal_those_of_masked_passes():
    checks = role_mean.exact(TINY).checks
    assert checks["loss"] < role_mean.LOSS_TOLERANCE
    assert checks["gradients"] < role_mean.TOLERANCE["cpu"]


def test_both_sides_time_the_same_scenes():
    mine, theirs = (role_mean.SIDES[side](TINY, steps=1) for side in ("ours", "masked"))
    assert mine.checks["data"] == theirs.checks["data"]
    assert mine.checks["loss"] == pytest.approx(theirs.checks["loss"], rel=1e-5)
    assert theirs.work["tokens"][0] == 4 * mine.work["tokens"][0]

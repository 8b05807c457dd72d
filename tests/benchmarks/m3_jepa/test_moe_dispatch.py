import pytest
import torch

from benchmarks.harness import BenchmarkError, Sample, Setting
from benchmarks.m3_jepa import moe_dispatch

TINY = Setting("cpu", quick=True)


def test_output_and_gradients_equal_those_of_all_experts():
    checks = moe_dispatch.exact(TINY, width=32).checks
    names = {"output", "rows", "weights", "up_NHH", "up_bias", "down_NHH", "down_bias"}
    assert set(checks) == names
    assert max(checks.values()) < moe_dispatch.TOLERANCE


def test_a_wrong_dispatch_is_seen(monkeypatch):
    def renormalised(experts, x, chosen, weights):
        return experts(x, chosen, weights / weights.sum(1, keepdim=True))

    monkeypatch.setattr(moe_dispatch, "sparse", renormalised)
    checks = moe_dispatch.exact(TINY, width=32).checks
    assert min(checks.values()) > 100 * moe_dispatch.TOLERANCE


def test_a_difference_stops_the_run(monkeypatch):
    monkeypatch.setattr(
        moe_dispatch, "measure", lambda *args, **options: Sample([], checks={"up_NHH": 2e-5})
    )
    with pytest.raises(BenchmarkError, match="up_NHH"):
        moe_dispatch.run(TINY)


@pytest.mark.parametrize("backward", [True, False])
def test_both_sides_see_the_same_rows(backward):
    options = {"width": 32, "tokens": 8, "steps": 2, "backward": backward}
    mine, other = (moe_dispatch.SIDES[side](TINY, **options) for side in ("ours", "dense"))
    assert mine.checks["data"] == other.checks["data"]
    for key in ("loss", "gradient"):
        assert mine.checks[key] == pytest.approx(other.checks[key], rel=1e-4)
    assert (mine.checks["gradient"] > 0) is backward
    assert len(mine.seconds) == len(other.seconds) == 2
    assert sum(mine.notes["rows_of_each_expert"]) == 8 * 2 * 4


def test_rows_are_routed_to_four_of_twelve():
    (rows,) = moe_dispatch.draw(TINY, 32, 8, 1)
    assert rows.chosen.shape == rows.weights.shape == (16, 4)
    assert int(rows.chosen.max()) < 12
    assert torch.all(rows.weights.sum(1) < 1)

import dataclasses

import pytest

from benchmarks.harness import BenchmarkError, Sample, Setting
from benchmarks.methanol import dual_head
from benchmarks.roofline import Rates, Shape

TINY = Setting("cpu", quick=True)


@pytest.fixture(autouse=True)
def tiny(monkeypatch, save_tiny):
    monkeypatch.setattr(dual_head, "BACKBONE", save_tiny())


def test_losses_and_gradients_equal_the_naive_ones():
    sample = dual_head.exact(TINY, window=700)
    assert set(sample.checks) == {"think_loss", "speak_loss", "gradients"}
    assert max(sample.checks.values()) < 1e-4


def test_three_sides_see_the_same_tokens_and_labels():
    names = ("ours", "one_head", "naive")
    sides = [dual_head.SIDES[name](TINY, steps=1, window=700) for name in names]
    assert len({sample.checks["data"] for sample in sides}) == 1
    assert len({sample.work["supervised"][0] for sample in sides}) == 1
    assert [len(sample.seconds) for sample in sides] == [1, 1, 1]
    assert sides[0].checks["think_loss"] == pytest.approx(sides[2].checks["think_loss"], rel=1e-2)


def test_a_difference_stops_the_run(monkeypatch):
    monkeypatch.setattr(
        dual_head, "measure", lambda *args, **options: Sample([], checks={"gradients": 2e-4})
    )
    with pytest.raises(BenchmarkError, match="gradients"):
        dual_head.run(TINY)


def test_bound_counts_heads_over_all_rows():
    shape = Shape(block=100, head=1000, vocabulary=10, blocks=2, bytes=4)
    ours = Sample(
        [], work={"tokens": [8.0], "supervised": [4.0]}, notes={"shape": dataclasses.asdict(shape)}
    )
    naive = Sample([], notes={"rows": [10]})
    found = dual_head.bound(ours, naive, Rates(flops=1.0, bytes=float("inf")))
    assert found["flop_ratio"] == pytest.approx((200 + 2000) * 10 / (200 * 8 + 1000 * 4))
    assert found["bound"] == found["flop_ratio"]

import pytest

from benchmarks.alpo import preference_tree
from benchmarks.harness import Setting

TINY = Setting("cpu", quick=True)


@pytest.fixture(autouse=True)
def tiny(monkeypatch, save_tiny):
    monkeypatch.setattr(preference_tree, "BACKBONE", save_tiny())


def test_loss_and_gradients_are_equal():
    sample = preference_tree.exact(TINY)
    assert max(sample.checks.values()) < preference_tree.TOLERANCE


def test_another_prefix_is_seen(monkeypatch):
    """The prefix is carried on by the third candidate on both sides."""
    monkeypatch.setattr(preference_tree.ThirdCarries, "randrange", lambda *_: 1)
    sample = preference_tree.exact(TINY)
    assert max(sample.checks.values()) > preference_tree.TOLERANCE


def test_both_sides_see_the_same_blocks():
    ours, pairs = (preference_tree.SIDES[side](TINY, steps=1) for side in ("ours", "pairs"))
    assert ours.checks["data"] == pairs.checks["data"]
    assert ours.checks["loss"] == pytest.approx(pairs.checks["loss"], rel=1e-3)
    prompt, segments, length = preference_tree.QUICK
    assert ours.work["tokens"] == [prompt + (3 * segments - 1) * length]
    separate = sum(2 * (prompt + (i + 1) * length) for i in range(segments))
    assert pairs.work["tokens"] == [separate]
    bound = preference_tree.flops(pairs, TINY) / preference_tree.flops(ours, TINY)
    assert 1 < bound < separate / ours.work["tokens"][0]

"""The loss without a model: all sides compute the same, and are timed on the same tokens."""

from __future__ import annotations

import pytest

from benchmarks import vocabulary_loss
from benchmarks.harness import Setting

TINY = Setting("cpu", quick=True)


def test_losses_and_gradients_equal_those_of_full_logits() -> None:
    checks = vocabulary_loss.exact(TINY).checks
    assert set(checks) == {*vocabulary_loss.sides(), "ours in chunks"} - {"full"}
    assert max(checks.values()) < vocabulary_loss.TOLERANCE


def test_sides_time_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary_loss, "VOCABULARY", 700)
    ours, full = (vocabulary_loss.SIDES[side](TINY, tokens=64) for side in ("ours", "full"))
    assert ours.checks["loss"] == pytest.approx(full.checks["loss"], rel=1e-2)
    assert ours.work == full.work == {"tokens": [64.0] * vocabulary_loss.STEPS}
    assert len(ours.seconds) == vocabulary_loss.STEPS

"""DreamCUB's small functions on numbers worked out by hand, and the heads at their start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.dreamcub.dreamcub_reference import module_of

from zoo.methods.dreamcub.behaviour import normalized
from zoo.methods.dreamcub.belief import factors_of
from zoo.methods.dreamcub.learning import Learning
from zoo.methods.dreamcub.metrics import confusion


def test_one_turn_alone_keeps_its_advantage() -> None:
    """Of a single number the deviation is 0: there is nothing to divide by."""
    values = torch.tensor([3.0, 5.0])
    assert normalized(values[:1]).tolist() == [3.0]
    assert normalized(values, torch.tensor([False, True])).tolist() == [3.0, 5.0]


def test_confusion_counts_gold_by_row_and_found_by_column() -> None:
    (factor,) = factors_of(["sentiment"], "daily_dialog")
    low, high = factor.labels.index("negative"), factor.labels.index("positive")
    counts = confusion(factor, [("negative", "positive")] * 2 + [("positive", "positive")])
    assert (counts[low, high], counts[high, high], counts.sum()) == (2, 1, 3)


def test_reward_and_value_are_one_number_and_start_small(make: Any) -> None:
    """Weights are drawn with the deviation 1 / (D + 1)."""
    module = module_of(make, moved=0.0)
    width = module.lm.config.hidden_size
    for head in (module.reward_head, module.value_head):
        assert head.weight.shape == (1, width)
        assert float(head.weight.detach().std()) == pytest.approx(1 / (width + 1), rel=0.4)


@pytest.mark.parametrize(
    ("kind", "env", "graded"),
    [("replay", None, False), ("replay", "one", True), ("scripted", None, True)],
)
def test_turns_are_graded_unless_the_user_is_the_data(kind: str, env: Any, graded: bool) -> None:
    """A user that replays the data grades nothing; with an environment of its own it does."""
    turn = SimpleNamespace(decision=SimpleNamespace(target="So."), reward=0.5)
    learner: Any = SimpleNamespace(
        module=SimpleNamespace(user=SimpleNamespace(kind=kind)),
        env=env,
        believed=lambda decisions: ["state"] * len(decisions),
    )
    wanted = [("state", "So.", 0.5)] if graded else []
    assert Learning.graded(learner, [turn]) == wanted
    assert Learning.graded(learner, []) == []

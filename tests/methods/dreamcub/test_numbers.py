"""DreamCUB's small functions on numbers worked out by hand, and the heads at their start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.dreamcub.dreamcub_reference import module_of

from zoo.errors import InputError
from zoo.methods.dreamcub.behaviour import Buffer, normalized
from zoo.methods.dreamcub.belief import Factor, factors_of
from zoo.methods.dreamcub.learning import Learning
from zoo.methods.dreamcub.metrics import BeliefScores, confusion
from zoo.methods.dreamcub.world_losses import WorldWeights


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


def test_each_term_has_the_weight_that_is_set() -> None:
    """By name of the term, as the equation of L has them; those of the policy count one."""
    assert WorldWeights(2.0, 3.0, 4.0, 5.0, 6.0).of_terms() == {
        **dict.fromkeys(("speak", "policy", "value", "dpo"), 1.0),
        **{"belief": 2.0, "observation": 3.0, "met": 3.0, "reward": 4.0, "graded": 4.0},
        **{"kl": 5.0, "prior": 6.0},
    }


def test_scores_of_beliefs_by_hand() -> None:
    """What is not annotated counts nowhere; the balanced accuracy is a mean over labels."""
    scores = BeliefScores(factors_of(["sentiment", "intention"], "daily_dialog"))
    gold = ["negative"] * 3 + ["positive", ""]
    found = ["negative"] * 4 + ["positive"]
    scores.update([(label, "") for label in gold], [(label, "inform") for label in found])
    f1 = 3 / 4 * (2 * 3 / (2 * 3 + 1)) + 1 / 4 * 0  # of `negative` and of `positive`, by support
    assert scores.compute() == {
        "sentiment_belief_accuracy": pytest.approx(3 / 4),
        "sentiment_belief_balanced": pytest.approx(1 / 2),
        "sentiment_belief_f1": pytest.approx(f1),
    }


def test_a_factor_has_a_letter_for_each_label() -> None:
    for count in (1, 53):
        with pytest.raises(InputError, match=f"mood has {count} labels, expected 2 to 52"):
            Factor("mood", tuple(map(str, range(count))))
    assert Factor("mood", tuple(map(str, range(52)))).options().endswith("z 51")


def test_parts_of_a_buffer_keep_their_own_tokens() -> None:
    """Any rows in any order; a checkpoint gives the same buffer back."""
    buffer = Buffer(
        [[1], [2, 2], [3]],
        [[7], [8, 8], [9, 9, 9]],
        torch.arange(6.0),
        torch.tensor([0.1, 0.2, 0.3]),
        torch.tensor([1.0, 2.0, 3.0]),
        torch.tensor([4.0, 5.0, 6.0]),
    )
    part = buffer.part([2, 0])
    assert (len(part), part.prompts, part.replies) == (2, [[3], [1]], [[9, 9, 9], [7]])
    assert part.old_logp.tolist() == [3.0, 4.0, 5.0, 0.0]
    assert part.returns.tolist() == [3.0, 1.0]
    assert part.advantages.tolist() == [6.0, 4.0]
    again = Buffer.of(buffer.state(), torch.device("cpu"))
    assert again.state().keys() == buffer.state().keys()
    assert torch.equal(again.old_values, buffer.old_values)

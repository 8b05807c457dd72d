"""Decoding that can only end in one of a row's choices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from zoo.decoding.constrained import end_of_text, keep_only, one_stop, only, only_ending, pick
from zoo.records import LabelPath, Taxonomy

STOP = 9


def test_choices_follow_their_tokens_and_then_stop() -> None:
    allowed = only([[[1, 0], [1, 2], [3]]], STOP)
    assert allowed(0, []) == [1, 3]
    assert allowed(0, [1]) == [0, 2]
    assert allowed(0, [3]) == [STOP]
    assert allowed(0, [1, 0]) == [STOP]


def test_a_choice_that_begins_another_may_stop_or_go_on() -> None:
    allowed = only([[[1], [1, 0], [1, 1]]], STOP)
    assert allowed(0, []) == [1]
    assert allowed(0, [1]) == [0, 1, STOP]


def test_rows_have_choices_of_their_own() -> None:
    allowed = only([[[1]], [[2], [3]], []], STOP)
    assert [allowed(i, []) for i in range(3)] == [[1], [2, 3], [STOP]]


def test_an_ending_is_known_where_one_choice_is_left() -> None:
    allowed = only([[[1, 0, 5], [1, 2], [3]], None], STOP)
    assert only_ending(allowed, 0, [], STOP, 4) is None
    assert only_ending(allowed, 0, [1], STOP, 4) is None
    assert only_ending(allowed, 0, [1, 0], STOP, 4) == [5]
    assert only_ending(allowed, 0, [3], STOP, 4) == []
    assert only_ending(allowed, 1, [1, 0], STOP, 4) is None, "anything may follow"
    assert only_ending(allowed, 0, [1, 0], STOP, 2) is None, "the limit cuts it"


def test_a_row_that_has_left_its_choices_may_only_stop() -> None:
    assert only([[[1, 2]]], STOP)(0, [5]) == [STOP]


def test_keep_only_shuts_out_the_other_tokens() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    kept = keep_only(logits, [[1, 2], [0]])
    assert kept.argmax(-1).tolist() == [1, 0]
    assert kept.isfinite().tolist() == [[False, True, True], [True, False, False]]
    assert logits[0, 0] == 3, "the logits are not changed in place"


@pytest.mark.parametrize("separate", [False, True])
def test_a_constrained_model_always_names_classes(make: Any, separate: bool) -> None:
    """Random weights: every path exists, also where a list has more than ten names."""
    children = {(): tuple(f"d{i}" for i in range(12))}
    children |= {(name,): tuple(f"{name}{i}" for i in range(2 + i)) for i, name in
                 enumerate(children[()])}  # fmt: skip
    taxonomy = Taxonomy(children)
    labels = [("d0", "d01"), ("d11", "d1112"), ("d3", "d30")]
    records = [LabelPath(f"text {i}", path, taxonomy, id=str(i)) for i, path in enumerate(labels)]
    for constrain in (True, False):
        module = make(
            "HdLM", "tiny-llama", spread=12.0, constrain=constrain, separate=separate,
            max_new_tokens=6,
        )  # fmt: skip
        plans = [plan for record in records for plan in module.encoder().plans(record)]
        found = module.generate(plans)
        exist = [path[1] in taxonomy.below((path[0],)) for path in found]
        assert all(exist) if constrain else not any(exist)


def test_a_sample_is_one_of_the_likeliest() -> None:
    """With top_p 0.6 the two that sum up to 0.8 remain, in their proportions; at 1 all do."""
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().repeat(4000, 1)
    shares = pick(logits, 1.0, 0.6).bincount(minlength=4) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.03, rtol=0)
    assert (pick(logits, 1.0).bincount(minlength=4) > 0).all()
    cold = pick(logits, 0.25, 0.6)  # chances to the power of 4: the first one alone has 0.88
    assert set(cold.tolist()) == {0}


def test_tokens_that_end_a_text() -> None:
    """One, several or none, by the model's own settings; each is read as the stop token."""
    for given, wanted in ((5, [5]), ([5, 7], [5, 7]), (None, []), (0, [0])):
        model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=given))
        assert end_of_text(model) == wanted
    tokens = torch.tensor([5, 6, 7, STOP])
    assert one_stop(tokens, [5, 7], STOP).tolist() == [STOP, 6, STOP, STOP]
    assert one_stop(tokens, [], STOP).tolist() == tokens.tolist()

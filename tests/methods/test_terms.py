"""What every loss term is divided by is what it sums over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from dialogues import TALK

from zoo.encoding import sum_head_weights
from zoo.records import Corpus, Document, Ranking, Triple

POOL = Corpus({name: Document(name, f"skill {name}") for name in "abc"})
RANKING = Ranking("hello", POOL, (("b", 1),), id="r")
TRIPLE = Triple("Where?", "Ann saw it there.", "In the box.", id="t")


@pytest.mark.parametrize(
    ("method", "record", "options", "counted"),
    [
        ("SFT", TRIPLE, {"learn_thought": True}, None),
        ("LaHoRe", RANKING, {}, {"answer": 3 * 2}),  # the option and end-of-turn of three pairs
        ("LaHoRe", RANKING, {"objective": "dpo"}, {"preference": 3}),
        ("Rabtriever", RANKING, {}, {"kl": 3}),
        ("Rabtriever", RANKING, {"positions": "last"}, {"mse": 3, "kl": 3}),
        ("StraQ", TALK, {}, {"td": 2 * 2}),  # the logged strategy and another one, twice
        ("StraQ", TALK, {"objective": "cross_entropy"}, {"cross_entropy": 2}),
        ("FiSMiness", TALK, {}, {"emotion": 2, "strategy": 2, "reply": 2}),
        ("FiSMiness", TALK, {"mode": "single_pass"}, {"emotion": 2, "strategy": 2, "reply": 2}),
        ("CoCT", TALK, {"learn": True}, None),
        ("ESCBaseline", TALK, {"kind": "sft"}, None),
    ],
)
def test_a_term_of_a_whole_step_is_a_mean(
    make: Callable[..., Any], method: str, record: Any, options: Any, counted: Any
) -> None:
    """Of one batch that is the whole step; so loss and logged mean are the same number."""
    module = make(method, "tiny-llama", max_length=8192, **options)
    encoder = module.encoder()
    examples = encoder(record)
    examples = examples if isinstance(examples, list) else [examples]
    batch = encoder.collate(examples, sum_head_weights(examples))
    if options.get("objective") == "dpo":
        module.reference.places = {key: i for i, key in enumerate(batch.keys)}
        module.reference.values = torch.zeros(len(batch.keys), 2)
        terms = module.preference(batch)
    else:
        terms = module.losses(batch)
    for name, term in terms.items():
        assert term.weight.item() == pytest.approx(term.normalizer), name
        assert term.mean.item() == pytest.approx(term.loss.item()), name
        if counted and name in counted:
            assert term.weight.item() == pytest.approx(counted[name]), name

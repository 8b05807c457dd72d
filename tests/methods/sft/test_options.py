"""What SFT learns and decodes by its settings."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.encoding import IGNORE
from zoo.methods.sft import module as sft
from zoo.records import Triple

TRIPLE = Triple("Where?", "Ann saw it there.", "In the box.", id="t")


@pytest.mark.parametrize("thought", [False, True])
def test_each_part_has_its_limit_and_the_temperature(
    make: Any, monkeypatch: Any, thought: bool
) -> None:
    """A thought is decoded if thoughts are learned; both parts at the one depth there is."""
    asked: list[Any] = []
    monkeypatch.setattr(sft, "think_and_answer", lambda *given, **named: asked.append(named))
    limits = {"max_thought_tokens": 3, "max_answer_tokens": 5}
    module = make("SFT", "tiny-llama", learn_thought=thought, **limits)
    module.generate([TRIPLE], temperature=0.7)
    module.generate([TRIPLE])
    for given, temperature in zip(asked, (0.7, 0.0), strict=True):
        speak, think = given["speak"], given["think"]
        assert (speak.level, speak.max_new_tokens, speak.temperature) == (0, 5, temperature)
        assert (think is not None) == thought
        if thought:
            assert (think.level, think.max_new_tokens, think.temperature) == (0, 3, temperature)


@pytest.mark.parametrize("thought", [False, True])
def test_the_one_head_learns_what_is_asked_for(make: Any, thought: bool) -> None:
    """The answer alone, or the thought too; all of it counts in the one term."""
    module = make("SFT", "tiny-llama", learn_thought=thought)
    encoder = module.encoder()
    example = encoder(TRIPLE)
    example = example[0] if isinstance(example, list) else example
    learned = module.tokenizer.decode([t for t in example.labels if t != IGNORE])
    assert "In the box." in learned
    assert (TRIPLE.thought in learned) == thought
    assert "Where?" not in learned
    batch = encoder.collate([example], {})
    terms = module.losses(batch)
    assert list(terms) == ["speak"]
    assert terms["speak"].weight == sum(label != IGNORE for label in example.labels)


@pytest.mark.parametrize("free", [True, False])
def test_sequences_are_padded_on_demand(make: Any, free: bool) -> None:
    module = make("SFT", "tiny-llama", padding_free=free)
    examples = [module.encoder()(Triple(text, "", text)) for text in ("a", "a longer one")]
    flat = [e for one in examples for e in (one if isinstance(one, list) else [one])]
    batch = module.encoder().collate(flat, {})
    assert (batch.attention_mask is None) == free
    assert len(batch.input_ids) == (1 if free else 2)

"""What prompts of supporters say of a dialogue, and what they must not say."""

from __future__ import annotations

from dataclasses import fields, replace
from inspect import signature
from typing import Any

import pytest
from dialogues import TALK

import zoo
from zoo.decoding.shared_context import SharedContext
from zoo.methods.fisminess.encoder import WalkEncoder
from zoo.support.decisions import decisions
from zoo.support.encoder import TalkEncoder

KNOWN = replace(TALK, problem="job crisis", situation="They let me go.")
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("CoCT", {"learn": True}),
    *(("ESCBaseline", {"kind": kind}) for kind in ("direct", "fsm", "sft")),
    ("FiSMiness", {}),
    ("FiSMiness", {"mode": "single_pass"}),
]


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_the_annotated_emotion_is_in_no_prompt(
    make: Any, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    """Problem and situation are; the emotion is to be recognised, and moves nothing."""
    prefixes: list[str] = []
    opened = SharedContext.__init__

    def open_(self: Any, lm: Any, tokenizer: Any, texts: Any, **given: Any) -> None:
        prefixes.extend(texts)
        opened(self, lm, tokenizer, texts, **given)

    monkeypatch.setattr(SharedContext, "__init__", open_)
    module = make(name, "tiny-llama", max_length=8192, max_new_tokens=2, **options)
    other = replace(KNOWN, emotion="jealousy")
    replies = [module.respond(decisions(talk)[-1:])[0].reply for talk in (KNOWN, other)]
    assert replies[0] == replies[1]
    assert "Problem: job crisis\nSituation: They let me go.\n" in prefixes[0]
    assert prefixes == [prefixes[0]] * len(prefixes)
    made = module.encoder()
    if not isinstance(made, WalkEncoder):  # which learns the emotion
        ids = [[example.input_ids for example in made(talk)] for talk in (KNOWN, other)]
        assert ids[0] == ids[1]


@pytest.mark.parametrize("method", [zoo.CoCT, zoo.ESCBaseline])
def test_methods_that_are_compared_keep_the_same_part_of_a_conversation(method: type) -> None:
    """Window and reserve of both are those of their common encoder, if nobody sets them."""
    given = {name: option.default for name, option in signature(method).parameters.items()}
    common = {field.name: field.default for field in fields(TalkEncoder)}
    for name in ("max_length", "reserve"):
        assert given[name] == common[name]

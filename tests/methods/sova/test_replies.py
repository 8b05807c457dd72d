"""What SoVA reads of a conversation, and how its reply is shown."""

from __future__ import annotations

import dataclasses

import pytest
from methods.sova.graph_parts import GIVEN

from zoo.errors import InputError
from zoo.methods.sova import replies
from zoo.records import SUPPORTER, Dialogue, Turn


def test_a_conversation_is_what_was_said_before_the_reply() -> None:
    """A line a turn; a talk in which no supporter answers is refused."""
    record = Dialogue(
        (Turn("seeker", "I lost."), Turn(SUPPORTER, "Oh."), Turn("seeker", "Yes.")), id="t"
    )
    assert replies.situation(record) == "Seeker: I lost."
    assert replies.gold(record).text == "Oh."
    with pytest.raises(InputError, match="t: no supporter turn answers a seeker"):
        replies.gold(dataclasses.replace(record, turns=record.turns[:1]))
    answer = replies.ValueReply("So.", GIVEN[:1])
    assert answer.notes() == {"instructions": "(90) Rest.", "reply": "So."}
    assert answer.plain()["instructions"][0]["report_id"] == "r1"

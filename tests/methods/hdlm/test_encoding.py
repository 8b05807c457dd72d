"""HdLM's records as tokens: what each head learns, what is cut, the room of each level."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from methods.hdlm.hdlm_records import PAPER, QUESTION, THREE, TWO, encoder, rendered

from zoo.errors import InputError, TooLongError
from zoo.methods.hdlm.encoder import LevelEncoder, shorten
from zoo.methods.hdlm.prompts import listed
from zoo.prompts.chat_format import CHATML
from zoo.records import SEEKER, SUPPORTER, Dialogue, LabelPath, Taxonomy, Triple, Turn
from zoo.tiny_models import byte_tokenizer


def learned(found: LevelEncoder, example: Any, head: int) -> str:
    pairs = zip(example.labels, example.head_ids, strict=True)
    return found.tokenizer.decode([label for label, h in pairs if h == head])


@pytest.mark.parametrize("record", [PAPER, QUESTION, Triple("Who?", "Bob saw.", "Bob", id="t")])
def test_each_level_is_learned_by_its_head(record: Any) -> None:
    found = encoder()
    (example,) = found(record)
    (plan,) = found.plans(record)
    for head, text in enumerate(plan.gold):
        assert learned(found, example, head) == f"{text}<|im_end|>"
    assert example.record == plan


def test_what_is_learned_is_what_inference_feeds(dialogue: Dialogue) -> None:
    """Opening, and for each level its context and text, are the training sequence."""
    for found, record in (
        (encoder(), PAPER),
        (encoder(), QUESTION),
        (encoder(), dialogue),
        (encoder(3, guide=("emotion", "strategy")), dialogue),
    ):
        for example, plan in zip(found(record), found.plans(record), strict=True):
            ids = found.opening(plan)
            for level, text in enumerate(plan.gold):
                ids = ids + found.between(plan, plan.names[:level]) + found.ids(text + CHATML.end)
            assert ids == example.input_ids


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(
    ("record", "depth"),
    [
        (LabelPath("word " * 300, ("law", "eye"), TWO, id="p"), 2),
        (LabelPath("word " * 300, ("med", "toe"), TWO, id="p"), 2),
        (LabelPath("字" * 300, ("law", "tax"), TWO, id="p"), 2),
        (LabelPath("word " * 300, ("b", "e", "h"), THREE, id="p"), 3),
        (LabelPath("word " * 300, ("a", "c", "f"), THREE, id="p"), 3),
    ],
)
def test_long_texts_are_cut_equally_in_training_and_inference(
    record: LabelPath, depth: int, separate: bool
) -> None:
    """The text loses its end, the list after it stays, and every level has room."""
    found = encoder(depth, max_length=400, separate=separate)
    (plan,) = found.plans(record)
    opening = found.opening(plan)
    text = found.tokenizer.decode(opening)
    assert text.endswith(f"\n\nClasses:\n{listed(record.taxonomy.below(()))}<|im_end|>")
    assert record.text[:3] in text
    for example in found(record):
        assert example.input_ids[: len(opening)] == opening
        assert len(example) <= 400
        assert separate or len(example) > 340


@pytest.mark.parametrize("name", ["eye", "a class with a rather long name"])
def test_room_is_that_of_the_longest_path(name: str) -> None:
    """No path's levels take more than what inference leaves free, whichever the gold is."""
    many = Taxonomy({(): ("u", "v"), ("u",): (name,) * 12, ("v",): ("w",)})
    found = encoder()
    tails = []
    for labels in (("u", name), ("v", "w")):
        (plan,) = found.plans(LabelPath("t", labels, many, id="r"))
        tails.append(len(found(plan.record)[0]) - len(found.opening(plan)))
        assert found.room(plan) >= tails[-1]
    assert found.room(plan) <= max(tails) + 1  # 1: the number 11 has two digits


def test_two_taxonomies_have_rooms_of_their_own() -> None:
    found = encoder()
    rooms = []
    for count in (2, 40):
        taxonomy = Taxonomy({(): ("u",), ("u",): tuple(f"name {i}" for i in range(count))})
        (plan,) = found.plans(LabelPath("t", ("u", "name 0"), taxonomy, id="r"))
        rooms.append(found.room(plan))
    assert rooms[0] + 200 < rooms[1]


def test_a_long_dialogue_loses_its_oldest_turns() -> None:
    turns = [Turn(SEEKER, f"Said {i}. " + "x" * 60) for i in range(8)]
    record = Dialogue((*turns, Turn(SUPPORTER, "Oh.", strategy="Others")), id="d")
    found = encoder(max_length=800, max_new_tokens=20)
    (example,), (plan,) = found(record), found.plans(record)
    opening = found.opening(plan)
    text = found.tokenizer.decode(opening)
    assert example.input_ids[: len(opening)] == opening
    assert "Said 7." in text
    assert "Said 0." not in text
    assert plan.system in text
    assert len(opening) <= 800 - found.room(plan)


def test_a_long_reply_takes_room_from_the_oldest_turns() -> None:
    """In training the gold may be longer than what decoding leaves free."""
    turns = [Turn(SEEKER, f"Said {i}. " + "x" * 60) for i in range(8)]
    talks = {
        size: Dialogue((*turns, Turn(SUPPORTER, "o" * size, strategy="Others")), id="d")
        for size in (2, 300)
    }
    found = encoder(max_length=1000, max_new_tokens=20)
    short, long = (found(talk)[0] for talk in talks.values())
    assert len(long) <= 1000
    said = [found.tokenizer.decode(example.input_ids).count("Said") for example in (short, long)]
    assert said[0] > said[1] > 0
    assert learned(found, long, 1) == "o" * 300 + "<|im_end|>"


@pytest.mark.parametrize(
    "record",
    [
        replace(QUESTION, question="Story. " * 60 + "How many?"),
        Triple("Story. " * 60 + "Where does Ann look?", "She saw.", "box", id="q"),
        Dialogue((Turn(SEEKER, "long " * 100), Turn(SUPPORTER, "Oh.", strategy="Others")), id="q"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_what_is_asked_is_never_cut(record: Any) -> None:
    """The question stands at the end, where a cut would take it away."""
    found = encoder(max_length=420, max_new_tokens=20)
    with pytest.raises(TooLongError, match="^q.*: does not fit into the window max_length=420"):
        found(record)
    (plan,) = encoder(max_length=2048).plans(record)
    with pytest.raises(TooLongError):
        found.opening(plan.asking("Story. " * 60 + "Where?"))
    (text,) = rendered(encoder(max_length=2048, max_new_tokens=20), record)
    assert plan.turns[0][1] in text


def test_a_window_that_is_too_short_is_an_error() -> None:
    with pytest.raises(InputError, match="p: does not fit into the window max_length=60"):
        encoder(max_length=60)(PAPER)


def test_shorten_cuts_between_words_where_there_are_any() -> None:
    tokenizer = byte_tokenizer()
    assert shorten("one two three", tokenizer, 2) == "one two"
    assert shorten("字字字", tokenizer, 1) == "字字"
    assert shorten("one", tokenizer, 3) == ""

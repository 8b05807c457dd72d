"""Replies, prompts and states as text: what is read, what is heard, what fits the window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from methods.dreamcub.dreamcub_reference import dialogue, states_of

from zoo.errors import TooLongError
from zoo.methods.dreamcub.encoder import State, heard
from zoo.methods.dreamcub.world_model import of_seeker
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions
from zoo.support.labels import ACTS


@pytest.mark.parametrize(
    ("text", "strategy", "words"),
    [
        ("[Inform]  It is\n me. ", "inform", "It is me."),
        ("[shrug] It is me.", "", "[shrug] It is me."),
        ("[inform It is me.", "", "[inform It is me."),
        ("[inform]", "inform", "..."),
        (" \n", "", "..."),
        ("It is [inform] me.", "", "It is [inform] me."),
    ],
)
def test_a_reply_is_read_as_it_is_written(
    module: Any, text: str, strategy: str, words: str
) -> None:
    """Its strategy in brackets first, if it is a known one; without words it is three dots."""
    encoder = module.encoder()
    assert encoder.read_reply(text) == Turn(SUPPORTER, words, strategy=strategy)
    plain = replace(encoder, strategy_line=False)
    assert plain.read_reply(text) == Turn(SUPPORTER, " ".join(text.split()) or "...")
    turn = Turn(SUPPORTER, words, strategy=strategy)
    assert encoder.read_reply(encoder.reply_text(turn)) == turn
    assert plain.reply_text(turn) == words


def test_a_seeker_says_lines_until_somebody_has_a_turn() -> None:
    """What a model writes on with is not theirs."""
    assert of_seeker(" I am  lost.\nSupporter: Why?\nNo.") == "I am lost."
    assert (
        of_seeker("I am lost. \n\n It is  dark.\n Seeker: I am lost.") == "I am lost.\nIt is dark."
    )
    assert of_seeker("Supporters: a word\nof mine") == "Supporters: a word\nof mine"
    for nothing in ("", " \n ", "Supporter: Why?"):
        assert of_seeker(nothing) == "..."


def test_several_messages_in_a_row_are_read_as_in_the_data(module: Any) -> None:
    """What L_obs learns is a line each; heard again, every component reads what the data say."""
    first, second = Turn(SEEKER, "Somebody is there."), Turn(SEEKER, "It is dark.")
    talk = Dialogue((*dialogue().turns[:2], first, second, Turn(SUPPORTER, "So?")), id="d:7")
    before, after = decisions(talk, ACTS, need_strategies=False)
    told = heard(State(before), before.target, of_seeker(after.query))
    assert after.query == "Somebody is there.\nIt is dark."
    assert told.decision.turns == after.turns
    encoder = module.encoder()
    for name in ("posterior", "prior", "observation", "reply"):
        assert getattr(encoder, name)(told) == getattr(encoder, name)(State(after))


def test_what_is_heard_begins_the_next_state() -> None:
    """The belief becomes that of before; the reply is said, whatever comes back."""
    (state,) = states_of(0)
    state, reply = replace(state, belief=("fear",)), Turn(SUPPORTER, "Come in.")
    told = heard(state, reply, "Thanks.")
    assert told.decision.turns == (*state.decision.turns, reply, Turn(SEEKER, "Thanks."))
    assert heard(state, reply).decision.turns == told.decision.turns[:-1]
    assert (told.belief, told.previous) == (None, ("fear",))
    assert (told.decision.depth, told.decision.target.text) == (state.decision.depth + 1, "")


def test_prompts_tell_the_belief_before_and_what_is_known(module: Any) -> None:
    """Each component's task, its options in letters, and the facts of the dialogue once."""
    encoder = module.encoder()
    record = replace(dialogue(), situation="At the door.", problem="fear of guests")
    first, second = (encoder.state(d) for d in decisions(record, ACTS))
    assert first.previous is None
    assert second.previous == ("fear", "negative", "question")
    text = encoder.tokenizer.decode(encoder.prior(second))
    assert "state before: emotion=fear; sentiment=negative; intention=question" in text
    assert "Problem: fear of guests\nSituation: At the door.\nDialogue so far:\n" in text
    assert "Oh, how nice!" not in text
    assert "sentiment: A negative, B neutral, C positive" in text
    assert "state before" not in encoder.tokenizer.decode(encoder.prior(first))
    assert "Oh, how nice!" in encoder.tokenizer.decode(encoder.posterior(second))
    spoken = encoder.tokenizer.decode(encoder.reply(second))
    assert "The seeker's state: emotion=happiness" in spoken
    assert spoken.endswith("Supporter:")
    asked = encoder.tokenizer.decode(encoder.observation(second))
    assert asked.endswith("Seeker:")
    bare = encoder.tokenizer.decode(encoder.reply(State(second.decision)))
    assert "state" not in bare


def test_training_dialogues_are_kept_for_a_user_that_replays_them(module: Any) -> None:
    encoder = replace(module.encoder(), dialogues={})
    encoder.study([dialogue(1)], "val")
    assert encoder.dialogues == {}
    encoder.study([dialogue(2)], "train")
    assert encoder.dialogues == {"d:2": dialogue(2)}


def test_the_oldest_turns_of_a_full_window_are_left_out(module: Any) -> None:
    """Counted once a state; a reply or an utterance that cannot fit is named."""
    encoder, turns = replace(module.encoder(), reserve=60), dialogue().turns
    long = Dialogue((turns[0], *[replace(turns[1], text="Well.")] * 50, *turns[2:]), id="d:1")
    last = decisions(long, ACTS)[-1]
    encoder.max_length = len(encoder.reply(encoder.state(last))) + encoder.reserve - 1
    examples = encoder(long)
    assert encoder.shortened == 1
    assert "Who is there" not in encoder.tokenizer.decode(examples[-1].input_ids)
    assert "Who is there" in encoder.tokenizer.decode(examples[0].input_ids)
    words = "x" * encoder.max_length
    with pytest.raises(TooLongError, match=r"d:2, turn 1: a reply of \d+ tokens does not fit"):
        encoder(Dialogue((turns[0], Turn(SUPPORTER, words)), id="d:2"))
    with pytest.raises(TooLongError, match=r"d:3, turn 1: "):
        encoder(Dialogue((Turn(SEEKER, words), turns[1]), id="d:3"))
    said = replace(turns[2], text="x" * 200)  # fits where it is read, not where it is written
    with pytest.raises(TooLongError, match=r"d:4, turn 52: an utterance of 2\d\d tokens does not"):
        encoder(Dialogue((*long.turns[:-2], said, turns[3]), id="d:4"))


def test_an_example_weighs_its_tokens_and_one_state(module: Any) -> None:
    """One whose reply is not written has nothing to say."""
    encoder = module.encoder()
    first, second = encoder(replace(dialogue(), id="d:9"))
    words = len(encoder.said(encoder.reply_text(dialogue().turns[1])))
    assert first.head_weights() == {0: words, 1: 1.0}
    turns = (Turn(SEEKER, "Hm."), Turn(SUPPORTER, ""))
    (bare,) = encoder(Dialogue(turns, id="d:8"))
    assert bare.head_weights() == {1: 1.0}
    assert second.record.depth == 1

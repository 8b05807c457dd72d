"""Names of strategies and acts, and the decision points of a dialogue."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zoo.errors import InputError
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions, description, transcript
from zoo.support.labels import ACTS, EMOTIONS, STAGES, STRATEGIES, SUPPORT

# -- names -------------------------------------------------------------------------------------


def test_canonical_order() -> None:
    lowered = [name.lower() for name in STRATEGIES]
    assert lowered == [
        "question",
        "restatement or paraphrasing",
        "reflection of feelings",
        "self-disclosure",
        "affirmation and reassurance",
        "providing suggestions",
        "information",
        "others",
    ]
    assert [STAGES.get(name) for name in STRATEGIES] == [1, 1, 2, 2, 2, 3, 3, None]
    assert len(EMOTIONS) == len(set(EMOTIONS)) == 11
    assert ACTS.names == ("inform", "question", "directive", "commissive")
    assert set(SUPPORT.aliases.values()) <= set(STRATEGIES)
    assert set(ACTS.aliases.values()) <= set(ACTS.names)
    assert SUPPORT.fallback in STRATEGIES
    assert ACTS.fallback in ACTS.names


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("Questions", "Question"),
        ("Other", "Others"),
        ("Restatement", "Restatement or Paraphrasing"),
        ("Approval and Reassurance", "Affirmation and Reassurance"),
        ("Direct Guidance", "Providing Suggestions"),
        ("Providing Information", "Information"),
        ("Reflection of Feelings", "Reflection of feelings"),
        ("  self-DISCLOSURE ", "Self-disclosure"),
        ("[Question]", "Question"),
    ],
)
def test_spellings_are_folded(spelled: str, name: str) -> None:
    assert SUPPORT.canonical(spelled, "x") == SUPPORT.find(spelled) == name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("I would choose Providing Suggestions here.", "Providing Suggestions"),
        ("Strategy: reflection of feelings", "Reflection of feelings"),
        ("First self-disclosure, then a question", "Self-disclosure"),  # the first one counts
        ("On the other hand, information", "Information"),  # Others only if nothing else
        ("They might talk to others", "Others"),
        ("restatement or paraphrasing it is", "Restatement or Paraphrasing"),
        ("misinformation", None),  # whole words
        ("", None),
        ("Humor", None),
    ],
)
def test_names_are_found_in_a_models_words(words: str, name: str | None) -> None:
    assert SUPPORT.find(words) == name


def test_unknown_names_of_data_are_refused() -> None:
    with pytest.raises(InputError, match=r"^f:3: no support strategy 'Qestion'; did you mean 'Que"):
        SUPPORT.canonical("Qestion", "f:3")
    with pytest.raises(InputError, match="f:3: no support strategy is annotated"):
        SUPPORT.canonical(" ", "f:3")
    with pytest.raises(InputError, match="no support strategy 'I ask a question'"):
        SUPPORT.canonical("I ask a question", "f:3")  # only predictions are searched


# -- decision points ---------------------------------------------------------------------------

LONG = Dialogue(
    turns=(
        Turn(SUPPORTER, "Hello.", strategy="Other"),
        Turn(SEEKER, "Hi."),
        Turn(SEEKER, "I cannot sleep."),
        Turn(SUPPORTER, "Since when?", strategy="Questions"),
        Turn(SUPPORTER, "That is hard.", strategy="Reflection of Feelings"),
        Turn(SEEKER, "For weeks.", feedback=4),
        Turn(SUPPORTER, "Try a walk.", strategy="Providing Suggestions"),
    ),
    emotion="anxiety",
    problem="sleep problems",
    situation="Awake at night.",
    id="f:1",
)


def test_every_supporter_turn_but_an_opening_one_is_a_decision() -> None:
    first, second, third = decisions(LONG)
    assert [d.target.text for d in (first, second, third)] == [
        "Since when?",
        "That is hard.",
        "Try a walk.",
    ]
    assert [(d.depth, d.last, d.id) for d in (first, second, third)] == [
        (0, False, "f:1, turn 3"),
        (1, False, "f:1, turn 4"),
        (2, True, "f:1, turn 6"),
    ]
    assert {d.dialogue for d in (first, second, third)} == {"f:1"}
    assert (first.emotion, first.problem) == ("anxiety", "sleep problems")


def test_each_of_several_turns_in_a_row_has_its_own_label() -> None:
    first, second, _ = decisions(LONG)
    assert (first.target.strategy, second.target.strategy) == ("Question", "Reflection of feelings")
    assert second.turns[-1].strategy == "Question"
    assert first.query == "Hi.\nI cannot sleep."
    assert second.query == ""  # the seeker said nothing in between
    assert second.history == second.turns


def test_history_and_query_lose_and_double_nothing() -> None:
    for decision in decisions(LONG):
        said = [turn.text for turn in decision.history]
        said += decision.query.split("\n") if decision.query else []
        assert said == [turn.text for turn in decision.turns]
    assert decisions(LONG)[2].turns == tuple(
        replace(turn, strategy=SUPPORT.known(turn.strategy) or "") for turn in LONG.turns[:6]
    )


def test_the_history_holds_the_strategies() -> None:
    _, _, third = decisions(LONG)
    assert transcript(third.turns) == (
        "Supporter (Others): Hello.\nSeeker: Hi.\nSeeker: I cannot sleep.\n"
        "Supporter (Question): Since when?\nSupporter (Reflection of feelings): That is hard.\n"
        "Seeker: For weeks."
    )
    assert "(" not in transcript(third.turns, strategies=False)
    assert description(third) == (
        "Problem: sleep problems\nSituation: Awake at night.\nSeeker's emotion: anxiety"
    )


def test_the_next_rating_covers_a_turn() -> None:
    assert [d.feedback for d in decisions(LONG)] == [4, 4, None]


def test_acts_of_seeker_turns_stay_out_of_the_history() -> None:
    turns = (Turn(SEEKER, "Hi.", "inform"), Turn(SUPPORTER, "Where?", "Questions"))
    dialogue = Dialogue(
        (*turns, Turn(SEEKER, "Here.", "inform"), Turn(SUPPORTER, "Go.", "directive"))
    )
    first, second = decisions(dialogue, ACTS)
    assert (first.target.strategy, second.target.strategy) == ("question", "directive")
    assert transcript(second.turns) == "Seeker: Hi.\nSupporter (question): Where?\nSeeker: Here."


def change(position: int, strategy: str) -> Dialogue:
    turns = list(LONG.turns)
    turns[position] = replace(turns[position], strategy=strategy)
    return replace(LONG, turns=tuple(turns))


def test_bad_strategies_are_refused() -> None:
    with pytest.raises(InputError, match=r"f:1, turn 4: no support strategy 'Reflecting'; did you"):
        decisions(change(4, "Reflecting"))
    with pytest.raises(InputError, match=r"f:1, turn 0: no support strategy 'Helo'"):
        decisions(change(0, "Helo"))
    with pytest.raises(InputError, match=r"f:1, turn 6: no support strategy is annotated"):
        decisions(change(6, ""))
    assert decisions(change(0, ""))[0].turns[0].strategy == ""  # an opening decides nothing


def test_strategies_may_be_missing_where_none_are_needed() -> None:
    found = decisions(change(6, ""), need_strategies=False)
    assert [d.target.strategy for d in found] == ["Question", "Reflection of feelings", ""]
    with pytest.raises(InputError, match="'Reflecting'"):
        decisions(change(4, "Reflecting"), need_strategies=False)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_dialogue_without_decision_is_refused(count: int) -> None:
    with pytest.raises(InputError, match="f:1: no supporter turn answers a seeker turn"):
        decisions(replace(LONG, turns=LONG.turns[:count]))

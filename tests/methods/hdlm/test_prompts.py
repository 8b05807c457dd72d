"""HdLM's wording: what is asked of each kind of record, level by level, and what does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from methods.hdlm.hdlm_records import PAPER, QUESTION, THREE, encoder, rendered

from zoo.errors import InputError
from zoo.evaluation import name_of
from zoo.methods.hdlm.prompts import (
    ANSWER_SYSTEM,
    EMOTIONS,
    FEELINGS,
    STRATEGIES,
    listed,
    plans,
    role_names,
)
from zoo.records import SEEKER, SUPPORTER, Dialogue, LabelPath, Triple, Turn

# -- roles and plans ---------------------------------------------------------------------------


def test_role_names() -> None:
    assert role_names(1) == (["assistant"], [])
    assert role_names(2) == (["thought", "assistant"], ["subtask"])
    assert role_names(3) == (
        ["first_thought", "second_thought", "assistant"],
        ["subtask_1", "subtask_2"],
    )
    assert role_names(4)[0][2:] == ["third_thought", "assistant"]


def test_a_label_path_is_a_number_of_a_list_at_each_level() -> None:
    (plan,) = plans(PAPER, 2)
    assert plan.turns == (("user", "Deaf.\n\nClasses:\n0: med\n1: law"),)
    assert (plan.gold, plan.names) == (("0", "1"), ("med", "ear"))
    assert plan.choices([]) == ("med", "law")
    assert plan.choices(["law"]) == ("tax", "eye")
    assert plan.subtask(["law"]) == "Classes:\n0: tax\n1: eye"
    assert plan.is_closed()


def test_decoded_texts_become_names() -> None:
    (plan,) = plans(PAPER, 2)
    assert plan.name([], "1") == "law"
    assert plan.name(["law"], "1") == "eye"
    for text in ("2", "-1", "law", "", "1.0", "one", " 1", "1 ", "01", "\u0661"):
        assert plan.name([], text) is None
    assert plan.name(["?"], "0") is None, "nothing is below a text that is no class"
    assert plan.text([], "law") == "1"
    assert plan.text([], "art") == "?"


def test_three_levels_of_a_label_path() -> None:
    record = LabelPath("x", ("b", "e", "h"), THREE, id="d")
    (plan,) = plans(record, 3)
    assert plan.gold == ("1", "1", "1")
    assert plan.subtask(["b", "e"]) == "Classes:\n0: g\n1: h"
    (text,) = rendered(encoder(3), record)
    end, start = "<|im_end|>", "<|im_start|>"
    assert text.split("\n1: b" + end)[1] == (
        f"\n{start}first_thought\n1{end}\n{start}subtask_1\nClasses:\n0: d\n1: e{end}"
        f"\n{start}second_thought\n1{end}\n{start}subtask_2\nClasses:\n0: g\n1: h{end}"
        f"\n{start}assistant\n1{end}"
    )


def test_a_strategy_guides_every_reply_of_a_dialogue(dialogue: Dialogue) -> None:
    first, second = plans(dialogue, 2)
    assert first.system.endswith(f"Strategies:\n{listed(STRATEGIES)}")
    assert first.turns == (("assistant", "Hello."), ("user", "I lost my job."))
    assert first.names == ("Question", "When?")
    assert first.gold == (str(STRATEGIES.index("Question")), "When?")
    assert len(second.turns) == 4
    assert second.subtask(["Question"]) == "Answer as the supporter. Strategy: Question"
    assert (second.choices([]), second.choices(["Question"])) == (STRATEGIES, None)
    assert second.name(["Question"], " You will. ") == "You will."
    assert len({first.id, second.id}) == 2
    assert not first.is_closed()


def test_plans_of_dialogues_without_an_id_have_none(dialogue: Dialogue) -> None:
    """What names a record in an evaluation is then all that it holds."""
    talks = [replace(dialogue, id="", problem=problem) for problem in ("job", "home")]
    made = [plan for talk in talks for plan in plans(talk, 2)]
    assert {plan.id for plan in made} == {""}
    assert len({name_of(plan) for plan in made}) == 4
    with pytest.raises(InputError, match="turn 2: no emotion"):
        plans(replace(talks[0], emotion=""), 2, ("emotion",))


def test_emotion_and_strategy_guide_a_reply(dialogue: Dialogue) -> None:
    plan, _ = plans(dialogue, 3, ("emotion", "strategy"))
    assert plan.system.endswith(f"Emotions:\n{listed(EMOTIONS)}")
    assert plan.names == ("sadness", "Question", "When?")
    assert plan.gold[0] == str(EMOTIONS.index("sadness"))
    assert (plan.choices([]), plan.choices(["sadness"])) == (EMOTIONS, STRATEGIES)
    told = f"The seeker feels sadness. Strategies:\n{listed(STRATEGIES)}"
    assert plan.subtask(["sadness"]) == told
    told = "Answer as the supporter. Strategy: Question"
    assert plan.subtask(["sadness", "Question"]) == told


def test_a_guide_may_be_a_list(dialogue: Dialogue) -> None:
    """As YAML gives it; the plans are the same, and can be kept by what they ask."""
    from_list, from_tuple = (plans(dialogue, 2, g) for g in (["emotion"], ("emotion",)))
    assert from_list == from_tuple
    assert len({*from_list, *from_tuple}) == len(from_tuple)


def test_a_subtask_says_what_kind_of_label_it_follows(dialogue: Dialogue) -> None:
    plan, _ = plans(dialogue, 2, ("emotion",))
    assert plan.subtask(["anger"]) == "Answer as the supporter. The seeker feels anger"
    plan, _ = plans(dialogue, 3, ("strategy", "emotion"))
    assert plan.subtask(["Question"]) == f"Strategy: Question. Emotions:\n{listed(EMOTIONS)}"


def test_a_question_gives_its_rationale_and_its_letter() -> None:
    (plan,) = plans(QUESTION, 2)
    assert "first the reasoning" in plan.system
    assert plan.turns == (("user", "2 + 2?\nA: 3\nB: 4"),)
    assert plan.gold == plan.names == ("Count on.", "B")
    assert plan.subtask(["Count on."]) == ""
    assert plan.choices([]) is None


def test_at_depth_one_a_question_and_a_triple_are_their_answers() -> None:
    (plan,) = plans(replace(QUESTION, rationale=""), 1)
    assert plan.gold == plan.names == ("B",)
    assert plan.system == ANSWER_SYSTEM
    (plan,) = plans(Triple("Who?", "", "Bob", id="t"), 1)
    assert plan.gold == ("Bob",)


def test_emotions_are_those_of_the_data_set(dialogue: Dialogue) -> None:
    from datamodules.empathetic_dialogues import EMOTIONS as THEIRS

    assert FEELINGS == THEIRS
    assert not set(FEELINGS) & set(EMOTIONS), "a name says which list it is of"
    plan, _ = plans(replace(dialogue, emotion="joyful"), 2, ("emotion",))
    assert plan.system.endswith(f"Emotions:\n{listed(FEELINGS)}")
    assert plan.choices([]) == FEELINGS
    assert plan.gold[0] == str(FEELINGS.index("joyful"))
    assert plan.subtask(["joyful"]) == "Answer as the supporter. The seeker feels joyful"
    (named, _) = plans(dialogue, 2, ("emotion",), "esconv")
    assert named.choices([]) == EMOTIONS
    with pytest.raises(InputError, match="no emotion named 'sadness'"):
        plans(dialogue, 2, ("emotion",), "empathetic_dialogues")


def test_a_triple_gives_its_thought_and_its_answer() -> None:
    (plan,) = plans(Triple("Who?", "Bob saw.", "Bob", system="Be brief.", id="t"), 2)
    assert (plan.system, plan.turns) == ("Be brief.", (("user", "Who?"),))
    assert plan.gold == ("Bob saw.", "Bob")
    assert plan.subtask(["Bob saw."]) == ""


def test_asking_about_another_text() -> None:
    (plan,) = plans(PAPER, 2)
    assert plan.asking("Blind.").turns == (("user", "Blind.\n\nClasses:\n0: med\n1: law"),)
    (plan,) = plans(QUESTION, 2)
    assert plan.asking("Why?").turns == (("user", "Why?"),)


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "depth", "message"),
    [
        (replace(PAPER, labels=("med", "tax")), 2, "'tax' is not among the classes of med"),
        (replace(PAPER, labels=("art", "eye")), 2, "'art' is not among the classes of the first"),
        (replace(PAPER, labels=("med", "ear", "lobe")), 3, "'lobe' is not among .* med/ear"),
        (PAPER, 3, "p: 2 levels, but the model has 3; set model.layers to 1"),
        (replace(PAPER, labels=("med",)), 2, "p: 1 levels, but the model has 2"),
        (replace(QUESTION, rationale=""), 2, "q: no rationale"),
        (QUESTION, 3, "q: 2 levels"),
        (Triple("Who?", "", "Bob", id="t"), 2, "t: nothing to learn at level 1"),
        (Triple("Who?", "Bob", " ", id="t"), 2, "t: nothing to learn at level 2"),
    ],
)
def test_records_that_do_not_fit(record: Any, depth: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder(depth)(record)


def test_dialogues_that_do_not_fit(dialogue: Dialogue) -> None:
    with pytest.raises(InputError, match="2 levels, but the model has 3"):
        plans(dialogue, 3)
    with pytest.raises(InputError, match="no emotion named 'joy'"):
        plans(replace(dialogue, emotion="joy"), 2, ("emotion",))
    with pytest.raises(InputError, match="turn 2: no emotion; model.guide says"):
        plans(replace(dialogue, emotion=""), 2, ("emotion",))
    turns = (Turn(SEEKER, "Hi."), Turn(SUPPORTER, "Hello.", strategy="Greeting"))
    with pytest.raises(InputError, match="turn 1: no strategy named 'Greeting'"):
        plans(Dialogue(turns, id="d"), 2)
    with pytest.raises(InputError, match="no supporter turn"):
        plans(Dialogue(turns[:1], id="d"), 2)

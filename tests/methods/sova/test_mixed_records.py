"""Dilemmas and conversations in one list: each is answered by its type, in the order given."""

from __future__ import annotations

from typing import Any

import pytest
from methods.sova.graph_parts import GIVEN

from zoo.errors import InputError
from zoo.methods.sova.evaluation import DilemmaChoice
from zoo.methods.sova.replies import ValueReply
from zoo.records import Dialogue, Dilemma


def agent(make: Any, kind: str) -> Any:
    options = {"threshold": 1.0, "max_length": 16384, "read_text": False, "max_reply_tokens": 3}
    return make("SoVA", "tiny-llama", kind=kind, **options)


@pytest.mark.parametrize("kind", ["sova", "direct"])
def test_each_record_is_answered_by_its_type(
    make: Any, dilemmas: list[Dilemma], dialogue: Dialogue, kind: str
) -> None:
    module = agent(make, kind)
    alone = [module.generate([record])[0] for record in (dilemmas[0], dialogue, dilemmas[1])]
    answers = module.generate([dilemmas[0], dialogue, dilemmas[1]])
    assert [type(answer) for answer in answers] == [DilemmaChoice, ValueReply, DilemmaChoice]
    assert answers[1].text == alone[1].text
    for place in (0, 2):
        assert answers[place].odds == pytest.approx(alone[place].odds, abs=1e-4)
    for mixed, single in zip(answers, alone, strict=True):
        scores = [{i.report_id: i.score for i in a.instructions} for a in (mixed, single)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    given = [GIVEN[:1], GIVEN[1:2], GIVEN[2:3]]
    answers = module.generate([dilemmas[0], dialogue, dilemmas[1]], given)
    assert [answer.instructions for answer in answers] == given


@pytest.mark.parametrize("kind", ["always_do", "told", "rag", "oracle", "ecot", "sft"])
def test_a_kind_that_does_not_talk_refuses_the_whole_list(
    make: Any, dilemmas: list[Dilemma], dialogue: Dialogue, kind: str
) -> None:
    with pytest.raises(InputError, match=f"model.kind: {kind} decides dilemmas; in conversations"):
        agent(make, kind).generate([dilemmas[0], dialogue])


@pytest.mark.parametrize("kind", ["sova", "direct", "told", "always_do", "rag", "shuffled"])
def test_no_records_have_no_answers(make: Any, kind: str) -> None:
    assert agent(make, kind).generate([]) == []


def test_there_is_a_list_of_instructions_for_each_record(
    make: Any, dilemmas: list[Dilemma]
) -> None:
    with pytest.raises(InputError, match="instructions: 1 lists for 2 records"):
        agent(make, "sova").generate(dilemmas[:2], [GIVEN])


def test_told_names_an_action_of_dilemmas_alone(
    make: Any, dilemmas: list[Dilemma], dialogue: Dialogue
) -> None:
    kept = agent(make, "told").kept_instructions([dialogue, *dilemmas])
    assert len(kept) == 1 + len(dilemmas)
    assert kept[0] == []

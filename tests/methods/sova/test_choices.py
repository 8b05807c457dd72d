"""Choices between two actions: of policies that read nothing, as shown, as counted in scores."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from methods.sova.graph_parts import GIVEN

from zoo.methods.sova.asking import policy_choice, told
from zoo.methods.sova.evaluation import DilemmaChoice
from zoo.methods.sova.expected import expected_action
from zoo.methods.sova.instruction import Instruction
from zoo.records import NOT_TO_DO, TO_DO, Dilemma


def test_policies_choose_without_reading(dilemmas: list[Dilemma]) -> None:
    """Sure of it, and in both orders the same action; the oracle does where nothing is expected."""
    record = next(d for d in dilemmas if expected_action(d, "maslow_growth") == NOT_TO_DO)
    for policy, chosen in (
        ("always_do", TO_DO),
        ("always_not", NOT_TO_DO),
        ("oracle", NOT_TO_DO),
    ):
        choice = policy_choice(policy, record, "maslow_growth")
        readings = ("", "swapped_", "text_", "text_swapped_")
        assert {choice.choice(reading) for reading in readings} == {chosen}
        assert choice.odds == ((1.0, 1.0) if chosen == TO_DO else (-1.0, -1.0))
    undecided = dataclasses.replace(record, not_to_do=record.to_do)
    assert policy_choice("oracle", undecided, "maslow_growth").choice() == TO_DO
    assert told(undecided, "maslow_growth") == []
    assert told(record, "maslow_growth") == [
        Instruction("You do not do it.", 100.0, "expected", ())
    ]


def test_a_choice_is_shown_in_both_orders() -> None:
    """Log-odds of nought are none of `to do`; text is shown and kept only if it was read."""
    choice = DilemmaChoice((0.25, -1.5), ("Action 1", " no\n"), GIVEN[:1], "Think.")
    assert choice.notes() == {
        "instructions": "(90) Rest.",
        "reasoning": "Think.",
        "choice": "to_do (log-odds of to_do +0.25)",
        "swapped": "not_to_do (-1.50)",
        "text": "Action 1 | no",
    }
    plain = choice.plain()
    assert {name: plain[name] for name in plain if name.endswith("choice")} == {
        "choice": TO_DO,
        "swapped_choice": NOT_TO_DO,
        "text_choice": TO_DO,
        "text_swapped_choice": None,
    }
    assert plain["instructions"][0]["principle_ids"] == ("p1",)
    cut = dataclasses.replace(choice, cut=True)
    assert cut.notes()["reasoning"] == "Think. [cut at the limit]"
    assert cut.plain()["cut"]
    silent = DilemmaChoice((0.0, 0.1), None)
    assert silent.notes().keys() == {"instructions", "choice", "swapped"}
    assert silent.choice() == NOT_TO_DO
    assert {"choice", "swapped_choice"} == {n for n in silent.plain() if n.endswith("choice")}
    assert silent.choice("text_") is None
    half = DilemmaChoice((0.0, 0.1), ("", "Action 1"))
    assert half.choice("text_swapped_") == NOT_TO_DO
    assert half.notes()["text"] == "(nothing) | Action 1"
    assert DilemmaChoice((0.0, 0.1), ("", "")).plain()["text_choice"] is None


def test_text_that_was_not_read_counts_nowhere(
    make: Any, dilemmas: list[Dilemma], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instructions are counted by dilemma; the ratio by label is a figure a rule."""
    module = make("SoVA", "tiny-llama", kind="direct")
    rule = "maslow_growth"
    decisive = [d for d in dilemmas if expected_action(d, rule)][:4]
    sign = {TO_DO: 1.0, NOT_TO_DO: -1.0}
    right = [sign[expected_action(d, rule)] for d in decisive]
    answers = [
        DilemmaChoice((right[0], -right[0]), None, GIVEN[:2]),
        DilemmaChoice((right[1], right[1]), ("Action 1", "no")),
        *(DilemmaChoice((-z, z), None) for z in right[2:]),
    ]
    scores = module.score_answers(list(zip(decisive, answers, strict=True)), "val")
    assert scores[f"expected_{rule}"] == 2 / 4
    assert scores[f"swapped_expected_{rule}"] == 3 / 4
    assert scores[f"text_swapped_expected_{rule}_invalid"] == 1
    assert scores[f"text_expected_{rule}"] in (0.0, 1.0)
    assert scores["mean_instructions"] == 2 / 4
    assert scores["without_instructions"] == 3 / 4
    assert not any(name.startswith("rouge") for name in scores)
    monkeypatch.setattr("zoo.methods.sova.evaluation.heat_map", lambda *drawn: drawn)
    values, labels, columns, *_ = module.figures()[f"expected_{rule}_by_label"]
    wanted = {label: scores[f"expected_{rule}/{label}"] for label in labels}
    assert values[:, 0].tolist() == pytest.approx([*wanted.values()])
    assert len(wanted) > 1
    assert columns == ["ratio"]
    row = module.sample(decisive[0], answers[0])
    assert row["dilemma"] == decisive[0].situation
    assert row[f"expected by {rule}"] == expected_action(decisive[0], rule)
    undecided = dataclasses.replace(decisive[0], not_to_do=decisive[0].to_do)
    assert module.sample(undecided, answers[0])[f"expected by {rule}"] == "-"
    assert module.prediction(decisive[0], answers[0])["id"] == decisive[0].id


def test_the_share_of_instructions_that_the_model_wrote(make: Any, dilemmas: list[Dilemma]) -> None:
    """Of each prompt that holds some, then their mean; of `likelihood` there is no such number."""
    kept = [Instruction("Rest.", 70.0, "r", ("p",), written=i < 1) for i in range(4)]
    answers = [DilemmaChoice((1.0, 1.0), None, tuple(k)) for k in (kept, kept[:1], [])]
    pairs = list(zip(dilemmas[:3], answers, strict=True))
    module = make("SoVA", "tiny-llama", map_by="model")
    assert module.score_answers(pairs, "val")["written_instructions"] == (1 / 4 + 1) / 2
    plain = make("SoVA", "tiny-llama").score_answers(pairs, "val")
    assert "written_instructions" not in plain


def test_reasonings_that_were_cut_are_counted(make: Any, dilemmas: list[Dilemma]) -> None:
    """Of those that reasoned; a kind that does not reason has no such number."""
    module = make("SoVA", "tiny-llama", kind="ecot")
    answers = [DilemmaChoice((1.0, 1.0), None, (), *thought) for thought in (("a", True), ("b",))]
    answers.append(DilemmaChoice((1.0, 1.0), None))
    scores = module.score_answers(list(zip(dilemmas[:3], answers, strict=True)), "val")
    assert scores["cut_reasoning"] == 1 / 2
    plain = make("SoVA", "tiny-llama", kind="direct").score_answers(
        [(dilemmas[0], answers[2])], "val"
    )
    assert "cut_reasoning" not in plain


def test_empty_texts_are_invalid_answers(make: Any, dilemmas: list[Dilemma]) -> None:
    """As many of them as there are decisive dilemmas, and no ratio."""
    module = make("SoVA", "tiny-llama", kind="direct")
    decisive = [d for d in dilemmas if expected_action(d, "maslow_growth")]
    answers = [DilemmaChoice((1.0, 1.0), ("", ""))] * len(decisive)
    scores = module.score_answers(list(zip(decisive, answers, strict=True)), "val")
    for reading in ("text_", "text_swapped_"):
        assert scores[f"{reading}expected_maslow_growth_invalid"] == len(decisive) > 1
        assert f"{reading}expected_maslow_growth" not in scores


@pytest.mark.parametrize("read", [True, False])
def test_a_model_that_writes_nothing(
    make: Any, dilemmas: list[Dilemma], read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its empty texts are answers, unless none was asked for."""
    monkeypatch.setattr("zoo.methods.sova.asking.Asker._texts", lambda _, ids: [""] * len(ids))
    module = make("SoVA", "tiny-llama", kind="direct", max_length=8192, read_text=read)
    answers = module.generate(dilemmas[:2])
    assert [answer.texts for answer in answers] == [("", "") if read else None] * 2

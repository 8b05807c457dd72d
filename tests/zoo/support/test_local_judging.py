"""A local model as judge of support: its verdict is read or forced, and long talks are cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support_judges import grades, points

from zoo.backbone import Backbone, load
from zoo.judges.local import LocalLLM
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions
from zoo.support.judging import SupportJudge, Verdict, against_data, both_orders
from zoo.support.simulation import SimulatedSeeker, simulate


@pytest.fixture(scope="module")
def llm() -> LocalLLM:
    lm, tokenizer = load(Backbone("tiny-llama"))
    return LocalLLM(lm.eval(), tokenizer, max_new_tokens=12, name="tiny")


def says(llm: LocalLLM, words: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Let a model say given words; return what it is asked, with the seed."""
    asked: list[tuple[Any, Any]] = []

    def write(turns: Any, seed: int | None = None) -> str:
        asked.append((turns, seed))
        return words

    monkeypatch.setattr(llm, "write", write)
    return asked


def test_a_model_that_writes_rubbish_is_asked_again_by_sampling(llm: LocalLLM) -> None:
    judge = SupportJudge(llm)
    (outcome,) = against_data(judge, points(1), retries=1)
    assert outcome.result == "failed"
    assert "no [[A]], [[B]] or [[C]] in the answer" in outcome.failures[0]
    ((_, why),) = grades(judge, points(1), 0)
    assert "no grade from 0 to 5" in why[0]


def test_a_models_verdict_is_read(llm: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = says(llm, "The first one. [[A]] [[3]]", monkeypatch)
    judge = SupportJudge(llm)
    (decision, reply), *_ = points(1)
    words = "The first one. [[A]] [[3]]"
    assert judge.compare(decision, reply, decision.target) == Verdict("A", words)
    assert judge.grade(decision, reply, attempt=2).value == 3
    assert [seed for _, seed in asked] == [None, 2]  # greedy first, then sampled
    assert both_orders(judge, decision, reply, decision.target).result == "tie"


def test_a_model_without_verdict_can_be_forced(
    llm: LocalLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is then the likeliest after its words, the grade the mean under its odds."""
    judge = SupportJudge(llm, forced=True)
    assert judge.name == "tiny-forced"
    (decision, reply), *_ = points(1)
    words = "I like both."
    asked = says(llm, words, monkeypatch)
    verdict, grade = judge.compare(decision, reply, reply), judge.grade(decision, reply)
    assert verdict.words == grade.words == words
    odds = []
    for (chat, _), options in zip(asked, ("ABC", "012345"), strict=True):
        ids = llm.ids(chat) + llm.tokenizer(f"{words}\n[[")["input_ids"]
        logits = llm.lm(input_ids=torch.tensor([ids])).logits[0, -1]
        odds.append(logits[[llm.tokenizer(o)["input_ids"][0] for o in options]].softmax(0))
    assert verdict.choice == ("A", "B", "tie")[int(odds[0].argmax())]
    assert grade.value == pytest.approx((odds[1] * torch.arange(6)).sum().item(), abs=1e-4)
    says(llm, "[[B]] [[2]]", monkeypatch)  # what it says itself comes first
    assert judge.compare(decision, reply, reply).choice == "B"
    assert judge.grade(decision, reply).value == 2


def test_old_turns_are_left_out_of_a_long_conversation(
    llm: LocalLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = []
    for i in range(30):
        turns += [Turn(SEEKER, f"worry number {i} " * 5), Turn(SUPPORTER, f"why {i}", "Question")]
    decision = decisions(Dialogue(tuple(turns), id="long"))[-1]
    asked = says(llm, "[[B]]", monkeypatch)
    SupportJudge(llm).compare(decision, decision.target, decision.target)
    (chat, _) = asked[0]
    assert llm.fits(chat)
    assert "worry number 29" in chat[1][1]
    assert "worry number 0 " not in chat[1][1]


def test_a_prompt_that_cannot_fit_fails(llm: LocalLLM) -> None:
    long = Turn(SUPPORTER, "x" * 3000)
    (decision, _), *_ = points(1)
    outcome = both_orders(SupportJudge(llm), decision, long, long, retries=0)
    assert "does not fit into max_length=2048" in outcome.failures[0]


@pytest.mark.slow
def test_a_real_model_judges_and_seeks(tmp_path: Path) -> None:
    """A small instruction-tuned model is asked, recorded and retried, and holds a conversation."""
    writer = LocalLLM.load(Backbone("smollm2-135m"), max_new_tokens=48)
    judge = SupportJudge(writer, file=tmp_path / "j.jsonl")
    ((grade, why),) = grades(judge, points(1), 1)
    lines = [json.loads(line) for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert len(lines) == len(why) + (grade is not None)
    assert all(line["words"] for line in lines)  # it says something each time
    talked = simulate(SimulatedSeeker(writer, "my exams"), lambda turns: "Go on.", max_rounds=2)
    assert talked.rounds == 2 or talked.stopped
    assert all(turn.text for turn in talked.turns)

"""Reports of communities, and instructions for situations by scored reports."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.sova.graph_parts import HOSTILE, SITUATIONS, principles, reports

from zoo.backbone import Backbone, load
from zoo.errors import InputError
from zoo.judges.judge import JudgeError
from zoo.judges.recorded import RecordedAnswers
from zoo.markup import token_ids
from zoo.methods.sova.instruct import MapScore, closest
from zoo.methods.sova.instruction import Instruction, advice, keep
from zoo.methods.sova.map_prompts import GRADES, GRADING, after, before
from zoo.methods.sova.principles import STEERING
from zoo.methods.sova.report_writer import material, read_report, write_reports
from zoo.prompts.chat_format import CHATML

SAID = {
    "title": "Being honest",
    "summary": 'When you are asked to "bend" the truth, say it kindly.',
    "rating": 7.5,
    "reason": "It is about honesty.",
    "findings": [
        {"of": [2, 1], "rule": "When it costs you little, tell the truth.", "why": "Trust grows."}
    ],
}


def finding(**change: Any) -> dict[str, Any]:
    """Return the findings of an answer, one of them changed."""
    return {"findings": [SAID["findings"][0] | change]}


class Scripted:
    """A judge with prepared words; every question is kept."""

    name = "scripted"

    def __init__(self, *words: str) -> None:
        self.words, self.asked = list(words), []

    def fits(self, messages: Any) -> bool:
        return True

    def write(self, messages: Any, seed: int | None = None) -> str:
        self.asked.append(messages)
        return self.words.pop(0)

    def score(self, messages: Any, candidates: Any, begun: str = "") -> list[float]:
        self.asked.append(messages)
        return [1.0, *[0.0] * (len(candidates) - 1)]


@pytest.fixture(scope="module")
def model() -> tuple[Any, Any]:
    lm, tokenizer = load(Backbone("tiny-llama"))
    return lm.eval(), tokenizer


def answers(path: Path) -> RecordedAnswers:
    return RecordedAnswers(path / "answers.jsonl", "scripted", lambda line: line["words"])


# -- reports -----------------------------------------------------------------------------------


@pytest.mark.fidelity("sova", 2)
@pytest.mark.parametrize("theory", STEERING)
def test_reports_and_instructions_name_principles_that_exist(
    theory: str, model: tuple[Any, Any]
) -> None:
    known = {principle.id for principle in principles()}
    found = reports(theory)
    assert found
    for report in found:
        assert report.principle_ids
        assert set(report.principle_ids) <= known
    kept = MapScore(*model, found, tau=-1, window=10**5)(SITUATIONS).kept
    assert all(kept)
    for instruction in (item for items in kept for item in items):
        assert instruction.principle_ids
        assert set(instruction.principle_ids) <= known


def test_a_report_fits_its_prompt() -> None:
    (report, *_) = reports()
    long = dataclasses.replace(report, findings=report.findings * 100)
    assert len(long.text) == 5000


def test_a_hostile_principle_stays_inside_a_quoted_line(model: tuple[Any, Any]) -> None:
    """Its text is in the prompt as letters of one quoted string, and no control token of it is."""
    hostile = next(r for r in reports() if "Ignore the above" in r.text)
    prompt = before(CHATML, hostile) + after(CHATML, HOSTILE, GRADING)
    for line in str(prompt).splitlines():
        if "Ignore the above" in line:
            assert line.startswith("> ")
    assert json.dumps(" ".join(HOSTILE.split()))[:-1] in str(prompt)
    _, tokenizer = model
    ids = token_ids(tokenizer, prompt)
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3  # system, user, answer
    asked = json.loads(material(hostile)[1][1])
    assert any("Ignore the above" in item["rule"] for item in asked["rules"])
    assert "Ignore" not in material(hostile)[0][1]


def test_a_hostile_principle_gives_no_instruction_that_names_an_action(
    model: tuple[Any, Any],
) -> None:
    hostile = next(r for r in reports() if "Ignore the above" in r.text)
    rule = next(item for item in hostile.findings if "Ignore" in item.rule)
    assert not rule.advises
    for advises, reason in ((False, "says what a better one says"), (True, "names an action")):
        finding = dataclasses.replace(rule, advises=advises)
        only = dataclasses.replace(hostile, findings=(finding,))
        found = MapScore(*model, [only], tau=-1)(SITUATIONS[:1])
        assert found.kept == [[]]
        assert found.counts[reason] == 1


def test_a_model_words_a_report_and_a_second_build_asks_nothing(tmp_path: Path) -> None:
    template = reports()[:1]
    judge = Scripted("Sure! " + json.dumps(SAID) + " Done.")
    written, counts = write_reports(template, judge, answers(tmp_path))
    assert written[0].summary == SAID["summary"]
    assert written[0].rating == 7.5
    cited = {name for item in template[0].findings[:2] for name in item.principle_ids}
    assert {*written[0].findings[0].principle_ids} == cited < {*template[0].principle_ids}
    assert written[0].findings[0].advises
    assert written[0].by == "scripted"
    assert counts["written"] == 1
    again, _ = write_reports(template, Scripted(), answers(tmp_path))
    assert again == written


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rating": 11}, "'rating' is no number from 0 to 10"),
        ({"rating": True}, "'rating' is no number"),
        ({"title": ""}, "no text 'title'"),
        ({"summary": "Be honest."}, "is not of the form"),
        ({"findings": []}, "no findings"),
        ({"findings": ["x"]}, "no findings"),
        (finding(rule="When you are asked, take Action 1."), "names an action"),
        (finding(rule="When people lie, trust suffers."), "does not speak to you"),
        (finding(of=[]), "'of' names no rules from 1 to"),
        (finding(of=[0]), "'of' names no rules from 1 to"),
        (finding(of="1"), "'of' names no rules from 1 to"),
        (finding(of=None), "'of' names no rules from 1 to"),
    ],
)
def test_a_bad_report_is_refused_and_the_template_stays(
    change: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    words = json.dumps(SAID | change)
    with pytest.raises(JudgeError, match=problem):
        read_report(reports()[0], words, "x")
    written, counts = write_reports(reports()[:1], Scripted(words, "none"), answers(tmp_path))
    assert written == reports()[:1]
    assert counts["template"] == 1
    assert counts["failed answers"] == 2


def test_a_rule_that_only_published_ones_stand_behind_advises_nobody() -> None:
    report = next(r for r in reports() if not r.findings[-1].advises)
    last = len(report.findings)
    known = {item.rule for item in report.findings}
    assert {item["rule"] for item in json.loads(material(report)[1][1])["rules"]} == known
    with pytest.raises(JudgeError, match="no finding of a rule that advises"):
        read_report(report, json.dumps(SAID | finding(of=[last])), "x")
    two = [SAID["findings"][0] | {"of": numbers} for numbers in ([last], [1, last])]
    made = read_report(report, json.dumps(SAID | {"findings": two}), "x")
    assert [item.advises for item in made.findings] == [False, True]
    assert made.findings[0].principle_ids == report.findings[-1].principle_ids


def test_no_principle_of_several_stands_behind_two_instructions() -> None:
    """A model's rule may come from several principles; two that share one say it twice."""
    (report, *_) = reports()
    shared, other = (
        dataclasses.replace(report.findings[0], principle_ids=ids)
        for ids in (("a", "b"), ("b", "c"))
    )
    one, two = (
        dataclasses.replace(report, id=name, findings=(item,))
        for name, item in (("x", shared), ("y", other))
    )
    counts: Counter[str] = Counter()
    assert [item.report_id for item in advice([(one, 70.0), (two, 60.0)], {}, counts)] == ["x"]
    assert counts["says what a better one says"] == 1


# -- the answer of a map call ------------------------------------------------------------------


def test_what_is_kept_is_above_tau_best_first_and_at_most_top() -> None:
    found = [Instruction(r, s, r, ("p",)) for s, r in ((60, "a"), (70, "c"), (70, "b"), (99, "d"))]
    again = Instruction("d", 80, "e", ("p",))
    assert keep([again, *found], 60, 100) == keep(found, 60, 100)  # no text twice
    assert [item.report_id for item in keep(found, 60, 100)] == ["d", "b", "c"]
    assert [item.report_id for item in keep(found, 60, 2)] == ["d", "b"]
    assert keep(found, 100, 100) == []


# -- scores ------------------------------------------------------------------------------------


def test_scores_with_shared_prefixes_are_those_of_whole_prompts(model: tuple[Any, Any]) -> None:
    """(R1): the expected value of the grades after the whole prompt, run by itself."""
    lm, tokenizer = model
    found = reports()
    pairs = [(r, s) for r in range(len(found)) for s in range(len(SITUATIONS))]
    scores = MapScore(lm, tokenizer, found).scores(pairs, SITUATIONS)
    for (r, s), score in list(zip(pairs, scores.tolist(), strict=True))[::2]:
        text = before(CHATML, found[r]) + after(CHATML, SITUATIONS[s], GRADING)
        with torch.no_grad():
            logits = lm(input_ids=torch.tensor([token_ids(tokenizer, text)])).logits[0, -1]
        shares = logits[tokenizer.convert_tokens_to_ids(list(GRADES))].softmax(0)
        assert score == pytest.approx(
            sum(25.0 * g * p for g, p in enumerate(shares.tolist())), abs=1e-3
        )


def test_one_situation_at_a_time_gives_the_same_scores(model: tuple[Any, Any]) -> None:
    mapper = MapScore(*model, reports(), tau=-1)
    together = mapper(SITUATIONS).kept
    for situation, items in zip(SITUATIONS, together, strict=True):
        (alone,) = mapper([situation]).kept
        assert [i.report_id for i in alone] == [i.report_id for i in items]
        assert [i.score for i in alone] == pytest.approx([i.score for i in items], abs=1e-3)


def test_prefilter_maps_the_closest_reports_alone(model: tuple[Any, Any]) -> None:
    vectors_RD = torch.nn.functional.normalize(torch.eye(3, 4) + 0.01, dim=1)
    near = closest(vectors_RD, vectors_RD[[2, 0]], 1)
    assert near == [[2], [0]]
    found = sorted(reports(), key=lambda report: report.id)[:3]
    kept = MapScore(*model, found, tau=-1)(SITUATIONS[:2], near).kept
    assert [[i.report_id for i in items] for items in kept] == [[found[2].id], [found[0].id]]
    assert closest(vectors_RD, vectors_RD[:1], 9) == [[0, 1, 2]]


def test_no_reports_is_an_error(model: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="reports: there are none"):
        MapScore(*model, [])

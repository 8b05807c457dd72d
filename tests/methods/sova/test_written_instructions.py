"""Instructions in a model's own words: what is read from its JSON, and what it is asked."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from methods.sova.graph_parts import SITUATIONS, reports

from zoo.backbone import Backbone, load
from zoo.errors import InputError
from zoo.judges.judge import JudgeError
from zoo.markup import token_ids
from zoo.methods.sova.instruct import MAX_TOKENS, MapScore
from zoo.methods.sova.instruction import Instruction
from zoo.methods.sova.map_prompts import GRADING, WRITING, after
from zoo.methods.sova.written_instruction import MAX_INSTRUCTION, ScoreError, read_instruction


@pytest.fixture(scope="module")
def model() -> tuple[Any, Any]:
    lm, tokenizer = load(Backbone("tiny-llama"))
    return lm.eval(), tokenizer


def said(*instructions: Any) -> str:
    return "```json\n" + json.dumps({"Instructions": list(instructions)}) + "\n```"


@pytest.mark.parametrize(
    "text", ['Say "no" to him.', r"Keep C:\notes closed.", "Trust, {then} act"]
)
def test_quotes_and_backslashes_of_an_instruction_are_kept(text: str) -> None:
    words = said({"Instruction": text, "score": 70})
    assert read_instruction(words, reports()[0], Counter()).text == text


@pytest.mark.parametrize(
    ("score", "value"), [(0.92, 0.92), (87.5, 87.5), ("87.5", 87.5), (100, 100)]
)
def test_a_decimal_score_keeps_its_decimals(score: Any, value: float) -> None:
    words = said({"Instruction": "Rest.", "score": score})
    assert read_instruction(words, reports()[0], Counter()).score == value


@pytest.mark.parametrize("score", [None, -1, 101, "high", True, float("nan")])
def test_a_score_that_is_none_is_refused(score: Any) -> None:
    with pytest.raises(ScoreError, match="'score' is no number from 0 to 100"):
        read_instruction(said({"Instruction": "Rest.", "score": score}), reports()[0], Counter())


def test_a_question_is_no_instruction() -> None:
    words = said({"Instruction": "Should you rest?", "score": 70})
    with pytest.raises(JudgeError, match="a question instead of an instruction"):
        read_instruction(words, reports()[0], Counter())


def test_the_first_of_several_instructions_is_taken_and_counted() -> None:
    counts: Counter[str] = Counter()
    words = said({"Instruction": "Rest.", "score": 70}, {"Instruction": "Run.", "score": 90})
    assert read_instruction(words, reports()[0], counts).text == "Rest."
    assert counts["more than one"] == 1


@pytest.mark.parametrize("words", ["", "{", "[1]", '{"Instructions": []}', '{"a": 1}'])
def test_words_without_an_instruction_are_refused(words: str) -> None:
    with pytest.raises(JudgeError) as caught:
        read_instruction(words, reports()[0], Counter())
    assert not isinstance(caught.value, ScoreError)


def test_where_a_model_writes_no_json_the_best_finding_is_scored_by_likelihood(
    model: tuple[Any, Any],
) -> None:
    """And counted, with the reason."""
    found = MapScore(*model, reports()[:2], how="model", tau=-1)(SITUATIONS[:2])
    likely = MapScore(*model, reports()[:2], tau=-1)(SITUATIONS[:2])
    assert [len(items) for items in found.kept] == [2, 2]
    assert found.kept == likely.kept
    assert found.counts["no JSON object in the answer"] == 4
    assert found.counts["best finding instead"] == 4


def test_written_instructions_reach_their_situations_and_others_are_counted(
    model: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a model that can write JSON would say; only the pairs of `prefilter` are asked."""
    mapper = MapScore(*model, reports()[:2], how="model")
    first, second = mapper.reports
    words = {
        (first.id, 0): said({"Instruction": 'Say "no".', "score": 60.5}),
        (second.id, 0): said({"Instruction": "Rest, and take action 2.", "score": 99}),
        (second.id, 1): said({"Instruction": "Ask for help.", "score": 140}),
        (second.id, 2): said({"Instruction": "Rest.", "score": 60}),
    }
    near = [[0, 1], [1], [1]]

    rounds = []

    class Answering:
        def __init__(self, group: Any) -> None:
            self.group = group

        def ask(self, questions: Any, *, max_new_tokens: int) -> list[str]:
            places = [
                next(
                    (s for s, text in enumerate(SITUATIONS) if question and text in question), None
                )
                for question in questions
            ]
            rounds.append(
                {(r, s) for r, s in zip(self.group, places, strict=True) if s is not None}
            )
            pairs = zip(self.group, places, strict=True)
            return [words.get((mapper.reports[r].id, s), "") for r, s in pairs]

    monkeypatch.setattr(mapper, "_context", Answering)
    found = mapper(SITUATIONS, near)
    assert rounds == [{(0, 0), (1, 0)}, {(1, 1)}, {(1, 2)}]
    said_no = Instruction('Say "no".', 60.5, first.id, first.principle_ids, written=True)
    assert found.kept == [[said_no], [], []]
    assert found.counts["names an action"] == 1
    assert found.counts["'score' is no number from 0 to 100"] == 1
    assert found.counts["kept"] == found.counts["not kept"] == 1
    assert found.counts["best finding instead"] == 0  # a bad score is dropped, like a named action


def test_a_long_instruction_is_none(
    model: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 120 tokens it is one, of 121 the finding stands in."""
    mapper = MapScore(*model, reports()[:1], how="model", tau=-1)
    _, tokenizer = model
    size = len(tokenizer.encode("a", add_special_tokens=False))
    assert size == 1
    for length, written in ((MAX_INSTRUCTION, True), (MAX_INSTRUCTION + 1, False)):
        words = said({"Instruction": "a" * length, "score": 70})
        monkeypatch.setattr(mapper, "_ask", lambda *_, words=words: [words])
        assert len(tokenizer.encode("a" * length, add_special_tokens=False)) == length
        found = mapper(SITUATIONS[:1])
        assert [item.written for item in found.kept[0]] == [written]
        assert found.counts["best finding instead"] == (not written)


@pytest.mark.parametrize("how", ["likelihood", "model"])
def test_the_first_lines_of_a_long_conversation_are_left_out(
    model: tuple[Any, Any], how: Any
) -> None:
    """What is left fits with the longest report, the question and the answer, to the token."""
    question, answer = (WRITING, MAX_TOKENS) if how == "model" else (GRADING, 1)
    plain = MapScore(*model, reports()[:2], how=how)
    last = "User: I lost my keys."
    longest = max(map(len, plain.befores))
    needed = longest + answer
    needed += len(token_ids(plain.tokenizer, after(plain.chat, last, question)))
    talk = f"User: hello!\nAgent: well?\n{last}"
    assert MapScore(*model, reports()[:2], how=how, window=needed)._fitting(talk) == last
    assert plain._fitting(talk) == talk
    with pytest.raises(InputError, match="situation 'User: I lost my keys.': .* raise max_length"):
        MapScore(*model, reports()[:2], how=how, window=needed - 1)([talk])


def test_reports_answer_about_different_situations_in_one_round(
    model: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many rounds as the most asked report has situations; reports nobody asks are not read."""
    mapper = MapScore(*model, reports()[:3], how="model")
    asked, contexts = [], []
    context, ask = mapper._context, mapper._ask

    def counted(group: Any) -> Any:
        contexts.append(list(group))
        return context(group)

    def watched(made: Any, pairs: Any, situations: Any) -> list[str]:
        asked.append(list(pairs))
        return ask(made, pairs, situations)

    monkeypatch.setattr(mapper, "_context", counted)
    monkeypatch.setattr(mapper, "_ask", watched)
    mapper(SITUATIONS[:3], [[0], [2], [2]])
    (group,) = contexts
    assert sorted(group) == [0, 2]
    first = {0: (0, 0), 2: (2, 1)}
    assert asked == [[first[r] for r in group], [None if r == 0 else (2, 2) for r in group]]

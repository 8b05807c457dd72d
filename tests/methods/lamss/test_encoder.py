"""LaMsS' encoder around its labels: order of use, what is said of them, a sample of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from zoo.errors import InputError
from zoo.methods.lamss.encoder import SAMPLE, SkepticEncoder
from zoo.records import PlainText, Triple

QUESTIONS = [Triple(f"{i}?", "", "yes", id=str(i)) for i in range(4)]


class Fixed:
    """Answers with given words, the first of them to the first question; doubts nothing."""

    backbone = SimpleNamespace(name="fixed")

    def __init__(self, encode: Callable[[str], list[int]], words: Sequence[str]) -> None:
        self.said, self.dropped, self.too_large = [encode(word) for word in words], 0, False

    def answers(self, prompts: Sequence[Any], choices: Sequence[Any]) -> list[list[int]]:
        return [self.said[i % len(self.said)] for i in range(len(prompts))]

    def doubts(self, rows: Sequence[Any]) -> list[list[float]]:
        return [[0.0] * len(tokens) for _, tokens in rows]

    def check_size(self) -> None:
        if self.too_large:
            raise InputError("too large")

    def drop(self) -> None:
        self.dropped += 1


@pytest.fixture
def encoder(make: Callable[..., Any]) -> SkepticEncoder:
    return make("LaMsS", "tiny-llama").encoder()


def test_a_record_is_studied_before_it_is_encoded(encoder: SkepticEncoder) -> None:
    encoder.labels = Fixed(encoder.ids, ["yes"])
    with pytest.raises(RuntimeError, match=r"study\(records, split\) comes before"):
        encoder(QUESTIONS[0])
    encoder.study(QUESTIONS[:1], "val")
    assert len(encoder(QUESTIONS[0])) == 2


@pytest.mark.parametrize(
    ("words", "split", "said"),
    [
        (["yes"], "train", "all 4 answers of the model before training are right"),
        (["no"], "train", "all 4 answers of the model before training are wrong"),
        (["yes", "no"], "train", ""),
        (["no"], "val", ""),
        (None, "train", ""),
    ],
)
def test_answers_that_are_all_alike_are_warned_of(
    encoder: SkepticEncoder,
    words: list[str] | None,
    split: str,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Then there is nothing to tell apart; where nobody labels, all are right by agreement."""
    encoder.labels = None if words is None else Fixed(encoder.ids, words)
    with caplog.at_level(logging.WARNING):
        encoder.study(QUESTIONS, split)
    assert [record.getMessage()[: len(said)] for record in caplog.records] == [said] * bool(said)


def test_the_labelling_model_is_dropped_also_where_labels_fail(encoder: SkepticEncoder) -> None:
    encoder.labels = Fixed(encoder.ids, ["yes"])
    encoder.study(QUESTIONS, "train")
    assert encoder.labels.dropped == 1
    with pytest.raises(InputError, match="fewer than two tokens"):
        encoder.study([PlainText("a", id="short")], "train")
    assert encoder.labels.dropped == 2


def test_right_and_wrong_are_shown_equally_often_in_training(encoder: SkepticEncoder) -> None:
    """Of one wrong answer among four the second pass comes three times, elsewhere once."""
    encoder.labels = Fixed(encoder.ids, ["no", "yes", "yes", "yes"])
    for split, times in (("train", [4, 2, 2, 2]), ("val", [2, 2, 2, 2])):
        encoder.study(QUESTIONS, split)
        assert [len(encoder(question)) for question in QUESTIONS] == times
    assert [encoder.studied[question].level for question in QUESTIONS] == [4, 0, 0, 0]


def test_a_preview_labels_a_few_records(encoder: SkepticEncoder) -> None:
    """Of all that are known, the one that is shown among them; or it says why it did not."""
    many = [Triple(f"{i}?", "", "yes", id=str(i)) for i in range(SAMPLE + 6)]
    encoder.labels, encoder.sample_labels = None, Fixed(encoder.ids, ["yes", "no"])
    encoder.study(many, "train")
    first, *rest = encoder.preview(encoder(many[-1])[0])
    assert first == f"labels      of {SAMPLE} records by fixed, in quantiles of these alone"
    assert rest[0].split()[:2] == ["gold", "answer"]
    assert f"s_0 {SAMPLE // 2:4} ##########" in next(line for line in rest if "whole" in line)
    assert encoder.labels is None
    assert many[-1] in encoder.studied
    encoder.sample_labels.too_large = True
    first, *_ = encoder.preview(encoder(many[0])[0])
    assert first == "labels      none yet, the levels below are all s_0: too large"
    encoder.sample_labels = None
    assert " by nobody, " in encoder.preview(encoder(many[0])[0])[0]


def test_a_preview_with_labels_shows_both_passes_of_a_question(encoder: SkepticEncoder) -> None:
    encoder.labels = Fixed(encoder.ids, ["no"])
    encoder.study([*QUESTIONS, text := PlainText("Some words.", id="t")], "train")
    lines = encoder.preview(encoder(QUESTIONS[0])[0])
    assert sum("How skeptical are you" in line for line in lines) == 1
    assert not any(line.startswith("labels") for line in lines)
    assert len(encoder.preview(encoder(text)[0])) < len(lines)

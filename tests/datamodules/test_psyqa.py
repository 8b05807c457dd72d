"""PsyQA's labelled answers."""

import json

import pytest

from datamodules import PsyQA
from datamodules.files import SAMPLES
from datamodules.psyqa import STRATEGIES

SPLITS = ("train", "val", "test")


def item(**changes):
    answer = {
        "answer_text": "0123456789",
        "has_label": True,
        "labels_sequence": [
            {"start": 0, "end": 4, "type": "Restatement"},
            {"start": 4, "end": 10, "type": "Information"},
        ],
    }
    made = {"question": "q", "description": "d", "keywords": "", "questionID": 1}
    return {**made, "answers": [{**answer, **changes}]}


def test_sample():
    data = PsyQA()
    records = [record for split in SPLITS for record in data.records(split)]
    assert [len(data.records(split)) for split in SPLITS] == [4, 1, 1]
    assert len(records) == 6  # the answer without labels is left out
    first = next(r for r in records if r.query.startswith("I cannot speak"))
    assert first.query.endswith("all look at me. I have a talk next week.")
    assert first.relevant == (("Restatement", 1), ("Interpretation", 1), ("Direct Guidance", 1))
    assert first.pool == STRATEGIES
    assert first.id == "psyqa.json:2:answers[0]"
    bare = next(r for r in records if r.query.startswith("I sleep badly"))
    assert bare.query == "I sleep badly before exams"  # no description, no empty line


def test_one_record_per_strategy():
    """The same queries and judgements, one relevant document at a time."""
    every = PsyQA(positives="all").records("train")
    each = PsyQA(positives="each").records("train")
    assert all(len(record.relevant) == 1 for record in each)
    pairs = {(r.query, name) for r in every for name, _ in r.relevant}
    assert {(r.query, r.relevant[0][0]) for r in each} == pairs
    assert len(each) == len(pairs) > len(every)
    assert len({record.id for record in each}) == len(each)


@pytest.mark.parametrize(
    ("bad", "parts"),
    [
        (item(has_label=1), ["answers[0]", "'has_label' must be true or false"]),
        (item(labels_sequence=None), ["answers[0]", "'labels_sequence' must be a list"]),
        (item(labels_sequence=[]), ["answers[0]", "labels_sequence is empty"]),
        (
            item(labels_sequence=[{"start": 0, "end": 4, "type": "Restating"}]),
            ["labels_sequence[0]", "unknown strategy 'Restating'", "'Restatement'?"],
        ),
        (
            item(labels_sequence=[{"start": 0, "end": 11, "type": "Others"}]),
            ["labels_sequence[0]", "0 to 11 is no stretch of 10 characters"],
        ),
        (item(labels_sequence=["x"]), ["labels_sequence[0]", "expected an object"]),
        ({**item(), "answers": ["x"]}, ["answers[0]", "expected an object"]),
        ({**item(), "question": " "}, ["'question' is empty"]),
    ],
)
def test_bad_items(refused, tmp_path, bad, parts):
    path = tmp_path / "mine.json"
    items = [{**item(), "question": f"q{i}"} for i in range(10)]
    text = "[\n" + ",\n".join(json.dumps(part) for part in [*items, bad]) + "\n]\n"
    path.write_text(text, encoding="utf-8")
    data = PsyQA(str(path))
    refused(lambda: [data.records(s) for s in SPLITS], "mine.json:12", *parts)


def test_bad_options(refused):
    refused(lambda: PsyQA(positives="first"), "data.positives: 'first'", "all, each")
    refused(lambda: PsyQA(str(SAMPLES / "psyqa.json")).records("val"), "too few to split 80")

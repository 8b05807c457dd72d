"""A user's own JSONL."""

import inspect
import json
import re

import pytest

import datamodules
from datamodules import Triples
from zoo.errors import ANY_NAME
from zoo.records import Triple


def test_sample_is_every_split():
    records = Triples().records("train")
    assert len(records) == 4
    assert Triples().records("test") == records
    assert records[2].system == "Answer in one short sentence."
    assert records[3] == Triple(
        "Say good morning to the team.", "", "Good morning, everyone!", id="triples.jsonl:4"
    )


def test_files_per_split(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"query": "q", "answer": "a", "id": "x7"}\n', encoding="utf-8")
    data = Triples(str(path), test=str(path))
    assert data.records("train") == data.records("test") == [Triple("q", "", "a", id="x7")]


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"query": "q", "answer": "a", "thougth": "t"}, ["unknown field 'thougth'", "'thought'?"]),
        ({"query": "q", "anwser": "a"}, ["unknown field 'anwser'", "did you mean 'answer'?"]),
        ({"query": "q"}, ["field 'answer' is missing"]),
        ({"query": "q", "answer": " "}, ["field 'answer' is empty"]),
        ({"query": 1, "answer": "a"}, ["field 'query' must be a string, found an integer"]),
        ({"query": "q", "answer": "a", "kind": 3}, ["'kind' must be a string, found an integer"]),
    ],
)
def test_bad_lines(refused, tmp_path, item, parts):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"query": "q", "answer": "a"}\n' + json.dumps(item), encoding="utf-8")
    refused(lambda: Triples(str(path)).records("train"), "mine.jsonl:2", *parts)


def test_missing_files(refused, tmp_path):
    refused(lambda: Triples(str(tmp_path / "no.jsonl")).records("train"), "no.jsonl")
    refused(lambda: Triples(test="x.jsonl").records("train"), "'train'", "set train to")
    refused(lambda: Triples("x.jsonl").records("val"), "'val'", "set val to")


def test_every_module_describes_its_own_arguments():
    for name in set(datamodules.__all__) - {"ZooDataModule"}:
        cls = getattr(datamodules, name)
        written = vars(cls).get("__init__", lambda self: None)  # else it has the base's alone
        parameters = inspect.signature(written).parameters
        own = [n for n, p in parameters.items() if n != "self" and p.kind not in ANY_NAME]
        arguments = cls.__doc__.partition("Raises:")[0]
        described = re.findall(r"^    +(\w+): ", arguments, flags=re.MULTILINE)
        assert described == own, name


def test_limits_keep_the_first_records():
    for name in set(datamodules.__all__) - {"ZooDataModule", "Documents"}:  # it has no records
        cls = getattr(datamodules, name)
        assert cls(max_val=2).records("val") == cls().records("val")[:2], name


def test_package_names():
    assert {name for name in dir(datamodules) if name[0].isupper()} == set(datamodules.__all__)
    with pytest.raises(AttributeError, match="Esconv"):
        _ = datamodules.Esconv


def test_no_further_than_asked(tmp_path, refused):
    """`max_train` stops reading, so what is wrong behind it is not seen."""
    path = tmp_path / "t.jsonl"
    path.write_text('{"query": "q", "answer": "a"}\n' * 3 + "{broken\n")
    assert len(Triples(str(path), max_train=3).records("train")) == 3
    refused(lambda: Triples(str(path)).records("train"), "t.jsonl:4")

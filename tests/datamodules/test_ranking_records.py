"""A user's own queries with documents."""

import json

import pytest

from datamodules import RankingRecords
from zoo.records import Document

CORPUS = [{"id": "a", "text": "one"}, {"id": "b", "text": "two", "title": "Two"}]


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return str(path)


def test_sample_is_every_split():
    records = RankingRecords().records("train")
    assert RankingRecords().records("test") == records
    assert [record.id for record in records[:2]] == [f"ranking_records.jsonl:{n}" for n in (1, 2)]
    assert records[2].id == "laptop"
    assert records[2].kind == "network"
    assert records[0].relevant == (("tray", 2), ("restart", 1))
    assert records[1].pool == ("ink", "wifi")  # its own candidates, not those of other queries
    assert len(records[0].corpus) == 4


def test_a_corpus_file(tmp_path):
    corpus = write(tmp_path / "docs.jsonl", CORPUS)
    rows = [
        {"query": "q", "relevant": {"b": 1}},
        {"query": "r", "relevant": {"b": 1, "a": -1}, "candidates": ["b", "a"]},
        {"query": "missed", "relevant": {"b": 1}, "candidates": ["a"]},  # as a first stage gives it
    ]
    path = write(tmp_path / "q.jsonl", rows)
    data = RankingRecords(path, test=path, corpus=corpus)
    first, second, third = data.records("train")
    assert first.pool == ("a", "b")
    assert second.pool == ("b", "a")
    assert third.pool == ("a",)
    assert first.corpus.documents["b"] == Document("b", "two", "Two")
    assert data.records("test")[0].corpus is first.corpus


def test_ids_may_be_integers_and_titles_null(tmp_path):
    parts = [{"id": 1, "text": "one", "title": None}, {"id": 2, "text": "two"}]
    row = {"query": "q", "relevant": {"2": 1}, "id": 9}
    own = write(tmp_path / "own.jsonl", [{**row, "candidates": parts}])
    corpus = write(tmp_path / "docs.jsonl", parts)
    ids = write(tmp_path / "ids.jsonl", [{**row, "candidates": [1, 2]}])
    for data in (RankingRecords(own), RankingRecords(ids, corpus=corpus)):
        (record,) = data.records("train")
        assert (record.id, record.pool, record.relevant) == ("9", ("1", "2"), (("2", 1),))
        assert record.corpus.documents["1"] == Document("1", "one")


OWN = [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}]


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"query": "q", "relevent": {"a": 1}}, ["unknown field 'relevent'", "'relevant'?"]),
        ({"query": "q", "candidates": OWN}, ["field 'relevant' is missing"]),
        ({"query": " ", "relevant": {"a": 1}, "candidates": OWN}, ["field 'query' is empty"]),
        ({"query": "q", "relevant": ["a"], "candidates": OWN}, ["'relevant' must be an object"]),
        ({"query": "q", "relevant": {"a": "1"}, "candidates": OWN}, ["'a' must be an integer"]),
        ({"query": "q", "relevant": {"a": True}, "candidates": OWN}, ["must be an integer"]),
        ({"query": "q", "relevant": {"a": 0}, "candidates": OWN}, ["no relevant document"]),
        ({"query": "q", "relevant": {}, "candidates": OWN}, ["no relevant document"]),
        ({"query": "q", "relevant": {"x": 1}, "candidates": OWN}, ["'x' is not among candidates"]),
        ({"query": "q", "relevant": {"a": 1}}, ["field 'candidates' is missing"]),
        ({"query": "q", "relevant": {"a": 1}, "candidates": ["a"]}, ["candidates[0]", "corpus"]),
        (
            {"query": "q", "relevant": {"a": 1}, "candidates": [{**OWN[0], "body": "x"}]},
            ["candidates[0]", "unknown field 'body'"],
        ),
        (
            {"query": "q", "relevant": {"a": 1}, "candidates": [{"id": "a", "text": ""}]},
            ["candidates[0]", "'text' is empty"],
        ),
        (
            {"query": "q", "relevant": {"a": 1}, "candidates": [{"id": "a", "text": "new"}]},
            ["'a' names another text above"],
        ),
        ({"query": "q", "relevant": {"a": 1}, "candidates": OWN[:1] * 2}, ["'a' is there twice"]),
        ({"query": "q", "relevant": {"a": 1}, "candidates": OWN, "kind": 3}, ["'kind' must be"]),
    ],
)
def test_bad_lines(refused, tmp_path, item, parts):
    good = {"query": "q", "relevant": {"a": 1}, "candidates": OWN}
    path = write(tmp_path / "mine.jsonl", [good, item])
    refused(lambda: RankingRecords(path).records("train"), "mine.jsonl:2", *parts)


@pytest.mark.parametrize(
    ("corpus", "item", "parts"),
    [
        (CORPUS, {"relevant": {"x": 1}}, ["q.jsonl:1", "judged document 'x' is not in the corpus"]),
        (CORPUS, {"candidates": ["a", "x"]}, ["q.jsonl:1", "candidate 'x' is not in the corpus"]),
        (CORPUS, {"candidates": ["a", "a"]}, ["q.jsonl:1", "candidate 'a' is there twice"]),
        (CORPUS, {"candidates": []}, ["q.jsonl:1", "field 'candidates' is empty"]),
        (CORPUS, {"candidates": [3.5]}, ["q.jsonl:1", "'candidates[0]' must be a string"]),
        (CORPUS, {"relevant": {"a": 10**30}}, ["q.jsonl:1", "'a'", "above 2147483647"]),
        ([*CORPUS, CORPUS[0]], {}, ["docs.jsonl:3", "'a' is there twice", "docs.jsonl:1"]),
        ([{"id": "a", "text": " "}], {}, ["docs.jsonl:1", "document 'a' is empty"]),
        ([{"id": "", "text": "x"}], {}, ["docs.jsonl:1", "field 'id' is empty"]),
        ([{"id": "a", "txt": "x"}], {}, ["docs.jsonl:1", "unknown field 'txt'", "'text'?"]),
    ],
)
def test_bad_corpus(refused, tmp_path, corpus, item, parts):
    path = write(tmp_path / "q.jsonl", [{"query": "q", "relevant": {"a": 1}, **item}])
    documents = write(tmp_path / "docs.jsonl", corpus)
    refused(lambda: RankingRecords(path, corpus=documents).records("train"), *parts)


def test_missing_files(refused, tmp_path):
    refused(lambda: RankingRecords(str(tmp_path / "no.jsonl")).records("train"), "no.jsonl")
    refused(lambda: RankingRecords(test="x.jsonl").records("train"), "'train'", "set train to")
    path = write(tmp_path / "q.jsonl", [{"query": "q", "relevant": {"a": 1}}])
    refused(lambda: RankingRecords(path, corpus="/no/docs").records("train"), "/no/docs")

"""BEIR folders, flat names, judgements with and without a header, runs to rank again."""

import gzip
import json
import shutil

import pytest

from datamodules import BEIR
from datamodules.files import SAMPLES
from zoo.methods.lahore.encoder import RelevanceEncoder
from zoo.tiny_models import byte_tokenizer

SPLITS = ("train", "val", "test")
CORPUS = [{"_id": f"d{i}", "title": "", "text": f"text {i}"} for i in range(6)]
QUERIES = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(6)]


def write(folder, *, corpus=CORPUS, queries=QUERIES, test="q0\td0\t1\nq1\td1\t2\n", **qrels):
    (folder / "qrels").mkdir(exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = [json.dumps(row) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, text in {"test": test, **qrels}.items():
        (folder / "qrels" / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def test_sample():
    data = BEIR()
    records = {split: data.records(split) for split in SPLITS}
    assert {s: [r.id for r in rs] for s, rs in records.items()} == {
        "train": ["q1", "q2", "q3"],
        "val": ["q4", "q5"],
        "test": ["q6", "q7"],
    }
    first = records["train"][0]
    assert first.query == "how often should I water tomato plants"
    assert first.relevant == (("b1", 2), ("b5", 1), ("b2", 0))
    assert first.pool == ("b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8")
    assert first.corpus.documents["b1"].content.startswith("Watering tomatoes\nTomatoes want")
    assert first.corpus.documents["b5"].content.startswith("Slugs")  # no title, no empty line
    assert all(r.corpus is first.corpus for rs in records.values() for r in rs)


def test_folder_and_flat_names_say_the_same(tmp_path):
    folder = tmp_path / "own"
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        packed = gzip.compress((SAMPLES / f"beir.{name}.jsonl").read_bytes())
        (folder / f"{name}.jsonl.gz").write_bytes(packed)
    for name in ("train", "dev", "test"):
        shutil.copy(SAMPLES / f"beir.qrels.{name}.tsv", folder / "qrels" / f"{name}.tsv")
    for split in SPLITS:
        assert BEIR(str(folder)).records(split) == BEIR(str(SAMPLES), name="beir").records(split)


def test_unjudged_and_irrelevant_queries_are_left_out(tmp_path):
    judged = "query-id\tcorpus-id\tscore\nq3\td3\t1\nq1\td0\t0\nq1\td2\t-1\nq2\td2\t1\nq2\td2\t1\n"
    records = BEIR(str(write(tmp_path, test=judged))).records("test")
    assert [record.id for record in records] == ["q2", "q3"]  # in the order of the queries' file
    assert records[0].relevant == (("d2", 1),)


def test_header_only_where_it_is_one(tmp_path, refused):
    queries = [{"_id": "query7", "text": "seven"}]
    write(tmp_path, queries=queries, test="query7\td1\t1\n")
    assert [r.id for r in BEIR(str(tmp_path)).records("test")] == ["query7"]
    write(tmp_path, test="q0\td0\tone\n")
    refused(
        lambda: BEIR(str(tmp_path)).records("test"), "test.tsv:1", "must be an integer", "'one'"
    )


def test_dividing_the_test_judgements(tmp_path, refused):
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(6))
    folder = str(write(tmp_path, test=judged))
    refused(lambda: BEIR(folder).records("train"), "train.tsv", "set divide_test to true")
    data = BEIR(folder, divide_test=True)
    parts = {split: {r.id for r in data.records(split)} for split in SPLITS}
    assert sorted(map(len, parts.values())) == [1, 1, 4]
    assert set.union(*parts.values()) == {f"q{i}" for i in range(6)}
    again = BEIR(folder, divide_test=True, seed=3)
    assert {r.id for r in again.records("val")} == parts["val"]
    refused(lambda: BEIR(str(tmp_path / "no")).records("test"), "no such file or folder")


def test_a_run_gives_the_candidates(tmp_path, refused):
    write(tmp_path, train="q0\td5\t1\nq0\td1\t1\n", test="q0\td5\t1\n")
    run = tmp_path / "bm25.run"
    lines = [f"q0 Q0 d{i} 0 {score} bm25" for i, score in enumerate([1.5, 9, 9, 0.1, 3, 0.2])]
    run.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = BEIR(str(tmp_path), run=str(run), num_candidates=3)
    assert data.records("test")[0].candidates == ("d2", "d1", "d4")
    assert data.records("test")[0].relevant == (("d5", 1),)  # missed, which costs recall
    assert data.records("train")[0].candidates == ("d2", "d1", "d4", "d5")  # something to learn
    for text, parts in {
        "q0 Q0 d1 1 2.5": ["bm25.run:1", "5 cells, expected 6"],
        "q0 Q0 d9 1 2.5 x": ["bm25.run:1", "'d9' is not in the corpus"],
        "q0 Q0 d1 1 2 x\nq0 Q0 d1 2 1 x": ["bm25.run:2", "'d1' is there twice"],
        "q0 Q0 d1 1 high x": ["bm25.run:1", "must be a number, found 'high'"],
        "q0 Q0 d1 1 nan x": ["bm25.run:1", "must be a number, found 'nan'"],
        "q1 Q0 d1 1 2 x": ["bm25.run", "nothing was ranked for query 'q0'"],
    }.items():
        run.write_text(text + "\n", encoding="utf-8")
        refused(lambda: BEIR(str(tmp_path), run=str(run)).records("test"), *parts)


def changed(rows, index, **values):
    return [{**row, **values} if i == index else row for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"test": "q0\td9\t1\n"}, ["test.tsv:1", "document 'd9' is not in the corpus"]),
        ({"test": "q0\td0\t1\nq9\td0\t1\n"}, ["test.tsv:2", "query 'q9' is not in the queries'"]),
        ({"test": "q0\td0\n"}, ["test.tsv:1", "2 cells between tabs or blanks"]),
        ({"test": "q0 0 d0 1 x\n"}, ["test.tsv:1", "5 cells between tabs or blanks"]),
        ({"test": f"q0\td0\t{'9' * 5000}\n"}, ["test.tsv:1", "must be an integer, found '999"]),
        ({"test": "q0\td0\t2147483648\n"}, ["test.tsv:1", "above 2147483647"]),
        ({"test": "q0\td0\t1\nq0\td0\t2\n"}, ["test.tsv:2", "grade 2 for query 'q0', but 1 above"]),
        ({"test": "q0\td0\t0\n"}, ["test.tsv", "no query has a relevant document"]),
        ({"corpus": changed(CORPUS, 2, text=" ")}, ["corpus.jsonl:3", "'d2' is empty", "skip_em"]),
        ({"corpus": changed(CORPUS, 2, _id="d0")}, ["corpus.jsonl:3", "'d0' is there twice", ":1"]),
        ({"corpus": changed(CORPUS, 1, text=3)}, ["corpus.jsonl:2", "'text' must be a string"]),
        ({"corpus": [{"id": "d0", "text": "x"}]}, ["corpus.jsonl:1", "'_id' is missing", "'id'"]),
        ({"queries": changed(QUERIES, 1, _id="q0")}, ["queries.jsonl:2", "'q0' is there twice"]),
        ({"queries": changed(QUERIES, 1, _id=True)}, ["queries.jsonl:2", "'_id' must be a string"]),
        ({"queries": changed(QUERIES, 1, text="")}, ["queries.jsonl:2", "'text' is empty"]),
    ],
)
def test_bad_files(refused, tmp_path, given, parts):
    write(tmp_path, **given)
    data = BEIR(str(tmp_path))
    refused(lambda: data.records("test"), *parts)
    refused(lambda: data.records("test"), *parts)  # nothing half read is kept


def test_empty_documents_may_be_left_out(tmp_path):
    corpus = changed(CORPUS, 0, text="")
    judged = "q0\td0\t1\nq0\td1\t2\nq1\td0\t1\n"
    data = BEIR(str(write(tmp_path, corpus=corpus, test=judged)), skip_empty=True)
    (record,) = data.records("test")  # nothing is left of q1's judgements
    assert record.relevant == (("d1", 2),)
    assert "d0" not in record.corpus.documents


@pytest.mark.parametrize(
    ("test", "kept"),
    [
        ("query-id\tcorpus-id\tscore\nq0\td1\t2\n", 2),
        ("qid\tdocid\trelevance\nq0\td1\t2\n", 2),
        ("topic\titer\tdocument\trel\nq0\t0\td1\t2\n", 2),
        ("q0 0 d1 2\n", 2),
        ("q0 Q0 d1 -1\nq0 Q0 d2 1\n", -1),
    ],
)
def test_headers_and_columns_of_judgements(tmp_path, test, kept):
    (record,) = BEIR(str(write(tmp_path, test=test))).records("test")
    assert dict(record.relevant)["d1"] == kept


def test_ids_may_be_integers_and_titles_null(tmp_path):
    corpus = [{"_id": i, "title": None, "text": f"text {i}"} for i in range(3)]
    write(tmp_path, corpus=corpus, queries=[{"_id": 7, "text": "seven"}], test="7\t1\t1\n")
    (record,) = BEIR(str(tmp_path)).records("test")
    assert (record.id, record.pool, record.relevant) == ("7", ("0", "1", "2"), (("1", 1),))
    assert record.corpus.documents["1"].content == "text 1"


def test_judgements_of_what_is_missing_may_be_left_out(tmp_path, refused, caplog):
    judged = "q0\td9\t1\nq0\td1\t1\nq9\td0\t1\nq1\td8\t1\nq2\td7\t1\n"
    write(tmp_path, test=judged)
    refused(lambda: BEIR(str(tmp_path)).records("test"), "test.tsv:1", "set skip_missing to true")
    run = tmp_path / "bm25.run"
    run.write_text("q0 Q0 d9 1 3 x\nq0 Q0 d2 2 2 x\n", encoding="utf-8")
    data = BEIR(str(tmp_path), run=str(run), skip_missing=True)
    (record,) = data.records("test")
    assert (record.id, record.relevant, record.pool) == ("q0", (("d1", 1),), ("d2",))
    first, second = (row.getMessage() for row in caplog.records)
    assert "test.tsv: 4 judgements left out: line 1, document 'd9' is not in the corpus" in first
    assert first.endswith(" and 1 more")
    assert second.endswith("bm25.run: 1 candidates left out: line 1, document 'd9'")


def test_a_querys_own_document_is_not_ranked(tmp_path):
    """As in BEIR's evaluation; it is no negative in training and no candidate of a run."""
    queries = [{"_id": "d0", "text": "text 0"}, {"_id": "q1", "text": "query 1"}]
    judged = "d0\td1\t1\nd0\td0\t0\nq1\td1\t1\n"
    folder = str(write(tmp_path, queries=queries, test=judged, train=judged))
    for split in ("train", "test"):
        own, other = BEIR(folder).records(split)
        assert own.pool == ("d1", "d2", "d3", "d4", "d5")
        assert other.pool == ("d0", *own.pool)
    pairs = RelevanceEncoder(byte_tokenizer())(own)
    assert [pair.key for pair in pairs] == [f"d0\n{name}" for name in own.pool]
    run = tmp_path / "bm25.run"
    lines = [f"{q} Q0 d{i} 0 {9 - i} x" for q in ("d0", "q1") for i in range(4)]
    run.write_text("\n".join(lines) + "\n", encoding="utf-8")
    own, other = BEIR(folder, run=str(run), num_candidates=2).records("test")
    assert (own.pool, other.pool) == (("d1", "d2"), ("d0", "d1"))
    assert BEIR(folder, ignore_identical_ids=False).records("test")[0].pool[0] == "d0"


def test_real_files(zoo_data):
    """Flat names; MS MARCO's judgements have no header line, DBpedia's have one."""
    folder = str(zoo_data / "beir_samples")
    for name, queries, judged, positives in (("msmarco", 43, 4102, 4102), ("dbpedia", 40, 3709, 0)):
        records = BEIR(folder, name=name).records("test")
        assert len(records) == queries
        assert len(records[0].corpus) == 5000
        grades = [grade for record in records for _, grade in record.relevant]
        assert len(grades) == judged
        assert not positives or sum(grade > 0 for grade in grades) == positives

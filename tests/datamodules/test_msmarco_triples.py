"""MS MARCO triples of texts and of ids."""

import pytest

from datamodules import BEIR, Cranfield, MSMARCOTriples
from datamodules.files import SAMPLES
from datamodules.msmarco_triples import from_texts, read_triples

SPLITS = ("train", "val", "test")
SAMPLE = SAMPLES / "msmarco_triples.tsv"


def test_triples_of_one_query_become_one_record():
    data = MSMARCOTriples()
    records = [record for split in SPLITS for record in data.records(split)]
    assert [len(data.records(split)) for split in SPLITS] == [4, 1, 1]
    assert len({record.query for record in records}) == 6  # seven triples, two of one query
    eggs = next(r for r in records if "eggs" in r.query)
    assert eggs.id == "msmarco_triples.tsv:1"
    assert len(eggs.candidates) == 3
    assert len(eggs.relevant) == 1
    ((name, grade),) = eggs.relevant
    assert grade == 1
    assert eggs.corpus.documents[name].text.startswith("Eggs are hard")
    assert len(eggs.corpus) == 13
    assert all(set(dict(r.relevant)) < set(r.candidates) for r in records)


def test_the_order_of_candidates_tells_nothing():
    """Ids are hashes: the relevant passage is neither always first nor always last."""
    places = set()
    for record in from_texts(read_triples(SAMPLE), SAMPLE):
        places.add(record.candidates.index(record.relevant[0][0]))
    assert len(places) > 1


def test_ids_give_the_same_records(tmp_path):
    rows = read_triples(SAMPLE)
    queries = {text: f"q{i}" for i, text in enumerate(dict.fromkeys(row[1] for row in rows))}
    texts = dict.fromkeys(text for row in rows for text in row[2:])
    passages = {text: str(i) for i, text in enumerate(texts)}
    tables = {"queries": queries, "collection": {**passages, "nobody names this one": "99"}}
    for name, table in tables.items():
        lines = [f"{key}\t{text}" for text, key in table.items()]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = [f"{queries[q]}\t{passages[a]}\t{passages[b]}" for _, q, a, b in rows]
    path = tmp_path / "ids.tsv"
    path.write_text("\n".join(lines * 4) + "\n", encoding="utf-8")
    many = [f"{i}\t{i}\t{i + 100}" for i in range(100, 120)]
    given = {name: str(tmp_path / f"{name}.tsv") for name in tables}
    with pytest.raises(ValueError, match="too few to split 90 / 5 / 5"):
        MSMARCOTriples(str(path), **given).records("train")
    for name in tables:
        with (tmp_path / f"{name}.tsv").open("a", encoding="utf-8") as file:
            file.writelines(f"{i}\ttext {i}\n" for i in range(100, 220))
    path.write_text("\n".join(lines + many) + "\n", encoding="utf-8")
    data = MSMARCOTriples(str(path), **given)
    records = [record for split in SPLITS for record in data.records(split)]
    assert len(records) == 26
    assert "99" not in records[0].corpus.documents
    eggs = next(r for r in records if r.id == "q0")
    assert eggs.query == "how long do eggs boil until hard"
    assert eggs.candidates == ("0", "1", "2")
    assert eggs.relevant == (("0", 1),)
    some = MSMARCOTriples(str(path), max_lines=25, **given)
    assert sum(len(some.records(split)) for split in SPLITS) == 24


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("q\ta", ["2 cells between tabs, expected 3"]),
        ("\ta\tb", ["the query is empty"]),
        ("q\ta\t ", ["the other passage is empty"]),
        ("q\ta\ta", ["relevant and not for one query", "line 2"]),
        ("first\tbad\tgood", ["relevant and not for one query", "line 1"]),
    ],
)
def test_bad_lines(refused, tmp_path, line, parts):
    path = tmp_path / "t.tsv"
    path.write_text("first\tgood\tbad\n" + line + "\n", encoding="utf-8")
    refused(lambda: MSMARCOTriples(str(path)).records("train"), "t.tsv:2", *parts)


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("t", "q1\tp1\tp9\n", ["t.tsv:1", "passage 'p9' is not in", "c.tsv"]),
        ("t", "q9\tp1\tp2\n", ["t.tsv:1", "query 'q9' is not in", "q.tsv"]),
        ("c", "p1\tx\np2\t\n", ["c.tsv:2", "the text of 'p2' is empty"]),
        ("c", "p1\tx\np2\n", ["c.tsv:2", "the text of 'p2' is empty"]),
        ("c", "p1\tx\np2\ty\np1\tx\n", ["c.tsv:3", "'p1' is there twice"]),
    ],
)
def test_bad_ids(refused, tmp_path, name, text, parts):
    files = {"t": "q1\tp1\tp2\n", "q": "q1\twhat\n", "c": "p1\tx\np2\ty\n", name: text}
    paths = {}
    for stem, content in files.items():
        paths[stem] = str(tmp_path / f"{stem}.tsv")
        (tmp_path / f"{stem}.tsv").write_text(content, encoding="utf-8")
    data = MSMARCOTriples(paths["t"], queries=paths["q"], collection=paths["c"])
    refused(lambda: data.records("train"), *parts)


def test_triples_of_what_is_missing_may_be_left_out(tmp_path, caplog):
    rows = [f"q{i}\tp{i}\tp0" for i in range(1, 41)]
    texts = {"t": rows, "q": [f"q{i}\ttext {i}" for i in range(50) if i != 7]}
    texts["c"] = [f"p{i}\tpassage {i}" for i in range(50) if i not in (8, 9)]
    for stem, lines in texts.items():
        (tmp_path / f"{stem}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    t, q, c = (str(tmp_path / f"{stem}.tsv") for stem in texts)
    data = MSMARCOTriples(t, queries=q, collection=c, skip_missing=True)
    ids = {record.id for split in SPLITS for record in data.records(split)}
    assert ids == {f"q{i}" for i in range(1, 41)} - {"q7", "q8", "q9"}
    assert "t.tsv: 3 triples left out: line 7, query 'q7' is not in" in caplog.text


def test_limits_are_checked(refused):
    refused(lambda: MSMARCOTriples(max_lines=0), "max_lines: 0 is not above 0")
    refused(lambda: Cranfield(num_candidates=-1), "num_candidates: -1 is not above 0")
    refused(lambda: BEIR(num_candidates=0), "num_candidates: 0 is not above 0")


def test_both_files_of_ids_are_needed(refused):
    refused(lambda: MSMARCOTriples("t.tsv", queries="q.tsv"), "both queries and collection")

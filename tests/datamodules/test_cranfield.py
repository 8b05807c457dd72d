"""Cranfield's SMART files and their traps."""

from collections import Counter

import pytest

from datamodules import Cranfield
from datamodules.cranfield import read_smart
from datamodules.files import SAMPLES

SPLITS = ("train", "val", "test")
NAMES = {"docs": "cran.all.1400", "queries": "cran.qry", "qrels": "cranqrel"}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the sample under the original names."""
    for ours, name in NAMES.items():
        text = (SAMPLES / f"cranfield_{ours}.txt").read_text(encoding="utf-8")
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def everything(folder):
    return Cranfield(str(folder), divide_queries=False).records("test")


def test_sample(folder):
    records = everything(folder)
    assert [record.id for record in records] == list("123456")
    assert records[1].query == "how hot does the nose of a blunt body get at high speed ."
    assert len(records[0].corpus) == 6
    document = records[0].corpus.documents["2"]
    assert document.title == "heat transfer at the nose of a blunt body ."
    assert document.text.startswith("a blunt body at high speed")  # the title is not there twice
    data = Cranfield()
    ids = [[record.id for record in data.records(split)] for split in SPLITS]
    assert [len(part) for part in ids] == [4, 1, 1]
    assert sorted(sum(ids, [])) == list("123456")


def test_judgements_go_by_position_and_the_best_code_is_1(folder):
    """`.I` of the second query is 004: its judgements are those of query 2, not of query 4."""
    records = everything(folder)
    assert records[0].relevant == (("1", 4), ("5", 1), ("4", 0))  # codes 1, 4, -1
    assert records[1].relevant == (("2", 3), ("6", 2))
    assert records[3].relevant == (("4", 4), ("2", 1))


def test_a_part_that_opens_twice_goes_on(tmp_path):
    path = tmp_path / "x"
    path.write_text(".I 1\n.T\na\n.W\na\nb\n.W\nc .Wd\n.I 2\n.W\n.x\n", encoding="utf-8")
    assert [(n, parts) for _, n, parts in read_smart(path)] == [
        ("1", {"T": "a", "W": "a b c .Wd"}),
        ("2", {"W": ".x"}),
    ]


@pytest.mark.parametrize(
    ("name", "old", "new", "parts"),
    [
        ("qrels", "5 5 2", "7 5 2", ["cranqrel:9", "no query '7'", "by position, 1 to 6"]),
        ("qrels", "5 5 2", "004 5 0", ["cranqrel:9", "unknown code 0", "-1, 1, 2, 3, 4"]),
        ("qrels", "5 5 2", "² 5 2", ["cranqrel:9", "no query '²'"]),
        ("qrels", "5 5 2", "9" * 5000 + " 5 2", ["cranqrel:9", "no query '9999"]),
        ("qrels", "5 5 2", "5 9 2", ["cranqrel:9", "'9' is not in the collection"]),
        ("qrels", "5 5 2", "5 5", ["cranqrel:9", "2 cells, expected 3"]),
        ("qrels", "5 5 2", "5 5 x", ["cranqrel:9", "must be an integer, found 'x'"]),
        ("qrels", "4 2 4", "4 4 2", ["cranqrel:8", "grade 3 for query '4', but 4 above"]),
        ("qrels", "3 3 1\n", "", ["cran.qry:8", "no relevant document"]),
        ("docs", ".I 3", ".I 2", ["cran.all.1400:23", "'2' is there twice"]),
        ("docs", ".I 3", ".I", ["cran.all.1400:23", "needs a number"]),
        ("docs", ".I 1\n", "", ["cran.all.1400:2", "expected '.I'"]),
        ("queries", ".I 001\n.W", ".I 001", ["cran.qry:2", "expected '.I' and a part"]),
        (
            "queries",
            "what share of the drag of a plate is friction .\n",
            "",
            ["cran.qry:1", "the query is empty"],
        ),
    ],
)
def test_bad_files(folder, refused, name, old, new, parts):
    path = folder / NAMES[name]
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    refused(lambda: everything(folder), *parts)


def test_only_the_two_known_documents_may_be_empty(folder, refused):
    path = folder / NAMES["docs"]
    text = path.read_text(encoding="utf-8")
    path.write_text(text + ".I 995\n.T\n.A\n.B\n.W\n", encoding="utf-8")
    with (folder / NAMES["qrels"]).open("a", encoding="utf-8") as file:
        file.write("1 995 3\n")
    records = everything(folder)
    assert len(records[0].corpus) == 6
    assert "995" not in dict(records[0].relevant)
    path.write_text(text + ".I 7\n.T\n.A\n.B\n.W\n", encoding="utf-8")
    refused(lambda: everything(folder), "cran.all.1400", "document '7' is empty")


def test_real_files(zoo_data):
    records = everything(zoo_data / "cranfield")
    assert len(records) == 225
    corpus = records[0].corpus
    assert len(corpus) == 1398  # 1,400 but the two empty ones
    grades = Counter(grade for record in records for _, grade in record.relevant)
    assert grades == {0: 225, 4: 128, 3: 387, 2: 733, 1: 363}  # one judgement is on document 995
    assert sum(grades.values()) == 1836
    twice = [d.id for d in corpus.documents.values() if d.text.startswith(d.title) or not d.text]
    assert twice == ["410"]  # this one has its title three times
    assert ".W" not in corpus.documents["576"].text
    assert records[2].query.startswith("what problems of heat conduction in composite slabs")
    assert dict(records[2].relevant)["5"] == 2  # `3 5 3`, though the query's own number is 004
    data = Cranfield(str(zoo_data / "cranfield"))
    assert [len(data.records(split)) for split in SPLITS] == [135, 45, 45]

"""A user's own label paths, and DBpedia, which reads the same way."""

import gzip
import json

import pytest

from datamodules import DBpedia, LabelPaths
from datamodules.files import SAMPLES

SPLITS = ("train", "val", "test")


def test_sample():
    data = LabelPaths()
    records = data.records("train")
    assert len(records) == 12
    assert data.records("val") == records
    (oven,) = (record for record in records if record.id == "label_paths.csv:6")
    assert oven.text == "The oven door does not close, even with a push."
    assert oven.labels == ("kitchen", "oven")
    assert records[0].taxonomy.children == {
        (): ("garden", "kitchen"),
        ("garden",): ("hose", "mower"),
        ("kitchen",): ("kettle", "oven"),
    }


@pytest.mark.parametrize("folder", [False, True])
def test_a_part_of_a_grouped_file_has_texts_of_many_classes(tmp_path, folder):
    rows = "".join(f"text {i} {k},class {i}\n" for i in range(20) for k in range(20))
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.csv").write_text("text,level_1\n" + rows)
    path = str(tmp_path if folder else tmp_path / "train.csv")
    for split in SPLITS:
        part = LabelPaths(path, **{f"max_{split}": 20}).records(split)
        assert len({record.labels for record in part}) > 8
        assert LabelPaths(path, seed=1).records(split)[:20] == part


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_both_forms_and_any_depth(tmp_path, depth):
    paths = [[f"n{i % 2}" * (level + 1) for level in range(depth)] for i in range(20)]
    levels = ",".join(f"level_{i + 1}" for i in range(depth))
    lines = [f"text {i},{','.join(path)}\n" for i, path in enumerate(paths)]
    (tmp_path / "mine.csv").write_text(f"text,{levels}\n" + "".join(lines))
    items = [{"text": f"text {i}", "labels": path} for i, path in enumerate(paths)]
    text = "".join(json.dumps(item) + "\n" for item in items)
    (tmp_path / "mine.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    table, lines = (
        LabelPaths(str(tmp_path / "mine.csv")),
        LabelPaths(str(tmp_path / "mine.jsonl.gz")),
    )
    assert [len(table.records(split)) for split in SPLITS] == [16, 2, 2]
    assert len({r.text for split in SPLITS for r in table.records(split)}) == 20
    for split in SPLITS:
        for a, b in zip(table.records(split), lines.records(split), strict=True):
            assert (a.text, a.labels, a.taxonomy) == (b.text, b.labels, b.taxonomy)
            assert a.taxonomy.depth == depth


def test_a_text_that_stands_twice_stays_in_one_split(tmp_path):
    rows = "".join(f"text {i % 30},a\n" for i in range(60))
    (tmp_path / "mine.csv").write_text("text,level_1\n" + rows)
    data = LabelPaths(str(tmp_path / "mine.csv"))
    assert [len(data.records(split)) for split in SPLITS] == [48, 6, 6]
    texts = [{record.text for record in data.records(split)} for split in SPLITS]
    assert len(set.union(*texts)) == sum(map(len, texts)) == 30


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a file a split; validation has a class of its own."""
    (tmp_path / "train.csv").write_text("text,level_1,level_2\na,bank,card\nb,bank,loan\n")
    (tmp_path / "valid.jsonl").write_text('{"text": "c", "labels": ["bank", "cards"]}\n')
    (tmp_path / "test.csv").write_text("text,level_1,level_2,id\nd,bank,loan,mine\n")
    return tmp_path


def test_folder(folder, refused):
    data = LabelPaths(str(folder))
    assert len(data.records("train")) == 2
    assert data.records("test")[0].id == "mine"
    refused(lambda: data.records("val"), "valid.jsonl:1", "'cards' in bank", "mean 'card'?")
    every = LabelPaths(str(folder), taxonomy="all")
    assert every.records("val")[0].taxonomy.below(("bank",)) == ("card", "cards", "loan")
    (folder / "valid.jsonl").write_text('{"text": "c", "labels": ["banc", "card"]}\n')
    refused(lambda: LabelPaths(str(folder)).records("val"), "'banc' in the first level", "'bank'?")
    (folder / "valid.jsonl").write_text('{"text": "c", "labels": ["bank"]}\n')
    refused(lambda: LabelPaths(str(folder)).records("val"), "1 levels, but the taxonomy has 2")
    (folder / "test.csv").unlink()
    refused(lambda: LabelPaths(str(folder)).records("test"), "no file for 'test'", ".jsonl")
    refused(lambda: LabelPaths(str(folder / "no.zip")).records("test"), "no such file or folder")
    refused(lambda: LabelPaths(taxonomy="al"), "data.taxonomy: 'al'")


def test_long_lists_of_names_are_not_printed(folder, refused):
    rows = "".join(f"t{i},bank,name {i}\n" for i in range(50))
    (folder / "train.csv").write_text("text,level_1,level_2\n" + rows)
    text = refused(lambda: LabelPaths(str(folder)).records("val"), "none is close", "50 names")
    assert "name 3" not in text
    (folder / "valid.jsonl").write_text('{"text": "c", "labels": ["bank", "name_7"]}\n')
    refused(lambda: LabelPaths(str(folder)).records("val"), "did you mean 'name 7'? (50 names")


def test_shared_names(tmp_path, refused):
    path = tmp_path / "mine.csv"
    rows = "".join(f"t{i},{'bank' if i < 10 else 'shop'},card\n" for i in range(20))
    path.write_text("text,level_1,level_2\n" + rows)
    refused(
        lambda: LabelPaths(str(path)).records("train"),
        "mine.csv:12: 'card' stands under shop, but under bank at",
        "mine.csv:2",
        "set allow_shared_names to true",
    )
    data = LabelPaths(str(path), allow_shared_names=True)
    assert data.records("train")[0].taxonomy.below(("shop",)) == ("card",)


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["text,level_1", "a,"], [":2", "'level_1' is empty"]),
        (["text,level_1", ",x"], [":2", "'text' is empty"]),
        (["text,level_1", "a,x,y"], [":2", "3 cells, expected 2"]),
        (["text,level1", "a,x"], [":1", "'level_1' is missing", "did you mean 'level1'?"]),
        (["text,level_1,level_3", "a,x,y"], [":1", "'level_3'", "did you mean 'level_2'?"]),
        (["text,level_1,lable", "a,x,y"], [":1", "unknown column 'lable'"]),
        (["text,level_1,level_2", "a,x,y", "b,x,"], [":3: 1 levels, but 2 at", "mine.csv:2"]),
        (["text,level_1,level_2", "a,,y"], [":2", "'level_1' is empty, but", "'level_2' is not"]),
        (["text,level_1", '"a,x'], [":2", "invalid CSV"]),
    ],
)
def test_bad_csv(tmp_path, refused, lines, parts):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines) + "\n")
    refused(lambda: LabelPaths(str(path)).records("train"), "mine.csv", *parts)


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"text": "a", "label": ["x"]}, ["unknown field 'label'", "did you mean 'labels'?"]),
        ({"text": "a"}, ["'labels' is missing"]),
        ({"text": " ", "labels": ["x", "y"]}, ["'text' is empty"]),
        ({"text": "a", "labels": []}, ["'labels' is empty"]),
        ({"text": "a", "labels": ["x", ""]}, ["labels[1]"]),
        ({"text": "a", "labels": ["x", 3]}, ["labels[1]"]),
        ({"text": "a", "labels": "x"}, ["'labels' must be a list"]),
        ({"text": "a", "labels": ["x"], "id": 3}, ["'id' must be a string"]),
        ({"text": "a", "labels": ["x"]}, ["1 levels, but 2 at", "mine.jsonl:1"]),
    ],
)
def test_bad_json_lines(tmp_path, refused, item, parts):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "b", "labels": ["x", "y"]}\n' + json.dumps(item) + "\n")
    refused(lambda: LabelPaths(str(path)).records("train"), "mine.jsonl:2", *parts)


def test_bad_paths(tmp_path, refused):
    refused(lambda: LabelPaths(str(tmp_path / "a.tsv")).records("train"), "a.tsv", ".csv, .csv.gz")
    refused(lambda: LabelPaths(str(tmp_path / "a.csv")).records("train"), "a.csv: no such file")
    for text, part in (("", "the file is empty"), (",,\n", "no header line")):
        (tmp_path / "a.csv").write_text(text)
        refused(lambda: LabelPaths(str(tmp_path / "a.csv")).records("train"), "a.csv", part)
    (tmp_path / "a.csv").write_text("text,level_1\na,x\n")
    refused(lambda: LabelPaths(str(tmp_path / "a.csv")).records("train"), "1 are too few to split")


def test_dbpedia_sample():
    records = DBpedia().records("train")
    assert len(records) == 6
    assert records[0].labels == ("Place", "BodyOfWater", "Lake")
    assert records[0].taxonomy.depth == 3
    assert records[0].taxonomy.below(("Place",)) == ("BodyOfWater", "NaturalPlace")
    assert '"The Late Postman"' in records[4].text


def test_dbpedia_files(tmp_path, refused):
    text = (SAMPLES / "dbpedia.csv").read_text(encoding="utf-8")
    (tmp_path / "DBPEDIA_train.csv").write_text(text, encoding="utf-8")
    (tmp_path / "DBPEDIA_val.csv.gz").write_bytes(gzip.compress(text.encode()))
    test = tmp_path / "DBPEDIA_test.csv"
    test.write_text("l3,text,l1,l2,wiki_name\nLake,A lake.,Place,BodyOfWater,x\n")
    data = DBpedia(str(tmp_path))
    assert [len(data.records(split)) for split in SPLITS] == [6, 6, 1]
    assert data.records("test")[0].labels == ("Place", "BodyOfWater", "Lake")
    assert data.records("test")[0].taxonomy is data.records("val")[0].taxonomy
    test.write_text("text,l1,l2,l3\nA lake.,Place,BodyOfWater,Lakes\n")
    refused(lambda: DBpedia(str(tmp_path)).records("test"), "DBPEDIA_test.csv:2", "mean 'Lake'?")
    test.write_text("text,l1,l2,l3\nA lake.,Place,,Lake\n")
    refused(lambda: DBpedia(str(tmp_path)).records("test"), "DBPEDIA_test.csv:2", "'l2' is empty")
    test.write_text("text,l1,l2\nA lake.,Place,BodyOfWater\n")
    refused(lambda: DBpedia(str(tmp_path)).records("test"), "column 'l3' is missing")
    test.unlink()
    refused(lambda: DBpedia(str(tmp_path)).records("test"), "none of DBPEDIA_test.csv")

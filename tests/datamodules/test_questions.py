"""CommonsenseQA, AQuA, MMLU and TruthfulQA."""

import csv
import gzip
import json
import zipfile
from collections import Counter

import pytest

from datamodules import MMLU, AQuA, CommonsenseQA, TruthfulQA
from datamodules.files import SAMPLES

SPLITS = ("train", "val", "test")


def nested(number=0, **changes):
    choices = [{"label": letter, "text": f"option {letter}"} for letter in "ABCDE"]
    item = {"answerKey": "B", "id": "x", "question": {"stem": f"q{number}", "choices": choices}}
    return {**item, **changes}


def flat(**changes):
    choices = {"label": list("ABC"), "text": ["one", "two", "three"]}
    return {"id": "x", "question": "q", "choices": choices, "answerKey": "C", **changes}


def problem(number=0, **changes):
    options = ["A)1", "B) 2", "C)3", "D)4", "E)5"]
    item = {"question": f"q{number}", "options": options, "rationale": "r", "correct": "B"}
    return {**item, **changes}


def write(path, items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")


def covers(data, count):
    parts = [[record.id for record in data.records(split)] for split in SPLITS]
    return len({name for part in parts for name in part}) == sum(map(len, parts)) == count


def test_commonsense_qa_sample_in_both_layouts():
    records = CommonsenseQA().records("train")
    assert len(records) == 5
    assert records == CommonsenseQA().records("test")
    assert records[1].question == "What do people take along when it may rain?"
    assert records[1].options[records[1].gold] == "an umbrella"
    assert records[3].options == ("butter", "chalk", "sand", "wool", "glass")
    assert records[3].gold == 1
    assert records[3].id == "commonsense_qa.jsonl:4"


def test_commonsense_qa_splits(tmp_path, refused):
    dev = tmp_path / "dev_rand_split.jsonl"
    write(dev, [nested(i) for i in range(100)])
    for path in (tmp_path, dev):
        data = CommonsenseQA(str(path))
        assert [len(data.records(split)) for split in SPLITS] == [80, 10, 10]
        assert covers(data, 100)
    write(tmp_path / "train_rand_split.jsonl", [nested(i) for i in range(100, 300)])
    data = CommonsenseQA(str(tmp_path))
    assert [len(data.records(split)) for split in SPLITS] == [180, 20, 100]
    assert {record.id.split(":")[0] for record in data.records("val")} == {"train_rand_split.jsonl"}
    write(dev, [nested(i) for i in range(3)])
    refused(lambda: CommonsenseQA(str(dev)).records("val"), "3 are too few to split 80 / 10 / 10")


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        (nested(answerKey="F"), ["answerKey is 'F'"]),
        (nested(answerKey=""), ["'answerKey' is empty"]),
        (nested(question={"stem": "q"}), ["question", "'choices' is missing"]),
        (nested(question={"stem": "q", "choices": ["x"]}), ["choices[0]", "expected an object"]),
        (
            nested(question={"stem": "q", "choices": [{"lable": "A", "text": "x"}]}),
            ["choices[0]", "'label' is missing", "did you mean 'lable'?"],
        ),
        (flat(question=""), ["'question' is empty"]),
        (flat(choices=[]), ["'choices' must be an object"]),
        (flat(choices={"label": ["A"], "text": []}), ["choices: 1 labels for 0 texts"]),
        (flat(choices={"label": ["A"], "text": [" "]}), ["text[0] must be strings"]),
    ],
)
def test_commonsense_qa_bad_lines(tmp_path, refused, item, parts):
    path = tmp_path / "dev_rand_split.jsonl"
    write(path, [flat(), item])
    refused(lambda: CommonsenseQA(str(path)).records("train"), "dev_rand_split.jsonl:2:", *parts)


def test_aqua_sample():
    records = AQuA().records("val")
    assert len(records) == 4
    assert records[0].options == ("6", "8", "12", "16", "24")
    assert records[0].gold == 1
    assert records[0].rationale.endswith("The answer is B.")


def test_aqua_splits(tmp_path):
    write(tmp_path / "dev.json", [problem(i) for i in range(50)])
    write(tmp_path / "test.json", [problem(i) for i in range(50, 60)])
    data = AQuA(str(tmp_path))
    assert [len(data.records(split)) for split in SPLITS] == [40, 10, 10]
    text = json.dumps(problem(99)).encode()
    (tmp_path / "train.json.gz").write_bytes(gzip.compress(text))
    data = AQuA(str(tmp_path))
    assert [len(data.records(split)) for split in SPLITS] == [1, 50, 10]
    assert data.records("train")[0].options == ("1", "2", "3", "4", "5")


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        (problem(correct="F"), ["'correct' is 'F'"]),
        (problem(options="A)1"), ["'options' must be a list"]),
        (problem(options=["A)1", "2"]), ["options[1] is '2'", "'B)' and a text"]),
        (problem(options=["A)1", "C)2"]), ["options[1] is 'C)2'", "'B)' and a text"]),
        (problem(options=["A)"]), ["options[0] is 'A)'"]),
        (problem(question=" "), ["'question' is empty"]),
        ({"question": "q", "options": ["A)1"], "correct": "A"}, ["'rationale' is missing"]),
    ],
)
def test_aqua_bad_lines(tmp_path, refused, item, parts):
    write(tmp_path / "test.json", [problem(), item])
    write(tmp_path / "dev.json", [problem()])
    refused(lambda: AQuA(str(tmp_path)).records("test"), "test.json:2:", *parts)


def test_mmlu_sample():
    data = MMLU()
    assert [len(data.records(split)) for split in SPLITS] == [3, 2, 2]
    records = data.records("train")
    assert [record.kind for record in records] == ["garden tools", "garden tools", "river maps"]
    assert records[1].options[1] == "loosening soil, gently"
    assert records[2].question == "Where does a river end?\nChoose the usual place."
    assert records[2].gold == 2
    assert records[1].id == "garden_tools_dev.csv:2"
    for name in ("river maps", "river_maps"):
        assert [r.kind for r in MMLU(subjects=[name]).records("test")] == ["river maps"]


def test_mmlu_folder_and_errors(tmp_path, refused):
    with zipfile.ZipFile(SAMPLES / "mmlu.zip") as archive:
        archive.extractall(tmp_path)
    assert MMLU(str(tmp_path)).records("val") == MMLU().records("val")
    refused(
        lambda: MMLU(subjects=["river map"]).records("val"), "'river map'", "mean 'river maps'?"
    )
    path = tmp_path / "data" / "val" / "river_maps_val.csv"

    def load(row):
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([["q", "a", "b", "c", "d", "A"], row])
        return lambda: MMLU(str(tmp_path)).records("val")

    refused(load(["q", "a", "b", "c", "A"]), "river_maps_val.csv:2", "5 cells")
    refused(load(["q", "a", "b", "c", "d", "E"]), "river_maps_val.csv:2", "the letter is 'E'")
    refused(load([" ", "a", "b", "c", "d", "A"]), "river_maps_val.csv:2", "question is empty")
    refused(load(["q", "a", "", "c", "d", "A"]), "river_maps_val.csv:2", "B is empty")
    path.write_text('q,"a\nb,c,d,A\n')
    refused(lambda: MMLU(str(tmp_path)).records("val"), "river_maps_val.csv:1", "invalid CSV")
    (tmp_path / "empty").mkdir()
    refused(lambda: MMLU(str(tmp_path / "empty")).records("val"), "no file ends in _val.csv")
    refused(lambda: MMLU(str(tmp_path / "no.zip")).records("val"), "no such file or folder")
    refused(lambda: MMLU(str(path)).records("val"), "not a folder and not a zip archive")


def test_truthful_qa_sample():
    records = TruthfulQA().records("train")
    assert len(records) == 4
    assert records == TruthfulQA().records("val")
    assert records[0].options[records[0].gold] == "No, plants do not answer"
    assert set(records[0].options) == {
        "No, plants do not answer",
        "Yes, they answer at night",
        "Yes, with their leaves",
    }
    assert records[1].kind == "Weather"
    assert {record.gold for record in records} != {0}


def test_truthful_qa_errors(tmp_path, refused):
    path = tmp_path / "TruthfulQA.csv"
    header = "Category,Question,Best Answer,Incorrect Answers"

    def load(*lines):
        path.write_text("\n".join(lines) + "\n")
        return lambda: TruthfulQA(str(tmp_path)).records("train")

    refused(load(header, "c,q,b,x", ",q,b,x"), "TruthfulQA.csv:3", "'Category' is empty")
    refused(load(header, "c,q,,x"), "TruthfulQA.csv:2", "'Best Answer' is empty")
    refused(load(header, "c,q,b,x; b"), "TruthfulQA.csv:2", "also among the incorrect")
    refused(load(header, "c,q,b"), "TruthfulQA.csv:2", "3 cells, expected 4")
    refused(load("Categorie" + header[8:], "c,q,b,x"), "TruthfulQA.csv:1", "'Category' is missing")
    refused(
        load(header + ",Question", "c,q,b,x,q"), "TruthfulQA.csv:1", "'Question' is there twice"
    )
    refused(load(header, "c,q,b,x"), "1 are too few")


def test_real_files(zoo_data):
    data = CommonsenseQA(str(zoo_data / "commonsense_qa"))
    assert [len(data.records(split)) for split in SPLITS] == [977, 122, 122]
    assert covers(data, 1221)
    data = AQuA(str(zoo_data / "aqua"))
    assert [len(data.records(split)) for split in SPLITS] == [204, 50, 254]
    assert covers(data, 508)
    assert Counter(record.gold for record in data.records("test"))[0] == 63
    data = MMLU(str(zoo_data / "mmlu" / "mmlu.zip"))
    assert [len(data.records(split)) for split in SPLITS] == [285, 1531, 14042]
    assert len({record.kind for record in data.records("test")}) == 57
    data = TruthfulQA(str(zoo_data / "truthfulqa"))
    assert [len(data.records(split)) for split in SPLITS] == [655, 81, 81]
    assert covers(data, 817)
    assert len({record.kind for split in SPLITS for record in data.records(split)}) == 38

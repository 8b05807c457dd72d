"""MultiWOZ in both forms."""

import json

import pytest

from datamodules import MultiWOZ
from datamodules.files import SAMPLES
from zoo.records import SEEKER, SUPPORTER
from zoo.support.decisions import decisions

SPLITS = ("train", "val", "test")


def listed(name, *texts):
    turns = [
        {"speaker": "SYSTEM" if i % 2 else "USER", "turn_id": str(i), "utterance": text}
        for i, text in enumerate(texts)
    ]
    return {"dialogue_id": name, "services": [], "turns": turns}


def logged(*texts):
    return {"goal": {}, "log": [{"text": text, "metadata": {}} for text in texts]}


def write_logs(folder, logs, val, test, end="txt"):
    (folder / "data.json").write_text(json.dumps(logs))
    (folder / f"valListFile.{end}").write_text("".join(f"{name}\n" for name in val))
    (folder / f"testListFile.{end}").write_text("".join(f"{name}\n" for name in test))


def test_sample():
    data = MultiWOZ()
    first, second = data.records("train")
    assert data.records("val") == data.records("test") == [first, second]
    assert (first.id, len(first.turns), second.id) == ("SAMPLE01.json", 6, "SAMPLE02.json")
    assert [turn.speaker for turn in second.turns] == [SEEKER, SUPPORTER] * 2
    assert second.turns[3].text == "Have a good journey."
    assert all(turn.strategy == turn.emotion == "" for turn in first.turns)
    assert [d.query for d in decisions(second, need_strategies=False)] == [
        "When does the last train to the coast leave tonight?",
        "No, thank you, that is all.",
    ]


def test_folders_of_lists(tmp_path):
    for folder, count in (("train", 3), ("dev", 2), ("test", 1)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            item = listed(f"{folder}{i}", "Hi", "Hello")
            (tmp_path / folder / f"dialogues_00{i + 1}.json").write_text(json.dumps([item]))
        for backup in (".ipynb_checkpoints", "backup"):
            (tmp_path / folder / backup).mkdir()
            (tmp_path / folder / backup / "dialogues_001.json").write_text("[1]")
    data = MultiWOZ(str(tmp_path))
    assert [[r.id for r in data.records(split)] for split in SPLITS] == [
        ["train0", "train1", "train2"],
        ["dev0", "dev1"],
        ["test0"],
    ]


@pytest.mark.parametrize("end", ["txt", "json"])
def test_one_file_with_lists_of_names(tmp_path, end):
    logs = {f"{i}.json": logged(f" Hi {i} ", "Hello", "Bye", "Bye") for i in range(6)}
    write_logs(tmp_path, logs, ["1.json", "4.json"], ["2.json"], end)
    data = MultiWOZ(str(tmp_path))
    assert [[r.id for r in data.records(split)] for split in SPLITS] == [
        ["0.json", "3.json", "5.json"],
        ["1.json", "4.json"],
        ["2.json"],
    ]
    turns = data.records("test")[0].turns
    assert [(t.speaker, t.text) for t in turns[:2]] == [(SEEKER, "Hi 2"), (SUPPORTER, "Hello")]


def test_both_forms_say_the_same(tmp_path):
    items = json.loads((SAMPLES / "multiwoz.json").read_text())
    logs = {i["dialogue_id"]: logged(*(t["utterance"] for t in i["turns"])) for i in items}
    write_logs(tmp_path, logs, ["SAMPLE01.json"], ["SAMPLE02.json"])
    data = MultiWOZ(str(tmp_path))
    assert data.records("val") + data.records("test") == MultiWOZ().records("train")


def spoiled(**values):
    item = listed("d", "Hi", "Hello")
    item["turns"][1] |= values
    return item


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        (spoiled(speaker="SYSTM"), ["turns[1]", "did you mean 'SYSTEM'?"]),
        (spoiled(utterance=" "), ["turns[1]", "'utterance' is empty"]),
        ({**listed("d", "Hi"), "turns": ["Hi"]}, ["turns[0]", "expected an object"]),
        ({"dialogue_id": "d"}, ["'turns' is missing"]),
        (listed("d", "Hi"), ["no turn of the system"]),
        (listed("", "Hi", "Hello"), ["'dialogue_id' is empty"]),
    ],
)
def test_bad_lists(tmp_path, refused, item, parts):
    (tmp_path / "train").mkdir()
    text = json.dumps([listed("good", "Hi", "Hello"), item]).replace("}, {", "},\n{")
    (tmp_path / "train" / "dialogues_001.json").write_text(text)
    refused(lambda: MultiWOZ(str(tmp_path)).records("train"), "dialogues_001.json:", *parts)


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ("Hi", ["d.json", "expected an object, found a string"]),
        ({"goal": {}}, ["d.json", "'log' is missing"]),
        ({"log": ["Hi"]}, ["d.json: log[0]", "expected an object"]),
        (logged("Hi", ""), ["d.json: log[1]", "'text' is empty"]),
        (logged("Hi"), ["d.json", "no turn of the system"]),
    ],
)
def test_bad_logs(tmp_path, refused, item, parts):
    write_logs(tmp_path, {"d.json": item}, ["d.json"], ["d.json"])
    refused(lambda: MultiWOZ(str(tmp_path)).records("train"), "data.json", *parts)


def test_bad_paths(tmp_path, refused):
    refused(lambda: MultiWOZ(str(tmp_path)).records("val"), "data.json", "nothing")
    write_logs(tmp_path, {"d": logged("Hi", "Hello")}, ["d"], ["d"])
    refused(lambda: MultiWOZ(str(tmp_path)).records("val"), "d is both in valListFile and test")
    write_logs(tmp_path, {"d.json": logged("Hi", "Hello")}, ["d.json"], ["e"])
    for split in SPLITS:  # never trained on what the lists may mean
        refused(lambda split=split: MultiWOZ(str(tmp_path)).records(split), "ile.txt:1: data.json")
    (tmp_path / "testListFile.txt").unlink()
    refused(lambda: MultiWOZ(str(tmp_path)).records("val"), "none of testListFile.txt")
    (tmp_path / "train").mkdir()
    refused(lambda: MultiWOZ(str(tmp_path)).records("train"), "no file ends in .json")

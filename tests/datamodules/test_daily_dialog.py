"""DailyDialog: three files a split."""

import gzip
from collections import Counter

import pytest

from datamodules import DailyDialog
from datamodules.daily_dialog import ACTS, EMOTIONS
from zoo.records import SEEKER, SUPPORTER
from zoo.support.decisions import decisions
from zoo.support.labels import ACTS as ACT_LABELS

SPLITS = ("train", "val", "test")


def write(folder, stem, texts, acts, emotions):
    folder.mkdir(exist_ok=True)
    for name, lines in (("", texts), ("_act", acts), ("_emotion", emotions)):
        if lines is not None:
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"dialogues{name}_{stem}.txt").write_text(text, encoding="utf-8")


def test_sample():
    data = DailyDialog()
    records = data.records("train")
    assert data.records("val") == data.records("test") == records
    assert [(r.id, len(r.turns)) for r in records] == [
        ("dailydialog.txt:1", 4),
        ("dailydialog.txt:2", 5),
        ("dailydialog.txt:3", 2),
        ("dailydialog.txt:4", 4),
    ]
    turns = records[0].turns
    assert [turn.speaker for turn in turns] == [SEEKER, SUPPORTER, SEEKER, SUPPORTER]
    assert [turn.strategy for turn in turns] == ["question", "inform", "directive", "commissive"]
    assert [turn.emotion for turn in turns] == ["no emotion", "no emotion", "anger", "no emotion"]
    assert turns[1].text == "Not yet . The depot says it comes on Friday ."
    assert {t.emotion for r in records for t in r.turns} >= {"happiness", "disgust", "surprise"}


def test_acts_serve_as_strategies():
    assert ACT_LABELS.names == ACTS
    (first, second) = decisions(DailyDialog().records("train")[0], ACT_LABELS)
    assert (first.target.strategy, second.target.strategy) == ("inform", "commissive")


@pytest.mark.parametrize("nested", [False, True])
def test_official_folders(tmp_path, nested):
    for stem, count in (("train", 3), ("validation", 2), ("test", 1)):
        folder = tmp_path / stem if nested else tmp_path
        write(folder, stem, ["Hi . __eou__ Hi . __eou__"] * count, ["1 2"] * count, ["0 4"] * count)
    data = DailyDialog(str(tmp_path))
    assert [len(data.records(split)) for split in SPLITS] == [3, 2, 1]
    assert data.records("val")[1].id == "dialogues_validation.txt:2"


def test_gzipped_files_and_single_utterances(tmp_path):
    write(tmp_path, "test", None, ["1", "1 2"], ["0", "0 0"])
    text = "Alone . __eou__\nHi . __eou__ Hi . __eou__\n"
    (tmp_path / "dialogues_test.txt.gz").write_bytes(gzip.compress(text.encode()))
    (record,) = DailyDialog(str(tmp_path)).records("test")
    assert record.id == "dialogues_test.txt.gz:2"


def test_labels_without_text(tmp_path, refused):
    write(tmp_path, "train", None, ["1 2"], ["0 0"])
    texts = [f"Hi {i} . __eou__ Hi . __eou__" for i in range(20)]
    write(tmp_path, "valid", texts, ["1 2"] * 20, ["0 0"] * 20)
    write(tmp_path, "test", None, ["1 2"], ["0 0"])
    data = DailyDialog(str(tmp_path))
    said = refused(
        lambda: data.records("train"),
        "dialogues_act_train.txt is there but not the text, dialogues_train.txt",
        "official release",
        "set divide_valid",
    )
    assert str(tmp_path) in said
    assert "divide_valid" not in refused(lambda: data.records("test"), "dialogues_test.txt")
    parts = DailyDialog(str(tmp_path), divide_valid=True)
    ids = [{record.id for record in parts.records(split)} for split in ("train", "val")]
    assert [len(part) for part in ids] == [18, 2]
    assert not ids[0] & ids[1]


GOOD = (["Hi . __eou__ Hi . __eou__", "So ? __eou__ Yes . __eou__"], ["1 2", "2 1"], ["0 0", "0 6"])


@pytest.mark.parametrize(
    ("changed", "lines", "parts"),
    [
        (
            0,
            ["Hi . __eou__ Hi .", "So ? __eou__ Yes . __eou__"],
            ["_test.txt:1", "behind"],
        ),
        (0, ["Hi . __eou__ __eou__", "So ? __eou__ Yes . __eou__"], ["test.txt:1", "needs words"]),
        (1, ["1 2", "2"], ["act_test.txt:2", "1 numbers for 2 utterances"]),
        (1, ["1 2", "2 0"], ["act_test.txt:2", "'0', expected a number from 1 to 4"]),
        (2, ["0 0", "0 7"], ["emotion_test.txt:2", "'7', expected a number from 0 to 6"]),
        (2, ["0 0", "0 x"], ["emotion_test.txt:2", "'x', expected a number"]),
        (2, ["0 0", "0 " + "9" * 5000], ["emotion_test.txt:2", "expected a number"]),
        (2, ["0 0"], ["emotion_test.txt:2", "1 lines, but dialogues_test.txt has 2"]),
        (1, ["1 2", "2 1", "1 1"], ["act_test.txt:3", "3 lines, but dialogues_test.txt has 2"]),
    ],
)
def test_bad_files(tmp_path, refused, changed, lines, parts):
    columns = list(GOOD)
    columns[changed] = lines
    write(tmp_path, "test", *columns)
    refused(lambda: DailyDialog(str(tmp_path)).records("test"), *parts)


def test_bad_paths(tmp_path, refused):
    refused(lambda: DailyDialog(str(tmp_path)).records("val"), "dialogues_act_valid.txt", "nothing")
    refused(lambda: DailyDialog(str(tmp_path / "no")).records("val"), "no such file or folder")


def test_real_files(zoo_data, refused):
    data = DailyDialog(str(zoo_data / "dailydialog"))
    assert [len(data.records(split)) for split in ("val", "test")] == [1000, 1000]
    turns = {split: [t for r in data.records(split) for t in r.turns] for split in ("val", "test")}
    assert [len(said) for said in turns.values()] == [8069, 7740]
    assert Counter(turn.strategy for turn in turns["test"])["inform"] == 3534
    assert {turn.emotion for turn in turns["val"]} == set(EMOTIONS)
    for record in data.records("test"):
        assert decisions(record, ACT_LABELS)
    refused(lambda: data.records("train"), "dialogues_train.txt", "set divide_valid")
    parts = DailyDialog(str(zoo_data / "dailydialog"), divide_valid=True)
    assert [len(parts.records(split)) for split in SPLITS] == [900, 100, 1000]

"""EmpatheticDialogues in both forms."""

import csv
import gzip

import pytest

from datamodules import EmpatheticDialogues
from datamodules.empathetic_dialogues import EMOTIONS
from datamodules.files import SAMPLES
from datamodules.tables import unquoted
from zoo.errors import InputError
from zoo.records import SEEKER, SUPPORTER
from zoo.support.decisions import decisions

SPLITS = ("train", "val", "test")
COPY = "conv_id,utterance_idx,prompt,utterance,label"
LINES = [f"c{i},{k},p{i},u{k},{i % 32}" for i in range(40) for k in (1, 2)]


def test_sample():
    data = EmpatheticDialogues()
    records = data.records("train")
    assert data.records("test") == records
    assert [(r.id, r.emotion, len(r.turns)) for r in records] == [
        ("hit:1_conv:1", "proud", 4),
        ("hit:2_conv:3", "lonely", 4),
        ("hit:3_conv:5", "grateful", 2),
    ]
    assert (
        records[0].situation == "My sister finished her first long run, with a bandage on her foot."
    )
    assert [turn.speaker for turn in records[0].turns] == [SEEKER, SUPPORTER] * 2
    assert records[0].turns[0].text.startswith("My sister ran twenty kilometres last Sunday, and")
    assert 'that sort of "quiet".' in records[1].turns[1].text
    assert all(turn.strategy == "" for record in records for turn in record.turns)


def test_authors_files(tmp_path):
    text = (SAMPLES / "empathetic_dialogues.csv").read_bytes()
    (tmp_path / "train.csv").write_bytes(text)
    (tmp_path / "valid.csv.gz").write_bytes(gzip.compress(text))
    (tmp_path / "test.csv").write_bytes(text)
    data = EmpatheticDialogues(str(tmp_path))
    assert [len(data.records(split)) for split in SPLITS] == [3, 3, 3]


def test_copies(tmp_path, refused):
    (tmp_path / "fixed_valid.csv").write_text("\n".join([COPY, *LINES, "c99,1,p,alone,3"]))
    (tmp_path / "fixed_test.csv").write_text(
        "conv_id,utterance_idx,prompt,utterance\nc,1,p,hi\nc,2,p,hello\n"
    )
    data = EmpatheticDialogues(str(tmp_path))
    assert len(data.records("val")) == 40
    assert [record.emotion for record in data.records("val")][:3] == list(EMOTIONS[:3])
    assert data.records("test")[0].emotion == ""
    refused(lambda: data.records("train"), "no train file", "set divide_valid to true")
    data = EmpatheticDialogues(str(tmp_path), divide_valid=True)
    assert [len(data.records(split)) for split in SPLITS] == [36, 4, 1]
    ids = [{record.id for record in data.records(split)} for split in ("train", "val")]
    assert not ids[0] & ids[1]


def test_quotes():
    assert unquoted('"He said ""no"" twice"') == 'He said "no" twice'
    assert unquoted('"no" he said "no"') == '"no" he said "no"'
    assert unquoted('"') == '"'


def test_commas_in_quotes_and_rows_in_any_order(tmp_path):
    """As `csv` writes it; a cell that begins with a word in quotes is no CSV, but in the copies."""
    situation = "I lost my keys, my bag."
    rows = [("c", 2, situation, "Oh no, really?", 3), ("d", 1, "p", "hi", 4)]
    rows += [("c", 1, situation, "Today, I lost them.", 3), ("d", 2, "p", "x", 4)]
    with open(tmp_path / "valid.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([COPY.split(","), *rows])
        stream.write('d,3,p,"no" he said,4\n')
    first, second = EmpatheticDialogues(str(tmp_path)).records("val")
    assert (first.situation, first.emotion) == (situation, EMOTIONS[3])
    assert [turn.text for turn in first.turns] == ["Today, I lost them.", "Oh no, really?"]
    assert [turn.text for turn in second.turns] == ["hi", "x", '"no" he said']


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["conv_id,utterance_idx,prmpt,utterance"], [":1", "'prompt'", "did you mean 'prmpt'?"]),
        ([COPY, "c,1,p"], [":2", "3 cells between commas, expected 5"]),
        ([COPY, "c,1,p,u,3", "c,x,p,u,3"], [":3", "'utterance_idx' is 'x'"]),
        ([COPY, "c,1,p, u, v,3"], [":2", "6 cells between commas, expected 5", "_comma_"]),
        ([COPY, 'c,1,p,"no" he, said', "c,2,p,u,3"], [":2", "'label' is 'said'"]),
        ([COPY, 'c,1,p,"no" he, said,3'], [":2", "invalid CSV"]),
        ([COPY, "c,1,p,u,3", "c,3,p,u,3"], [":3", "'utterance_idx' is 3 in c, expected 2"]),
        ([COPY, "c,1,p,u,3", "d,1,p,u,3", "c,1,p,u,3"], [":4", "is 1 in c, expected 2"]),
        ([COPY, f"c,{'9' * 5000},p,u,3"], [":2", "'utterance_idx' is '999"]),
        ([COPY, f"c,1,p,u,{'9' * 5000}", "c,2,p,u,3"], [":2", "'label' is '999"]),
        ([COPY, "c,0,p,u,3"], [":2", "'utterance_idx' is '0'"]),
        ([COPY, "c,1,p,u,3", "c,2,p,,3"], [":3", "'utterance' is empty"]),
        ([COPY, "c,1,p,u,32", "c,2,p,u,32"], [":2", "'label' is '32', expected 0 to 31"]),
        (
            [COPY.replace("label", "context"), "c,1,p,u,prod", "c,2,p,u,proud"],
            [":2", "'context' is 'prod'", "did you mean 'proud'?"],
        ),
    ],
)
def test_bad_files(tmp_path, refused, lines, parts):
    (tmp_path / "valid.csv").write_text("\n".join(lines) + "\n")
    refused(lambda: EmpatheticDialogues(str(tmp_path)).records("val"), "valid.csv", *parts)


def test_bad_paths(tmp_path, refused):
    refused(lambda: EmpatheticDialogues(str(tmp_path)).records("test"), "none of test.csv")
    refused(lambda: EmpatheticDialogues(str(tmp_path / "no")).records("train"), "no such file")


def test_real_files(zoo_data):
    data = EmpatheticDialogues(str(zoo_data / "empathetic_dialogues"))
    val, test = data.records("val"), data.records("test")
    assert (len(val), len(test)) == (2769, 2547)
    assert sum(len(record.turns) for record in val) == 12078 - 1
    assert sum(len(record.turns) for record in test) == 10973
    assert {record.emotion for record in val} == set(EMOTIONS)
    assert sum(record.emotion == "surprised" for record in val) == 148
    assert {record.emotion for record in test} == {""}
    assert not any("_comma_" in turn.text for record in val for turn in record.turns)
    parts = EmpatheticDialogues(str(zoo_data / "empathetic_dialogues"), divide_valid=True)
    assert [len(parts.records(split)) for split in SPLITS] == [2493, 276, 2547]


def test_sample_serves_decision_points_without_strategies():
    first, *_ = EmpatheticDialogues().records("train")
    found = decisions(first, need_strategies=False)
    assert [(d.depth, d.last, d.target.strategy) for d in found] == [(0, False, ""), (1, True, "")]
    assert [d.query for d in found] == [first.turns[0].text, first.turns[2].text]
    assert (found[0].emotion, found[0].situation) == (first.emotion, first.situation)
    with pytest.raises(InputError, match="turn 1: no support strategy is annotated"):
        decisions(first)

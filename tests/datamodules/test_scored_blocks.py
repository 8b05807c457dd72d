"""Scored candidates of subtitle segments on file."""

import copy
import json
from dataclasses import asdict

import pytest

from datamodules import ScoredBlocks
from datamodules.files import SAMPLES
from datamodules.scored_blocks import read_scored

SAMPLE = SAMPLES / "scored_blocks.jsonl"


def test_sample():
    records = ScoredBlocks().records("train")
    assert [len(record.segments) for record in records] == [2, 4, 3, 2, 2, 2]
    first, second, *_ = records
    assert first.block.spans == [(0, 2), (2, 4)]
    assert second.block.spans == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert second.segments[3].scores is None
    for record in records:
        for (start, stop), segment in zip(record.block.spans, record.segments, strict=True):
            assert segment.candidates[0] == record.block.target[start:stop]


def test_what_is_written_is_read(tmp_path):
    """`asdict` of a record as a line of JSON is the format."""
    records = read_scored(SAMPLE)
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    assert read_scored(path) == records


def test_validation_is_a_tenth_of_training(tmp_path):
    line = json.loads(SAMPLE.read_text("utf-8").split("\n")[0])
    rows = [{**line, "block": {**line["block"], "id": f"b{i}"}} for i in range(20)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ScoredBlocks(str(path))
    names = {split: [r.id for r in data.records(split)] for split in ("train", "val")}
    assert len(names["train"]) == 18
    assert sorted(names["train"] + names["val"]) == sorted(f"b{i}" for i in range(20))


def change(path, value):
    def changed(item):
        *keys, last = path
        for key in keys:
            item = item[key]
        item[last] = value

    return changed


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        (("segments",), [], ["0 segments, but the block has 2"]),
        (("segments", 0, "candidates", 0), ["a", "b"], ["candidates[0] must be the reference"]),
        (("segments", 0, "candidates", 1), ["a"], ["candidates[1] has 1 lines, expected 2"]),
        (("segments", 0, "candidates", 1), ["a", ""], ["candidates[1][1] must be a line"]),
        (("segments", 0, "scores"), [1, 2], ["2 scores of 5 candidates"]),
        (("segments", 1, "scores", 2), 101, ["segments[1]", "scores[2] is 101"]),
        (("segments", 1, "scores", 2), True, ["scores[2] is True"]),
        (("segments", 1, "score"), [1], ["unknown field 'score'", "'scores'?"]),
        (("block", "target"), ["a"], ["1 lines in 'target', 4 in 'source'"]),
        (("block", "target_after"), ["a"], ["'after' and 'target_after'"]),
        (("block", "starts"), [0, 4], ["'starts' must rise from 0 to below 4"]),
        (("block", "terms"), [["a", "b"]], ["three strings"]),
        (("block", "terms"), None, ["field 'terms' must be a list"]),
        (("block", "terms"), 5, ["field 'terms' must be a list"]),
        (("block", "ids"), "x", ["block", "unknown field 'ids'"]),
    ],
)
def test_bad_lines(refused, tmp_path, path, value, parts):
    rows = [json.loads(line) for line in SAMPLE.read_text("utf-8").split("\n") if line]
    bad = copy.deepcopy(rows[0])
    change(path, value)(bad)
    mine = tmp_path / "mine.jsonl"
    mine.write_text("".join(json.dumps(row) + "\n" for row in [rows[1], bad]))
    refused(lambda: read_scored(mine), "mine.jsonl:2", *parts)


def test_a_missing_split(refused, tmp_path):
    refused(lambda: ScoredBlocks(str(SAMPLE)).records("test"), "no file for 'test'")
    refused(lambda: ScoredBlocks(str(SAMPLE)).records("val"), "too few to split")

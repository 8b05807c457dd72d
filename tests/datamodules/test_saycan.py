"""SayCan-style instructions."""

import json

import pytest

from datamodules import SayCan
from datamodules.files import SAMPLES

SPLITS = ("train", "val", "test")


def test_sample():
    data = SayCan()
    records = [record for split in SPLITS for record in data.records(split)]
    assert [len(data.records(split)) for split in SPLITS] == [5, 1, 1]
    first = next(r for r in records if r.query.startswith("I spilled"))
    assert first.relevant == (("find a sponge", 1), ("pick up the sponge", 1))
    assert first.pool == tuple(sorted(first.pool))
    assert len(first.pool) == 8
    assert first.corpus.documents["find a sponge"].content == "find a sponge"


def test_a_list_of_all_skills(tmp_path, refused):
    source = SAMPLES / "saycan.jsonl"
    names = ["wave", *SayCan().records("train")[0].pool]
    path = tmp_path / "skills.txt"
    path.write_text("\n".join(names) + "\n", encoding="utf-8")
    mine = tmp_path / "mine.jsonl"
    text = source.read_text(encoding="utf-8")
    mine.write_text(text + text.replace('"instruction": "', '"instruction": "Now: '), "utf-8")
    records = SayCan(str(mine), skills=str(path)).records("train")
    assert records[0].pool == tuple(names)
    path.write_text("\n".join(names[:-1]) + "\n", encoding="utf-8")
    refused(
        lambda: SayCan(str(mine), skills=str(path)).records("train"),
        "mine.jsonl:",
        "unknown skill 'put the can in the bin'",
    )
    path.write_text("wave\nnod\nwave\n", encoding="utf-8")
    refused(
        lambda: SayCan(str(mine), skills=str(path)).records("train"), "skills.txt:3", "'wave'", "1"
    )


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"instruction": "x", "skill": ["a"]}, ["unknown field 'skill'", "'skills'?"]),
        ({"instruction": "x", "skills": []}, ["'skills' is empty"]),
        ({"instruction": "x", "skills": [" "]}, ["skills[0] must be a string"]),
        ({"instruction": "x", "skills": "a"}, ["'skills' must be a list"]),
        ({"instruction": "", "skills": ["a"]}, ["'instruction' is empty"]),
        ({"skills": ["a"]}, ["'instruction' is missing"]),
    ],
)
def test_bad_lines(refused, tmp_path, item, parts):
    path = tmp_path / "mine.jsonl"
    good = json.dumps({"instruction": "go", "skills": ["a"]})
    path.write_text(f"{good}\n{json.dumps(item)}\n", encoding="utf-8")
    refused(lambda: SayCan(str(path)).records("train"), "mine.jsonl:2", *parts)

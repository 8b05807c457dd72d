"""Grades of kept translations by a local judge: who is asked for what, and the table."""

import json

import pytest

from benchmarks.alpo import judged
from datamodules.files import SAMPLES
from zoo.methods.alpo.scoring import ChoiceScorer

SETTINGS = {"data": str(SAMPLES / "subtitles"), "core": "2", "context": "0", "batch_size": "1"}
SETTINGS["tests"] = "4"


@pytest.fixture
def rows(tmp_path):
    blocks = judged.read_blocks(SETTINGS)
    said = {"SFT": ["Yes.", "No."], "ALPO": ["Yes.", "Never!"]}
    entries = [
        {"row": row, "seed": seed, "settings": SETTINGS, "lines": [said[row]] * len(blocks)}
        for seed in (0, 1)
        for row in said
    ]
    path = tmp_path / "lines.json"
    path.write_text(json.dumps(entries))
    return path


def test_blocks_are_graded_once(rows, tmp_path, capsys, save_tiny):
    judge = save_tiny(8)
    given = ["--json", str(tmp_path / "grades.json"), "--rows", str(rows), "--judge", judge]
    judged.main([*given, "--dtype", "float32", "--blocks", "1"])
    capsys.readouterr()
    judged.main([*given, "--dtype", "float32", "--blocks", "2"])
    entries = json.loads((tmp_path / "grades.json").read_text())
    assert [(entry["block"], entry["judge"]) for entry in entries] == [
        (0, tmp_path.name),
        (1, tmp_path.name),
    ]
    for entry in entries:
        grades = entry["grades"]
        assert list(grades) == ["SFT", "ALPO", *judged.CONTROLS]
        assert all(0 < grade < 100 for mine in grades.values() for grade in mine)
        assert [len(mine) for mine in grades.values()] == [2] * 4
        assert grades["SFT"][0] == grades["ALPO"][0]
        assert grades["SFT"][1] != grades["ALPO"][1]
    shown = capsys.readouterr().out
    assert f"0 {tmp_path.name}" not in shown
    assert f"{tmp_path.name}: 2 blocks" in shown


def test_each_text_is_asked_for_once(rows):
    """The first line of both rows is the same one."""
    asked = []

    class Judge:
        def fits(self, messages):
            return True

        def score(self, messages, candidates):
            asked.append(messages[1][1])
            return [0.2] * 5

    block = judged.read_blocks(SETTINGS)[0]
    said = {"SFT": ("Yes.", "No."), "ALPO": ("Yes.", "Never!")}
    grades = judged.graded(ChoiceScorer(Judge()), block, said)
    assert grades == {"SFT": [50.0, 50.0], "ALPO": [50.0, 50.0]}
    assert len(asked) == 2 * 3  # both orders of the grades

    class Full(Judge):
        def fits(self, messages):
            return False

    with pytest.raises(ValueError, match="does not fit into the judge's window"):
        judged.graded(ChoiceScorer(Full()), block, said)


def test_controls_are_the_reference_and_that_of_another_block():
    blocks = judged.read_blocks(SETTINGS)
    for place, block in enumerate(blocks):
        mine, other = judged.controls(blocks, place)
        assert mine == block.target
        assert len(other) == len(mine)
        far = blocks[(place + len(blocks) // 2) % len(blocks)]
        assert other[0] == far.target[0]
        assert far is not block


def test_table_compares_with_sft():
    entries = [
        {"judge": "j", "grades": {"SFT": [10.0, 20.0], "ALPO": [30.0, 20.0], "reference": [60.0]}},
        {"judge": "j", "grades": {"SFT": [20.0], "ALPO": [30.0], "reference": [60.0]}},
    ]
    assert judged.table(entries) == [
        "j: 2 blocks",
        "",
        "| row | grade | grade - SFT (95 % interval) |",
        "|---|---|---|",
        "| SFT | 17.50 | - |",
        "| ALPO | 27.50 | +10.00 (+10.00 to +10.00) |",
        "| reference | 60.00 | +42.50 (+40.00 to +45.00) |",
    ]
    assert judged.table([]) == []

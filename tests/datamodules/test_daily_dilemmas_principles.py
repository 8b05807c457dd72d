"""The files of principles beside DailyDilemmas, with the defects of the published ones mended."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from datamodules.daily_dilemmas_rows import read_principles
from zoo.errors import InputError

REAL = Path(os.environ.get("ZOO_DATA", "")) / "daily_dilemmas"


@pytest.mark.skipif(
    not os.environ.get("ZOO_DATA") or not REAL.is_dir(), reason="ZOO_DATA has no daily_dilemmas"
)
def test_principles():
    """Of 59 rows of one file 58 are principles, the other is a heading; 16 texts get their own."""
    found = {name: read_principles(REAL / f"principle_{name}.csv") for name in ("openai", "claude")}
    assert {name: len(items) for name, items in found.items()} == {"openai": 16, "claude": 58}
    starts = (
        "Follow the chain of command: The model should follow the instructions in the order of",
        "Comply with applicable laws: The assistant should not promote, facilitate, or engage in",
        "Don't provide information hazards: The assistant should not provide instructions related",
        "Don't respond with Not Safe For Work (NSFW) content: The assistant should not serve",
        "Exception: Transformation tasks: the assistant should never refuse the task of",
        "Assume best intentions from the user or developer: The assistant should assume best",
        "Use the right tool for the job: assistant can invoke that tool based on the provided",
        "Favouring longer and shorter responses in different competing consideration.",
    )
    texts = [item.text for item in found["openai"]]
    for start, place in zip(starts, (0, 1, 2, 5, 6, 7, 14, 15), strict=True):
        assert texts[place].startswith(start)
    assert [item.source for item in found["openai"]] == ["rules"] * 7 + ["defaults"] * 9
    apple = [item for item in found["claude"] if item.source.startswith("Apple")]
    assert len(apple) == 4
    assert not [item for item in found["claude"] if item.text.startswith("Principles")]


def written(path: Path, *rows: tuple[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("principle", "source"), *rows])
    return path


SHIFTED = (
    ("Be well-mannered.", "rules"),
    ("Be kind", "rules"),
    ("Be honest-Say what is so.", "rules"),
    ("Ask first-the self-employed may wait.", "defaults"),
)


def test_headings_that_are_a_row_too_low_go_up(tmp_path):
    rows = (("Rest at night.", "rules"), *SHIFTED[2:])
    found = read_principles(written(tmp_path / "own.csv", *rows))
    assert [(item.text, item.source, item.id) for item in found] == [
        ("Be honest: Rest at night.", "rules", "own.csv:2"),
        ("Ask first: Say what is so.", "rules", "own.csv:3"),
        ("the self-employed may wait.", "defaults", "own.csv:4"),
    ]


@pytest.mark.parametrize(
    "rows",
    [
        SHIFTED,  # not every row has a heading
        SHIFTED[2:],  # the first row has one too: nothing is shifted
        (SHIFTED[1], ("Be well-mannered.", "my own")),  # a source that the damaged file lacks
        SHIFTED[1:2],
    ],
)
def test_other_hyphens_are_no_headings(rows, tmp_path):
    found = read_principles(written(tmp_path / "own.csv", *rows))
    assert [(item.text, item.source) for item in found] == list(rows)


def test_the_heading_of_a_section_is_no_principle(tmp_path, caplog):
    """It is left out, and the reader is told."""
    rows = [
        ("Be kind.", "one"),
        ("Principles for Others", "one"),
        ("Think for others", "For others"),
        ("Speak for others", "For others"),
    ]
    found = read_principles(written(tmp_path / "own.csv", *rows))
    assert [item.text for item in found] == ["Be kind.", "Think for others", "Speak for others"]
    assert [item.id for item in found] == ["own.csv:2", "own.csv:4", "own.csv:5"]
    assert "own.csv:3 is the heading of 'For others', no principle: left out" in caplog.text


@pytest.mark.parametrize(
    ("text", "below"),
    [
        ("Tell people the truth about us", "us"),  # ends with it, as a word
        ("Put your trust in locus", "us"),  # ends with its letters
        ("Principles about us", "us"),  # says more than the source
        ("us", "us"),
    ],
)
def test_a_principle_that_ends_with_the_next_source_is_kept(text, below, tmp_path, caplog):
    rows = [(text, "Anna"), ("Put the guest first", below), ("Be on time", below)]
    found = read_principles(written(tmp_path / "own.csv", *rows))
    assert [(item.text, item.source) for item in found] == rows
    assert not caplog.records


def test_a_file_without_principles_is_refused(tmp_path):
    with pytest.raises(InputError, match="own.csv: no principle stands below the header line"):
        read_principles(written(tmp_path / "own.csv"))

"""What the translator is asked, in which wordings, and how its numbered lines are read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from methods.alpo.alpo_blocks import block

from zoo.methods.alpo.prompts import REQUIREMENTS, instruction, language, read_lines, written


def test_the_instruction_numbers_every_line_and_names_the_terms() -> None:
    """Task, requirements in one wording each, terms, lines; the same whenever it is asked."""
    asked = replace(block(2), terms=(("阿", "name", "Ah"), ("源", "", "Spring")))
    rows = instruction(asked).split("\n")
    assert rows == instruction(asked).split("\n")
    assert rows[0] == "Translate these 4 subtitle lines from Chinese into English."
    assert rows[rows.index("Terms:") :] == [
        *("Terms:", "阿 (name) - Ah", "源 - Spring"),
        *("Lines:", "1. 先", "2. 源 0 0", "3. 源 0 1", "4. 后"),
    ]
    assert "Terms: none" in instruction(block(2))
    said = [row.removeprefix("- ") for row in rows[2 : rows.index("Terms:")]]
    for row, wordings in zip(said, REQUIREMENTS, strict=False):
        assert row in [wording.format(count=4) for wording in wordings]


def test_the_last_requirement_is_left_out_of_half_the_blocks() -> None:
    """And every wording of each is drawn by some block's name."""
    texts = [instruction(replace(block(1), id=f"b{i}")) for i in range(60)]
    counts = Counter(text.count("\n- ") for text in texts)
    assert set(counts) == {4, 5}
    assert 15 < counts[5] < 45
    for wordings in REQUIREMENTS:
        assert all(any(w.format(count=3) in text for text in texts) for w in wordings)
    for wording in REQUIREMENTS[-1]:
        assert sum(wording in text for text in texts) < 30


def test_languages_have_names() -> None:
    assert [language(code) for code in ("ja", "xx", "")] == [
        "Japanese",
        "xx",
        "the source language",
    ]


def test_lines_are_read_as_they_are_written() -> None:
    """From any number on; a line too many, too few, empty or of another number is not valid."""
    lines = ("I see.", "3. No")
    assert written(lines, 2, 3) == ["2. I see.\n", "3. 3. No"]
    assert read_lines("".join(written(lines, 2, 3)), 2, 2) == lines
    for number in ("1．a", "1、a", "1：a", " 1) a ", "1.a"):
        assert read_lines(number, 1, 1) == ("a",)
    for text in ("1. a", "1. a\n2. b\n3. c", "2. a\n3. b", "1. a\nb", "1. a\n2. ", "1. a\n1. b"):
        assert read_lines(text, 1, 2) is None


def test_a_number_of_the_text_is_not_that_of_the_line() -> None:
    """A line that lacks its number does not lose one of its own, but makes the block not valid."""
    for text in ("1. a\n2.5 million", "1. a\n2:30", "1. a\n2、3 of us"):
        assert read_lines(text, 1, 2) is None
    assert read_lines("006. a\n007. Bond", 6, 2) is None
    assert read_lines("1. a\n2. 5 million", 1, 2) == ("a", "5 million")

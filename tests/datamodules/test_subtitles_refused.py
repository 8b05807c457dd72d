"""Subtitles that are refused: broken times and files, missing partners, options."""

import re
from pathlib import Path

import pytest
from subtitle_texts import _train, srt, write

from datamodules import Subtitles
from zoo.records.subtitle_files import cues, parse


@pytest.mark.parametrize(
    ("bad", "parts"),
    [
        ("1\n00:00:01,000 -> x\n", ["there is no subtitle"]),
        (srt("a", "b").replace("00:00:02,000 -->", "00:0:2:,000 -->"), ["a.zh.srt:6", "expected"]),
        (srt("a", "b").replace("00:00:02,000", "00:00:99,000"), [":6: broken time"]),
        (srt("a", "b").replace("00:00:03,000", "00:00:01,000"), ["ends before it starts"]),
        (srt("", ""), ["no subtitle with a text"]),
        ("", ["the file is empty"]),
    ],
)
def test_broken_times(refused, tmp_path, bad, parts):
    write(tmp_path, a__zh__srt=bad, a__en__srt=srt("x", "y"))
    refused(lambda: _train(tmp_path), "a.zh.srt", *parts)


def test_broken_ass(refused, tmp_path):
    text = "[Events]\nDialogue: 0,0:00:0x.00,0:00:02.00,Default,,0,0,0,,hi\n"
    write(tmp_path, a__zh__ass=text, a__en__srt=srt("x"))
    refused(lambda: _train(tmp_path), "a.zh.ass:2: broken time")


CUE = "{0}\n00:00:0{0},000 --> 00:00:0{0},900\n{1}\n\n"
ALONE = "{0}\n{1}\n\n"  # without a time


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (CUE.format(1, "a") + ALONE.format(2, "Who is it?") + CUE.format(3, "Me."), 5),
        (ALONE.format(1, "a") + CUE.format(2, "b"), 1),
        (CUE.format(1, "a") + ALONE.format(2, "b") + ALONE.format(3, "c") + CUE.format(4, "d"), 5),
        (CUE.format(1, "a") + CUE.format(2, "b") + ALONE.format(3, "c"), 9),
        (CUE.format(1, "a") + CUE.format(2, "b") + "3\n", 9),  # cut off
        (CUE.format(7, "a") + ALONE.format(8, "b") + CUE.format(9, "c"), 5),
        (CUE.format(1, "a") + ALONE.format(2, "b") + CUE.format(1, "c"), 5),  # they do not rise
    ],
)
def test_a_subtitle_without_its_time_is_refused(refused, text, line):
    """Else its text would vanish into the one before, or altogether."""
    refused(lambda: parse(text, Path("x.srt")), f"x.srt:{line}: no time after the number")
    web = re.sub(r"(:\d\d),", r"\1.", text)
    refused(lambda: parse(f"WEBVTT\n\n{web}", Path("x.vtt")), f"x.vtt:{line + 2}: no time after")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CUE.format(1, "3") + CUE.format(2, "b"), ["3", "b"]),
        (CUE.format(1, "How many?\n\n3") + CUE.format(2, "b"), ["How many? 3", "b"]),
        (CUE.format(1, "\n3\nyes") + CUE.format(2, "b"), ["3 yes", "b"]),
        (CUE.format(1, "a") + CUE.format(2, "How many?\n\n1"), ["a", "How many? 1"]),
        (CUE.format(1, "a") + CUE.format(2, "How many?\n3"), ["a", "How many? 3"]),
        (CUE.format(1, "") + CUE.format(2, "b"), ["b"]),
        (CUE.format(1, "a").replace("\n", "\n\n", 1) + CUE.format(2, "b"), ["a", "b"]),
        (CUE.format(1, "a\n\n3\nb").removeprefix("1\n"), ["a 3 b"]),  # no numbers at all
    ],
)
def test_a_number_may_be_text(text, said):
    """In the first lines of a subtitle, or where the numbers around show that none is missing."""
    assert [cue.text for cue in cues(parse(text, Path("x.srt")))] == said


@pytest.mark.parametrize("name", ["dialogue", "DIALOGUE", "Dialogue "])
def test_a_dialogue_by_another_name_is_refused(refused, name):
    line = "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,hi\n"
    text = f"[Events]\n{line}  {line}{line.replace('Dialogue', name)}"
    refused(lambda: parse(text, Path("x.ass")), f"x.ass:4: '{name}:' is no subtitle")
    broken = line.replace("02.00", "0x.00")
    refused(lambda: parse(f"[Events]\n  {broken}", Path("x.ass")), "x.ass:2: broken time")


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({"a__zh": "x\ny\n", "a__en": "x\n"}, ["a.en: 1 lines", "a.zh has 2"]),
        ({"a__zh": "x\n"}, ["a.zh: the episode has no file of the other language"]),
        ({"a__zh": "x\n", "a__en__srt": srt("x")}, ["a.en.srt: one file", "has times"]),
        ({"a__zh": "x\n", "a__zh__txt": "x\n", "a__en": "x\n"}, ["same episode and language"]),
        (
            {"a__zh__srt": srt("a", "b"), "a__en__srt": srt("a", "b", shift=999)},
            ["only 0 of 2 lines appear within 0.7 s"],
        ),
    ],
)
def test_bad_pairs(refused, tmp_path, caplog, files, parts):
    write(tmp_path, **files)
    refused(lambda: _train(tmp_path), *parts)
    if "same episode" not in parts[0]:
        write(tmp_path, good__zh="x\n", good__en="x\n")
        blocks = _train(tmp_path, on_bad="skip")
        assert [block.id for block in blocks] == ["train/good:1"]
        assert "1 episodes are bad and left out" in caplog.text


def test_bad_options(refused, tmp_path):
    refused(lambda: Subtitles(source="en"), "'en' is the source language too")
    refused(lambda: Subtitles(core=0), "data.core: 0")
    refused(lambda: Subtitles(context=-1), "data.context: -1")
    refused(lambda: Subtitles(part="stf"), "'sft'?")
    refused(lambda: Subtitles(str(tmp_path / "no")).records("train"), "no such folder")
    refused(lambda: Subtitles(target="fr").records("train"), "no file of the other language")

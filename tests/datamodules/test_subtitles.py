"""Subtitles: files in pairs, lines by time, blocks of whole segments, bad files."""

import json
import logging
import re
import tarfile
from pathlib import Path

import pytest

from datamodules import Subtitles
from datamodules.files import SAMPLES
from datamodules.subtitle_pairs import aligned
from datamodules.subtitles import without_moses
from zoo.records import SubtitleBlock
from zoo.records.subtitle_blocks import cut
from zoo.records.subtitle_files import Cue, cues, parse

SPLITS = ("train", "val", "test")


def srt(*lines, shift=0):
    """Return a subtitle file with a line every two seconds."""
    return "".join(
        f"{i}\n00:00:{2 * i:02d},{shift:03d} --> 00:00:{2 * i + 1:02d},{shift:03d}\n{line}\n\n"
        for i, line in enumerate(lines)
    )


def write(folder, **files):
    """Write files; `a__zh__srt` is `a.zh.srt`, under `train`."""
    (folder / "train").mkdir(exist_ok=True)
    for name, text in files.items():
        path = folder / "train" / name.replace("__", ".")
        path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text, "utf-8")
    return folder


def test_sample():
    data = Subtitles(core=4, context=2)
    assert [len(data.records(split)) for split in SPLITS] == [12, 3, 4]
    block = data.records("train")[1]
    assert block.id == "train/flower_shop:5"
    assert block.index == 1
    assert block.before == ("送给谁的?", "送给我自己")
    assert block.target == ("Good for you.", "It's my birthday today.", "Happy birthday!",
                            "Nobody remembered.")  # fmt: skip
    assert len(block.lines) == len(block.translation) == 8


def test_training_blocks_are_divided():
    parts = {
        p: Subtitles(str(SAMPLES / "subtitles"), core=4, context=2, part=p).records("train")
        for p in ("sft", "preference")
    }
    names = sorted(block.id for blocks in parts.values() for block in blocks)
    assert [len(blocks) for blocks in parts.values()] == [10, 2]
    assert names == sorted(block.id for block in Subtitles(core=4, context=2).records("train"))


def test_blocks_hold_whole_segments():
    """A core has at least its lines, ends with a segment, and context ends at segments too."""
    lines = tuple(map(str, range(40)))
    episode = SubtitleBlock(lines, lines, starts=(0, 3, 8, 12, 13, 20, 27, 33), id="e")
    blocks = cut(episode, core=10, context=3)
    assert [len(block.source) for block in blocks] == [12, 15, 13]
    assert sum((block.source for block in blocks), ()) == lines
    assert [(block.before, block.after) for block in blocks] == [
        ((), lines[12:20]),
        (lines[8:12], lines[27:33]),
        (lines[20:27], ()),
    ]
    assert [block.spans for block in blocks][1] == [(0, 1), (1, 8), (8, 15)]
    assert [block.id for block in blocks] == ["e:1", "e:13", "e:28"]


def test_lines_are_joined_by_time():
    def track(*starts):
        return [Cue(start, start + 500, f"{start}") for start in starts]

    pairs = aligned(track(0, 1000, 2000, 5000), track(300, 1400, 2650, 5800, 9000))
    assert pairs == [("0", "300"), ("1000", "1400"), ("2000", "2650")]
    assert aligned(track(0), track(700)) == [("0", "700")]
    assert aligned(track(0), track(701)) == []
    # the nearer partner, not the first within reach
    assert aligned(track(0, 600), track(650)) == [("600", "650")]
    assert aligned(track(600), track(0, 650)) == [("600", "650")]


def test_parts_of_the_own_sample_are_the_whole():
    """It has too few blocks to divide, and the configs of both stages begin with it."""
    sft, preference = (Subtitles(part=part).records("train") for part in ("sft", "preference"))
    assert sft == preference == Subtitles().records("train") != []


def test_lines_without_partner_are_counted(tmp_path, caplog):
    later = srt("x", "y", "z").replace("00:00:04,000", "00:00:07,000")
    later = later.replace("00:00:05,000", "00:00:08,000")
    write(tmp_path, a__zh__srt=srt("一", "二", "三"), a__en__srt=later)
    with caplog.at_level(logging.WARNING):
        (block,) = _train(tmp_path)
    assert block.source == ("一", "二")
    assert "2 of 8 lines have no partner" in caplog.text


def _train(folder, **options):
    """Return the blocks of a folder that has validation files of its own."""
    (folder / "val").mkdir(exist_ok=True)
    for code in ("zh", "en"):
        (folder / "val" / f"v.{code}").write_text("v\n", "utf-8")
    return Subtitles(str(folder), **options).records("train")


def test_forms_of_files(tmp_path):
    """Formats may differ, a language may be a folder, an archive is read like one.

    What tools leave in it is passed over.
    """
    (tmp_path / "train" / "zh").mkdir(parents=True)
    (tmp_path / "train" / "en").mkdir()
    (tmp_path / "train/zh/b.srt").write_text(srt("<i>一</i>\n二", "三"), "utf-8")
    (tmp_path / "train/en/b.vtt").write_text(
        "WEBVTT\n\n00:00.100 --> 00:01.000 align:start\none\n\n00:02.100 --> 00:03.000\nthree\n",
        "utf-8",
    )
    (tmp_path / "1.zh").write_text("四\n\n五\n", "utf-8")
    (tmp_path / "1.en").write_text("four\n\n\n", "utf-8")
    with tarfile.open(tmp_path / "train_more.tar.gz", "w:gz") as archive:
        for code in ("zh", "en"):
            for place in ("x", ".ipynb_checkpoints", "__MACOSX/x", "x/."):
                archive.add(tmp_path / f"1.{code}", f"{place}/1.{code}".replace("./", "._"))
            (tmp_path / f"1.{code}").unlink()
    blocks = _train(tmp_path)
    assert {block.id: block.source for block in blocks} == {
        "train/b:1": ("一 二", "三"),
        "train_more.tar.gz/x/1:1": ("四",),  # the pair with an empty side is left out
    }


def test_other_encodings(tmp_path, refused):
    write(tmp_path, a__zh="你好\n".encode("gb18030"), a__en="hi\n")
    refused(lambda: _train(tmp_path), "a.zh:1: not utf-8: byte 0xc4", "set data.encoding")
    assert _train(tmp_path, encoding="gb18030")[0].source == ("你好",)
    for name in ("gbx", "hex"):
        refused(
            lambda name=name: Subtitles(encoding=name),
            f"data.encoding: Python knows none of the name '{name}'",
        )
    assert Subtitles(encoding="gb18030").records("val") == Subtitles().records("val")  # the sample
    write(tmp_path, a__zh="你好\n".encode("utf-16"))
    refused(lambda: _train(tmp_path), "UTF-16")


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


def test_splits(refused, tmp_path):
    for i in range(10):
        for code in ("zh", "en"):
            (tmp_path / f"e{i}.{code}").write_text("x\n", "utf-8")
    data = Subtitles(str(tmp_path))
    assert [len(data.episodes(split)) for split in SPLITS] == [8, 1, 1]
    write(tmp_path, a__zh="x\n", a__en="x\n")
    refused(lambda: Subtitles(str(tmp_path)).records("val"), "e0 names no split, others do")
    refused(lambda: Subtitles(str(tmp_path / "train")).records("val"), "too few", "folders named")


def test_segments_and_terms(refused, tmp_path):
    write(tmp_path, a__zh="x\ny 龙\nz\n", a__en="x\ny\nz\n")
    segments, terms = tmp_path / "s.jsonl", tmp_path / "terms.tsv"
    terms.write_text("龙\tcreature\tdragon\n虎\t\ttiger\n", "utf-8")

    def starts(**fields):
        segments.write_text(json.dumps({"id": "train/a", "lines": 3, "starts": [0, 2], **fields}))
        rest = {"id": "val/v", "lines": 1, "starts": [0]}
        segments.write_text(segments.read_text() + "\n" + json.dumps(rest))
        return _train(tmp_path, segments=str(segments), terms=str(terms), core=1)

    first, second = starts()
    assert (first.source, first.spans) == (("x", "y 龙"), [(0, 2)])
    assert first.terms == (("龙", "creature", "dragon"),)
    refused(lambda: starts(lines=4), "segments of train/a are of 4 lines, but it has 3")
    refused(lambda: starts(starts=[0, 3]), "s.jsonl:1: 'starts' must rise from 0")
    refused(lambda: starts(id="b"), "no segments of train/a")
    terms.write_text("龙 dragon\n", "utf-8")
    refused(lambda: starts(), "terms.tsv:1: expected a term")


def test_bad_options(refused, tmp_path):
    refused(lambda: Subtitles(source="en"), "'en' is the source language too")
    refused(lambda: Subtitles(core=0), "data.core: 0")
    refused(lambda: Subtitles(context=-1), "data.context: -1")
    refused(lambda: Subtitles(part="stf"), "'sft'?")
    refused(lambda: Subtitles(str(tmp_path / "no")).records("train"), "no such folder")
    refused(lambda: Subtitles(target="fr").records("train"), "no file of the other language")


def test_moses():
    lines = (
        "isn &apos;t it ? no , I &apos;ll go .",
        "say &quot; hi &quot; ( now )",
        "woo @-@ hoo !",
    )
    assert without_moses(lines) == ("isn't it? no, I'll go.", 'say " hi " (now)', "woo-hoo!")


def test_tvsub(zoo_data):
    data = Subtitles(str(zoo_data / "tvsub"), moses=True)
    counts = {split: sum(len(e.source) for e in data.episodes(split)) for split in SPLITS}
    assert counts == {"train": 57981, "val": 1086, "test": 1154}
    blocks = data.records("test")
    assert sum(len(block.source) for block in blocks) == 1154
    assert {len(block.source) for block in blocks[:-1]} == {25}

"""Subtitles as blocks: files in pairs, lines by time, whole segments, forms of files."""

import json
import logging
import tarfile

from subtitle_texts import _train, srt, write

from datamodules import Subtitles
from datamodules.files import SAMPLES
from datamodules.subtitle_pairs import aligned
from datamodules.subtitles import without_moses
from zoo.records import SubtitleBlock
from zoo.records.subtitle_blocks import cut
from zoo.records.subtitle_files import Cue

SPLITS = ("train", "val", "test")


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


def test_braces_and_backslashes_are_text_of_pairs(tmp_path):
    """But for tags; pysubs2 takes all of them for tags and breaks."""
    lines = ("{\\an8}he {the boss} is here", "{laughs}", "C:\\New")
    write(tmp_path, a__zh__srt=srt("一", "二", "三"), a__en__srt=srt(*lines))
    (block,) = _train(tmp_path)
    assert block.target == ("he {the boss} is here", "{laughs}", "C:\\New")


def test_lines_without_partner_are_counted(tmp_path, caplog):
    later = srt("x", "y", "z").replace("00:00:04,000", "00:00:07,000")
    later = later.replace("00:00:05,000", "00:00:08,000")
    write(tmp_path, a__zh__srt=srt("一", "二", "三"), a__en__srt=later)
    with caplog.at_level(logging.WARNING):
        (block,) = _train(tmp_path)
    assert block.source == ("一", "二")
    assert "2 of 8 lines have no partner" in caplog.text


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

"""Translations with whole lines: retries, pieces, single lines; files with their time codes."""

import re
from collections import Counter

import pytest
from running import main, refusal, tiny
from runs import Runs

from zoo.errors import InputError
from zoo.methods.alpo import translate as translating
from zoo.methods.alpo.translate import Translating, translate
from zoo.methods.alpo.translate_file import translate_file
from zoo.records import SubtitleBlock

BLOCK = SubtitleBlock(
    tuple(f"s{i}" for i in range(7)), before=("b0", "b1"), after=("a0",), id="e:1"
)
SRT = """7
00:01:02,345 --> 00:01:03,999
<i>ni</i>
hao

9
00:01:05,000 --> 00:01:06,100
zai jian

"""
ASS = """[Script Info]
Title: Mine

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, \
Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Top,Arial,20,&H00FFFFFF,&H000000FF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,2,2,2,1,1,1,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:01.00,Top,,0,0,0,,a note
Dialogue: 3,0:00:02.50,0:00:03.75,Top,Li,0,0,0,,{\\pos(1,2)\\b1}ni hao{\\b0}
"""


@pytest.fixture
def write(monkeypatch):
    """Let blocks be written by a function of the block and the attempt at it."""

    def start(by):
        attempts = Counter()

        def written(_, blocks, how):
            found = []
            for block in blocks:
                found.append(by(block, attempts[block.id]))
                attempts[block.id] += 1
            return found

        monkeypatch.setattr(translating, "_write", written)
        return attempts

    return start


def numbered(block, *, without_last=False):
    lines = [f"{i}. {line.upper()}" for i, line in enumerate(block.lines, start=1)]
    return "\n".join(lines[:-1] if without_last else lines)


def upper(block):
    return tuple(line.upper() for line in block.source)


def test_context_is_dropped(write):
    write(lambda block, _: numbered(block))
    counts = Counter()
    assert translate(None, [BLOCK], Translating(), counts) == [upper(BLOCK)]
    assert counts == {"at once": 1}


def test_a_block_with_other_lines_is_written_anew(write):
    attempts = write(lambda block, attempt: numbered(block, without_last=attempt < 2))
    counts = Counter()
    assert translate(None, [BLOCK], Translating(retries=2), counts) == [upper(BLOCK)]
    assert counts == {"after a retry": 1}
    assert attempts == {"e:1": 3}


def test_then_in_pieces_of_five_lines(write):
    attempts = write(lambda block, _: numbered(block, without_last=len(block.lines) > 5))
    counts = Counter()
    assert translate(None, [BLOCK], Translating(retries=1), counts) == [upper(BLOCK)]
    assert counts == {"in pieces": 1}
    assert attempts == {"e:1": 2, "e:1+0": 1, "e:1+5": 1}  # no context in them


def test_then_line_by_line(write):
    """The first line counts, without the number 1 that was asked for; an empty one stays."""
    said = {"s0": "1、X", "s1": "no number\nmore", "s2": "", "s3": "1. ", "s4": "1. S4"}
    write(lambda block, _: said[block.source[0]] if len(block.lines) == 1 else "1. x")
    counts = Counter()
    block = SubtitleBlock(BLOCK.source[:5], id="e")
    found = translate(None, [block], Translating(retries=0), counts)
    assert found == [("X", "no number", "s2", "s3", "S4")]
    assert counts == {"in pieces": 1, "lines left as they were": 2}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("10:30 we meet.", "10:30 we meet."),
        ("1:30 is late", "1:30 is late"),
        ("1.5 million people", "1.5 million people"),
        ("1999: the year", "1999: the year"),
        ("007. Bond", "007. Bond"),
        ("2) Go!", "2) Go!"),  # the line was number 1
        ("1. 10:30 we meet.", "10:30 we meet."),
        ("1. 1. Mai", "1. Mai"),
        ("1.你好", "你好"),
        ("1：你好", "你好"),
    ],
)
def test_a_number_of_the_text_stays_where_a_line_is_written_alone(write, written, said):
    write(lambda block, _: written)
    block = SubtitleBlock(("s0",), id="e", before=("b",))
    assert translate(None, [block], Translating(retries=0), Counter()) == [(said,)]


def test_srt_keeps_its_time_codes(write, tmp_path):
    write(lambda block, _: numbered(block))
    source, output = tmp_path / "x.srt", tmp_path / "new" / "y.srt"
    source.write_text(SRT, "utf-8")
    assert translate_file(None, source, output, ("zh", "en")) == {"at once": 1}
    assert re.sub(r"\s+", " ", output.read_text("utf-8")) == (
        "1 00:01:02,345 --> 00:01:03,999 <i>NI HAO</i> 2 00:01:05,000 --> 00:01:06,100 ZAI JIAN "
    )


def test_ass_keeps_styles_places_and_comments(write, tmp_path):
    write(lambda block, _: numbered(block))
    source, output = tmp_path / "x.ass", tmp_path / "y.ass"
    source.write_text(ASS, "utf-8")
    translate_file(None, source, output, ("zh", "en"))
    events = [
        line for line in output.read_text("utf-8").split("\n") if line[:4] in ("Dial", "Comm")
    ]
    assert events == [
        "Comment: 0,0:00:00.00,0:00:01.00,Top,,0,0,0,,a note",
        "Dialogue: 3,0:00:02.50,0:00:03.75,Top,Li,0,0,0,,{\\pos(1,2)\\b1}NI HAO",
    ]
    assert "Style: Top,Arial" in output.read_text("utf-8")
    translate_file(None, source, tmp_path / "y.vtt", ("zh", "en"))
    assert "00:00:02.500 --> 00:00:03.750\nNI HAO" in (tmp_path / "y.vtt").read_text("utf-8")


def test_a_text_keeps_its_empty_lines(write, tmp_path):
    write(lambda block, _: numbered(block))
    source, output = tmp_path / "x.txt", tmp_path / "y.txt"
    source.write_text("one\n\ntwo\n\n", "utf-8")
    translate_file(None, source, output, ("zh", "en"))
    assert output.read_text("utf-8") == "ONE\n\nTWO\n\n"


def test_a_file_is_whole_or_not_there(write, tmp_path):
    def fail(block, _):
        if block.id == "x.srt:26":
            raise MemoryError
        return numbered(block)

    write(fail)
    cue = "{0}\n00:00:{0:02d},000 --> 00:00:{0:02d},900\nline {0}\n\n"
    source = tmp_path / "x.srt"
    source.write_text("".join(cue.format(i) for i in range(40)), "utf-8")
    with pytest.raises(MemoryError):
        translate_file(None, source, tmp_path / "y.srt", ("zh", "en"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.srt"]


@pytest.mark.parametrize(
    ("source", "output", "text", "part"),
    [
        ("x.srt", "y.srt", SRT.replace("00:01:05,000", "00:01:5x,000"), "x.srt:7: broken time"),
        ("x.srt", "y.txt", SRT, "must both have times"),
        ("x.srt", "y.doc", SRT, "no subtitle file by its suffix"),
        ("x.srt", "x.srt", SRT, "x.srt exists"),
        ("x.srt", "x.srt/y.srt", SRT, "y.srt cannot be written (Not a directory)"),
        ("x.srt", f"{'a' * 260}.srt", SRT, "cannot be written (File name too long)"),
        ("no.srt", "y.srt", SRT, "no such file"),
        ("x.srt", "y.srt", "hello", "there is no subtitle"),
    ],
)
def test_bad_files(tmp_path, source, output, text, part):
    (tmp_path / "x.srt").write_text(text, "utf-8")
    with pytest.raises(InputError, match=re.escape(part)):
        translate_file(None, tmp_path / source, tmp_path / output, ("zh", "en"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.srt"]


def test_generate_translates_a_file(runs: Runs, capsys, tmp_path) -> None:
    """A random model writes no numbered lines: every line is written alone, and none is lost."""
    source, output = tmp_path / "x.srt", tmp_path / "y.srt"
    source.write_text(SRT, "utf-8")
    given = runs.given("alpo")
    main("generate", *given, "--input", str(source), "--output", str(output))
    assert "blocks:  1 in pieces" in capsys.readouterr().out
    text = output.read_text("utf-8")
    assert re.findall(r"\d\d:\d\d:\d\d,\d{3}", text) == re.findall(r"\d\d:\d\d:\d\d,\d{3}", SRT)
    said = refusal(capsys, tmp_path, "--input", str(source), verb="generate", given=given)
    assert said.startswith("input and output: give both")
    said = refusal(capsys, tmp_path, "--prompt", "  ", verb="generate", given=given)
    assert said.startswith("prompt: has no text; leave it out")
    main("generate", *given, "--prompt", "你好")
    assert "source:  你好\n" in capsys.readouterr().out


def test_the_settings_of_the_data_hold_for_a_file(write, capsys, tmp_path) -> None:
    """Its encoding, the lines of a block and around it, and the terms; the sample is UTF-8."""
    source, output, terms = (tmp_path / name for name in ("x.srt", "y.srt", "terms.tsv"))
    cue = "{0}\n00:00:0{0},000 --> 00:00:0{0},900\n{1}\n\n"
    lines = ("你好", "龙", "再见")
    text = "".join(cue.format(i, line) for i, line in enumerate(lines, start=1))
    source.write_bytes(text.encode("gb18030"))
    terms.write_text("龙\tcreature\tdragon\n虎\t\ttiger\n", "utf-8")
    given = (*tiny("alpo"), "--input", str(source), "--output", str(output))
    said = refusal(capsys, tmp_path, verb="generate", given=given)
    assert "x.srt:3: not utf-8: byte 0xc4; set data.encoding" in said
    seen = []
    write(lambda block, _: seen.append(block) or numbered(block))
    given += ("--data.encoding", "gb18030", "--data.terms", str(terms))
    main("generate", *given, "--data.core", "2", "--data.context", "0")
    assert [block.lines for block in seen] == [lines[:2], lines[2:]]
    assert [block.terms for block in seen] == [(("龙", "creature", "dragon"),), ()]
    assert "00:00:02,000 --> 00:00:02,900\n龙\n" in output.read_text("utf-8")
    output.unlink()
    seen.clear()
    main("generate", *given, "--data.core", "2", "--data.context", "1")
    assert [(block.before, block.after) for block in seen] == [((), lines[2:]), (lines[1:2], ())]
    assert all(block.terms for block in seen)

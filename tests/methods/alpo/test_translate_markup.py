"""Translated subtitle files show the translation: braces, backslashes, tags, and what cannot be."""

import pytest

from zoo.methods.alpo import translate as translating
from zoo.methods.alpo.translate_file import translate_file
from zoo.records.subtitle_files import cues, parse

CUE = "1\n00:00:01,000 --> 00:00:02,000\n{}\n\n"
ODD = ("I {really} mean {it}", "{laughs}", "C:\\New \\hello", "a } b { c", "\\", "{{a}")
EVENT = "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{}\n"


@pytest.fixture
def translated(monkeypatch, tmp_path):
    """Translate a subtitle; return what the translator sees, the counts, and the new file."""

    def run(source, target, output):
        seen = []

        def written(_, blocks, how):
            seen.extend(blocks[0].lines)
            return [f"1. {target}"]

        monkeypatch.setattr(translating, "_write", written)
        for path in tmp_path.iterdir():
            path.unlink()
        path = tmp_path / ("x.ass" if source.startswith("Dialogue") else "x.srt")
        path.write_text(source if path.suffix == ".srt" else f"[Events]\n{source}", "utf-8")
        counts = translate_file(None, path, tmp_path / output, ("zh", "en"))
        (line,) = seen
        return line, counts, tmp_path / output

    return run


@pytest.mark.parametrize("text", ODD)
def test_braces_and_backslashes_are_text(translated, text):
    """Of the source and of the translation; pysubs2 takes them for tags and breaks."""
    for name in ("y.srt", "y.vtt"):
        seen, counts, output = translated(CUE.format(text), text, name)
        assert (seen, counts) == (text, {"at once": 1})
        assert output.read_text("utf-8").split("\n")[-3] == text
        assert [cue.text for cue in cues(parse(output.read_text("utf-8"), output))] == [text]


def test_a_tag_in_braces_stays_where_it_is_one(translated):
    source = CUE.format("{\\an8}<i>ni</i> {\\b1}hao")
    seen, counts, output = translated(source, "hello", "y.srt")
    assert (seen, counts) == ("ni hao", {"at once": 1})
    assert output.read_text("utf-8") == CUE.format("{\\an8}<i>hello</i>")
    _, _, output = translated(source, "hello", "y.ass")
    assert output.read_text("utf-8").endswith(",,{\\an8}{\\i1}hello\n")


@pytest.mark.parametrize(
    ("said", "name", "kept"),
    [
        ("I {really} do", "y.ass", "I (really) do"),
        ("I {really} do", "y.ssa", "I (really) do"),
        ("<laughs> 2 < 3", "y.srt", "(laughs) 2 < 3"),
        ("</i> {\\an8} no", "y.vtt", "(/i) (\\an8) no"),
        ("a --> b", "y.srt", "a -> b"),
    ],
)
def test_what_a_format_cannot_hold_is_changed_and_counted(translated, said, name, kept):
    _, counts, output = translated(CUE.format("ni hao"), said, name)
    assert counts == {"at once": 1, "lines changed to fit the format": 1}
    assert [cue.text for cue in cues(parse(output.read_text("utf-8"), output))] == [kept]


def test_ass_reads_back_as_it_was_written(translated):
    """A backslash is no break there; braces that libass and ffmpeg escape are text."""
    source = EVENT.format("{a note}\\{laughs\\} ni\\Nhao")
    seen, counts, output = translated(source, "C:\\New \\h", "y.ass")
    assert (seen, counts) == ("{laughs} ni hao", {"at once": 1})
    assert [cue.text for cue in cues(parse(output.read_text("utf-8"), output))] == ["C:\\New \\h"]

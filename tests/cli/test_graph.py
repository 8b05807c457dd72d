"""`python -m zoo graph`: the graph of values is built, shown and asked from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.cli.main import main

SAMPLES = Path(__file__).resolve().parents[2] / "datamodules/samples"
VALUES = SAMPLES / "daily_dilemmas_values.csv"
SITUATION = "Your friend asks you to lie for him. Should you lie?"


@pytest.fixture
def principles(tmp_path: Path) -> Path:
    path = tmp_path / "principle_own.csv"
    path.write_text("principle,source\nPut honesty above comfort.,somebody\n", encoding="utf-8")
    return path


def run(*args: object) -> None:
    main(["graph", *map(str, args)])


def test_build_show_and_query(
    principles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    built = ("--values", VALUES, "--principles", principles, "--encoder", "tiny-bert")
    run("build", index, *built)
    assert "principles" in capsys.readouterr().out
    run("show", index)
    assert str(tmp_path / "graph.html") in capsys.readouterr().out
    assert "<circle" in (tmp_path / "graph.html").read_text(encoding="utf-8")
    model = ("--backbone", "tiny-llama", "--tau", 0)
    near = ("--prefilter", 1, "--encoder", "tiny-bert")
    run("query", index, "--text", SITUATION, "--theory", "emotion", *model, *near)
    out = capsys.readouterr().out
    assert "/emotion" in out
    assert "from emotion-" in out
    assert "1 kept" in out
    run("query", index, "--text", SITUATION, *model[:2], "--tau", 100)
    assert "kept above 100" in capsys.readouterr().out
    run("build", index, *built)  # whole already: opened
    with pytest.raises(SystemExit):
        run("build", index, *built, "--seed", 1)
    assert "name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "graph: no verb ''"),
        (("bild",), "did you mean 'build'?"),
        (("build", "x"), "the following arguments are required: --values"),
        (("build", "x", "--values", VALUES, "--encder", "y"), "did you mean '--encoder'?"),
        (("build", "x", "--values", VALUES, "--max_size", "0"), "max_size: 0 is not above 0"),
        (("build", "x", "--values", VALUES, "--seed", -1), "seed: -1 is not in 0.."),
        (("build", "x", "--values", VALUES, "--seed", 2**64), f"seed: {2**64} is not in 0.."),
        (("build", "x", "--values", "none.csv"), "none.csv"),
        (("show", "nothing"), "nothing/index.json: missing"),
        (("query", "nothing", "--text", "x"), "nothing/index.json: missing"),
        (("query", "x", "--text", "x", "--prefilter", "0"), "prefilter: 0 is not above 0"),
        (("query", "x", "--text", "x", "--tau", "200"), "tau: 200 is not in 0..100"),
        (("query", "x", "--text", "x", "--tau", "-1"), "tau: -1 is not in 0..100"),
        (("query", "x", "--text", "x", "--tau", "nan"), "tau: nan is not in 0..100"),
        (("query", "x", "--text", "x", "--top", "-1"), "top: -1 is not above 0"),
        (("query", "x", "--text", "x", "--how", "magic"), "invalid choice: 'magic'"),
    ],
)
def test_bad_arguments_are_one_line(
    args: tuple[object, ...], message: str, refused: Callable[..., str]
) -> None:
    assert message in refused(*map(str, args), verb="graph", given=())


def test_a_page_overwrites_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor any file that is no page; without a name it stands beside the index, also beside `.`."""
    index = tmp_path / "index"
    run("build", index, "--values", VALUES)
    table = tmp_path / "values.csv"
    table.write_text("mine", encoding="utf-8")
    (tmp_path / "link").symlink_to(index)
    before = {path: path.read_bytes() for path in (table, *index.iterdir())}
    for output, message in (
        (index / "reports.parquet", "does not end with .html"),
        (table, "does not end with .html"),
        (index / "graph.html", "is inside the index"),
        (tmp_path / "link" / "graph.html", "is inside the index"),
    ):
        with pytest.raises(SystemExit):
            run("show", index, "--output", output)
        assert f"output: {output} {message}" in capsys.readouterr().err
    monkeypatch.chdir(index)
    run("show", ".")
    assert (tmp_path / "graph.html").is_file()
    assert {path: path.read_bytes() for path in (table, *index.iterdir())} == before


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (",value,WVS,MFT,Virtue,Emotion,Maslow\n", "the table of values is empty"),
        (",value,WVS,MFT,Virtue,Emotion,Maslow\n0,honesty,,,,trsut,\n", "'trsut'"),
        ("value,Maslow\nhonesty,safety\n", "WVS"),
        (
            ",value,WVS,MFT,Virtue,Emotion,Maslow\n0,hon\x01esty,,,,,\n",
            "values.csv:2: column 'value': 'hon\\x01esty' has a control character",
        ),
    ],
)
def test_a_bad_table_is_named_and_nothing_written(
    table: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "values.csv"
    path.write_text(table, encoding="utf-8")
    with pytest.raises(SystemExit):
        run("build", tmp_path / "index", "--values", path)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "index").exists()


def test_a_principle_without_text_is_named(
    principles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    principles.write_text("principle,source\n,somebody\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        run("build", tmp_path / "index", "--values", VALUES, "--principles", principles)
    assert f"{principles}:2" in capsys.readouterr().err
    assert not (tmp_path / "index").exists()

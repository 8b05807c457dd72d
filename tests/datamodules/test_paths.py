"""Every path that a data module takes may begin with `~` and hold environment variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import datamodules
from datamodules.files import data_path
from zoo.errors import arguments

NOT_PATHS = ("name", "variant", "system")
BESIDE = {  # what is looked at only beside another file
    ("RankingRecords", "corpus"): "train",
    ("MSMARCOTriples", "queries"): "collection",
    ("MSMARCOTriples", "collection"): "queries",
    ("ImageText", "annotations"): "path",
}
PATHS = [
    (name, argument)
    for name in datamodules.__all__
    for argument, kind in (arguments(getattr(datamodules, name)) or {}).items()
    if kind == (str | None) and argument not in NOT_PATHS
]


@pytest.mark.parametrize(("name", "argument"), PATHS)
def test_paths_of_data_modules(
    name: str,
    argument: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:
    """A file that is not there is looked for in the place that the variable names."""
    monkeypatch.setenv("MY_DATA", str(tmp_path / "mine"))
    (tmp_path / "a.png").write_text("1\ttext")  # a table, or a folder's picture
    there = {"path": str(tmp_path)}.get(BESIDE.get((name, argument), ""), str(tmp_path / "a.png"))
    given = {BESIDE.get((name, argument), argument): there, argument: "$MY_DATA/none"}
    split = argument if argument in ("val", "test") else "train"

    def read() -> object:
        data = getattr(datamodules, name)(**given)
        return data.corpus if name == "Documents" else data.records(split)

    refused(read, str(tmp_path / "mine" / "none"))


def test_home_variables_and_names_with_a_dollar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NO_SUCH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert data_path("~/a") == data_path("$HOME/a") == data_path("${HOME}/a") == tmp_path / "a"
    for text in ("$NO_SUCH/a", "~/${NO_SUCH}"):
        refused(lambda text=text: data_path(text), text, "the environment variable $", "is not set")
    (tmp_path / "$NO_SUCH").mkdir()
    assert data_path("$NO_SUCH") == Path("$NO_SUCH")

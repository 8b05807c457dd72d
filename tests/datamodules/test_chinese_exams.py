"""C-Eval and CMMLU: the authors' files, the hub's form, the real archives."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

import datamodules
from datamodules import CMMLU, CEval
from datamodules.base import SPLITS
from datamodules.files import SAMPLES
from datamodules.tables import read_csv


def counts(data: Any) -> list[int]:
    return [len(data.records(split)) for split in SPLITS]


@pytest.mark.parametrize("cls", [CEval, CMMLU])
def test_sample(cls: type) -> None:
    data = cls()
    assert counts(data) == [8, 2, 4]
    first, *_ = data.records("test")
    assert (first.question, first.options[first.gold]) == ("独轮车有几个轮子？", "一")
    assert {r.kind for r in data.records("train")} == {"garden tools", "river maps"}
    questions = [r.question for split in SPLITS for r in data.records(split)]
    assert len(set(questions)) == len(questions)
    assert {r.kind for r in cls(subjects=["river_maps"]).records("test")} == {"river maps"}


def test_the_explanation_is_the_rationale() -> None:
    assert all(r.rationale for r in CEval().records("train"))
    assert not any(r.rationale for r in [*CEval().records("test"), *CMMLU().records("train")])


@pytest.mark.parametrize("form", ["saved", "parquet", "jsonl"])
@pytest.mark.parametrize("name", ["CEval", "CMMLU"])
def test_the_form_of_the_hub(name: str, form: str, tmp_path: Path) -> None:
    """A subset a subject; the records are those of the authors' files."""
    cls = getattr(datamodules, name)
    files, hub = tmp_path / "files", tmp_path / "hub"
    with zipfile.ZipFile(SAMPLES / cls.sample) as archive:
        archive.extractall(files)
    for subject in ("garden_tools", "river_maps"):
        tables = {}
        for part in {"dev", cls.tested}:
            file = next((files / part).glob(f"{subject}*.csv"))
            tables[part] = datasets.Dataset.from_list([row for _, row in read_csv(file)])
        if form == "saved":
            datasets.DatasetDict(tables).save_to_disk(str(hub / subject))
        for part, table in tables.items():
            (hub / subject).mkdir(parents=True, exist_ok=True)
            if form == "parquet":
                table.to_parquet(hub / subject / f"{part}-00000-of-00001.parquet")
            elif form == "jsonl":
                table.to_json(hub / subject / f"{part}.jsonl")
    for split in SPLITS:
        read = [[replace(r, id="") for r in cls(p).records(split)] for p in (None, str(hub))]
        assert read[0] == read[1]


def test_errors(tmp_path: Path, refused: Callable[..., str]) -> None:
    def load(row: str, header: str = "question,A,B,C,D,answer") -> Callable[[], Any]:
        (tmp_path / "val").mkdir(exist_ok=True)
        (tmp_path / "val" / "law_val.csv").write_text(f"{header}\n{row}\n")
        return lambda: CEval(str(tmp_path)).records("test")

    refused(load("q,a,b,c,d,E"), "law_val.csv:2", "the letter is 'E'")
    refused(load("q,a,,c,d,A"), "law_val.csv:2", "'B' is empty")
    refused(load("q,a,b,c,d", "question,A,B,C,D"), "law_val.csv:1", "'answer' is missing")
    refused(lambda: CEval(str(tmp_path)).records("train"), "no CSV file in a folder 'dev'")
    refused(lambda: CMMLU(str(tmp_path / "no")).records("test"), "no such file or folder")
    refused(lambda: CEval(subjects=["river map"]).records("test"), "mean 'river maps'?")


def test_real_archives(zoo_data: Path) -> None:
    ceval = CEval(str(zoo_data / "ceval" / "ceval.zip"))
    assert counts(ceval) == [208, 52, 1346]
    assert len({r.kind for r in ceval.records("test")}) == 52
    cmmlu = CMMLU(str(zoo_data / "cmmlu" / "cmmlu.zip"))
    assert counts(cmmlu) == [268, 67, 11582]
    assert len({r.kind for r in cmmlu.records("test")}) == 67

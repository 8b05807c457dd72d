"""Datasets in the form of the Hugging Face hub say the same as the files of their authors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from hub_forms import CASES, FORMS, NAMES, Case, esconv, records, write

import datamodules
from datamodules.files import SAMPLES
from datamodules.fingerprint import UnnamableError, named


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_same_records_as_the_authors_files(case: Case, form: str, tmp_path: Path) -> None:
    write(tmp_path / "hub", case, form)
    if case.files is not None:
        (tmp_path / "files").mkdir()
        case.files(tmp_path / "files")
    authors = tmp_path / "files" if case.files else None
    if case.module == "MSMARCOTriples":
        authors = tmp_path / "files" / "triples.tsv"
    assert records(case, tmp_path / "hub") == records(case, authors)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_mirror_with_other_columns_is_refused(
    case: Case, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """It says which columns were found and which expected."""
    tables = {
        split: {("other" if name == case.missing else name): cells for name, cells in table.items()}
        for split, table in case.tables().items()
    }
    write(tmp_path, replace(case, tables=lambda: tables, features=None), "parquet")
    refused(
        lambda: records(case, tmp_path),
        f"no column {case.missing}",
        "found ",
        "other",
        "expected ",
    )


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_without_network_one_line_says_what_to_do(case: Case, refused: Callable[..., str]) -> None:
    data = getattr(datamodules, case.module)("hf://nobody/nothing@v1", **(case.arguments or {}))
    refused(
        lambda: data.records("train"),
        "hf://nobody/nothing@v1: cannot be read",
        "https://huggingface.co/datasets/nobody/nothing",
        "set path to their folder",
    )


@pytest.mark.parametrize("form", ["saved", "parquet"])
def test_beir_and_its_judgements(form: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    """Corpus and queries are subsets, judgements a dataset of their own."""

    def put(name: str, tables: dict[str, dict[str, list[Any]]]) -> None:
        write(tmp_path / name, Case("BEIR", lambda: tables, ""), form)

    for what, keys in (("corpus", ("_id", "title", "text")), ("queries", ("_id", "text"))):
        lines = (SAMPLES / f"beir.{what}.jsonl").read_text(encoding="utf-8").splitlines()
        items = [json.loads(line) for line in lines]
        put(what, {what: {key: [item.get(key) for item in items] for key in keys}})
    judged = {}
    for split, name in (("train", "train"), ("dev", "validation"), ("test", "test")):
        lines = (SAMPLES / f"beir.qrels.{split}.tsv").read_text(encoding="utf-8").splitlines()
        cells = [line.split("\t") for line in lines if not line.startswith("query-id")]
        judged[name] = {
            "query-id": [row[0] for row in cells],
            "corpus-id": [row[-2] for row in cells],
            "score": [float(row[-1]) for row in cells],
        }
    put("qrels", judged)
    assert records(Case("BEIR", dict, ""), tmp_path) == records(Case("BEIR", dict, ""), None)
    (tmp_path / "qrels").rename(tmp_path / "elsewhere")
    apart = Case("BEIR", dict, "", arguments={"qrels": str(tmp_path / "elsewhere")})
    assert records(apart, tmp_path) == records(Case("BEIR", dict, ""), None)
    put("other", {"test": {"query": ["q6"], "corpus-id": ["b5"], "score": [1]}})
    other = datamodules.BEIR(str(tmp_path), qrels=str(tmp_path / "other"))
    refused(lambda: other.records("test"), "no column query-id", "expected query-id, corpus-id")
    refused(lambda: datamodules.BEIR("hf://BeIR/none").records("test"), "hf://BeIR/none: cannot be")
    assert datamodules.BEIR("hf://BeIR/a@v1").qrels == "hf://BeIR/a-qrels"


def test_the_cache_is_read_offline_and_a_commit_is_that_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    """Without a network `datasets` takes any commit that its cache has."""
    commit = "0123456789" * 4
    case = CASES[NAMES.index("ESConv")]
    write(tmp_path / "source", case, "jsonl")
    files = {split: str(tmp_path / "source" / f"{split}-0.jsonl") for split in case.tables()}
    builder = datasets.load_dataset_builder("json", data_files=files, cache_dir=str(tmp_path))
    builder.download_and_prepare()
    place = tmp_path / "cache" / "thu-coai___esconv" / "default" / "0.0.0" / commit
    shutil.copytree(builder.cache_dir, place)
    for file in place.glob("json-*.arrow"):
        file.rename(file.with_name(file.name.replace("json", "esconv")))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for address in ("hf://thu-coai/esconv", f"hf://thu-coai/esconv@{commit}"):
        read = datamodules.ESConv(address).records("val")
        assert [replace(item, id="") for item in read] == records(case, None)["val"]
    other = datamodules.ESConv("hf://thu-coai/esconv@" + "a" * 40)
    refused(lambda: other.records("val"), "the cache holds the commit", commit)


def test_addresses_splits_and_broken_folders(tmp_path: Path, refused: Callable[..., str]) -> None:
    for address in ("hf://esconv", "hf://a/b/c", "hf://a/b@"):
        refused(lambda address=address: datamodules.ESConv(address).records("val"), "owner/name")
    write(tmp_path, CASES[NAMES.index("ESConv")], "saved")
    (tmp_path / "validation" / "state.json").unlink()
    refused(lambda: datamodules.ESConv(str(tmp_path)).records("train"), "not a whole save_to_disk")
    only = datasets.Dataset.from_dict(esconv()["train"])
    only.save_to_disk(str(tmp_path / "one"))
    one = datamodules.ESConv(str(tmp_path / "one"))
    assert len(one.records("train")) == 5
    refused(lambda: one.records("val"), "no split validation or valid or val or dev; it has train")


def test_examples_are_stored_for_a_commit_alone() -> None:
    """What a branch or no revision stands for may change between two starts."""
    commits = ["hf://a/b@" + digit * 40 for digit in "12"]
    one, two = (json.dumps(named({"path": path})) for path in commits)
    assert one != two
    for path in ("hf://a/b", "hf://a/b@main", "hf://a/b@v1.0"):
        with pytest.raises(UnnamableError):
            named({"path": path})


def test_the_page_lists_every_form() -> None:
    page = Path(datamodules.__file__).with_name("README.md").read_text(encoding="utf-8")
    listed = page.partition("# Datasets of the Hugging Face hub")[2]
    assert [name for name in NAMES if f"| `{name}` |" not in listed] == []

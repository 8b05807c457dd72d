"""DailyDilemmas: the checks of its sheet, on the sample and on the real files, and bad files."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules import DailyDilemmas
from datamodules.daily_dilemmas import TABLES, read_dilemmas, read_rows
from datamodules.daily_dilemmas_rows import (
    GROUPS,
    literal,
    read_values,
    text_cells,
)
from datamodules.files import SAMPLES
from datamodules.tables import read_csv
from zoo.errors import InputError
from zoo.records import ACTION_TYPES, THEORIES, Dilemma

SAMPLE = SAMPLES / "daily_dilemmas.csv"
REAL = Path(os.environ.get("ZOO_DATA", "")) / "daily_dilemmas"
EIGHT_ROWS = "dilemmas_with_detail_by_action_test.csv"
real = pytest.mark.skipif(
    not os.environ.get("ZOO_DATA") or not REAL.is_dir(), reason="ZOO_DATA has no daily_dilemmas"
)


@pytest.fixture(scope="module")
def all_dilemmas() -> list[Dilemma]:
    return DailyDilemmas(str(REAL)).records("test")


def test_a_zip_reads_as_the_folder(tmp_path: Path) -> None:
    """With the texts of `dilemma.csv` and the check of labels against `values.csv`."""
    rows = list(csv.DictReader(SAMPLE.open(encoding="utf-8")))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / TABLES["official"][0]).write_bytes(SAMPLE.read_bytes())
    shutil.copy(SAMPLES / "daily_dilemmas_values.csv", folder / "values.csv")
    told = {row["idx"]: f"Told anew {number}." for number, row in enumerate(rows)}
    with (folder / "dilemma.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("idx", "dilemma_situation"), *told.items()])
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "data")
    zipped = DailyDilemmas(str(tmp_path / "packed.zip")).records("test")
    assert zipped == DailyDilemmas(str(folder)).records("test")
    assert {d.situation for d in zipped} == set(told.values())
    (folder / "values.csv").write_text("value,maslow\nnothing,safety\n")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "data")
    for path in (folder, tmp_path / "packed.zip"):
        with pytest.raises(InputError):
            DailyDilemmas(str(path)).records("test")


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the sample with a cell changed, rows dropped or repeated."""

    def change(
        row: int = 0, drop: int = -1, repeat: int = -1, values: bool = False, **cells: str
    ) -> Path:
        rows = list(csv.DictReader(SAMPLE.open(encoding="utf-8")))
        rows[row] |= cells
        rows = [r for i, r in enumerate(rows) if i != drop]
        rows += [rows[repeat]] if repeat >= 0 else []
        path = tmp_path / "table.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        if values:
            text = (SAMPLES / "daily_dilemmas_values.csv").read_text(encoding="utf-8")
            (tmp_path / "values.csv").write_text(text, encoding="utf-8")
        return path

    return change


def test_sample():
    data = DailyDilemmas()
    dilemmas = data.records("test")
    assert data.records("train") == dilemmas
    assert [d.id for d in dilemmas] == list("123456")
    wallet = dilemmas[0]
    assert wallet.situation.startswith("You find a wallet")
    assert wallet.to_do.text == "Hand the wallet in"
    assert wallet.to_do.values == ("honesty", "courage", "generosity")
    assert wallet.to_do.labels["virtue"] == ("Truthfulness", "Courage", "Liberality")
    assert wallet.not_to_do.labels["maslow"] == ("safety", "", "")
    assert wallet.not_to_do.of("maslow") == ["safety"]


def test_a_table_is_found_in_its_folder(tmp_path: Path):
    """By its name, the official one before the other unless that is asked for."""
    for table, rows in (("official", None), ("aggregated", 5)):
        lines = SAMPLE.read_text("utf-8").splitlines(keepends=True)
        (tmp_path / TABLES[table][0]).write_text("".join(lines[:rows]), "utf-8")
    found = DailyDilemmas(str(tmp_path)).records("test")
    assert [d.situation for d in found] == [d.situation for d in DailyDilemmas().records("test")]
    assert found == DailyDilemmas(str(tmp_path / TABLES["official"][0])).records("test")
    other = DailyDilemmas(str(tmp_path), table="aggregated").records("test")
    assert [d.situation for d in other] == [d.situation for d in found[:2]]


def test_the_sample_has_every_column_of_the_official_table():
    with SAMPLE.open(encoding="utf-8") as file:
        assert len(next(csv.reader(file))) == 24


@real
@pytest.mark.fidelity("daily_dilemmas", 1)
def test_1360_dilemmas_of_two_actions(all_dilemmas: list[Dilemma]):
    assert len({d.id for d in all_dilemmas}) == len(all_dilemmas) == 1360
    rows = list(read_rows(REAL / "dilemma_to_action_to_values_aggregated.csv.gz"))
    assert sorted((d.id, kind) for d in all_dilemmas for kind in ACTION_TYPES) == sorted(
        (row.dilemma, row.action_type) for row in rows
    )


@pytest.mark.fidelity("daily_dilemmas", 1)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": 3}, r"table.csv:4: dilemma 2 has no row with action_type 'not_to_do'"),
        ({"repeat": 2}, r"table.csv:14: dilemma 2 has two rows with action_type 'to_do'"),
        ({"action_type": "do"}, r"table.csv:2: column 'action_type' is 'do'; .*to_do"),
    ],
)
def test_a_dilemma_has_one_row_for_each_action(changed, change, message):
    with pytest.raises(InputError, match=message):
        list(read_dilemmas(changed(**change)))


@pytest.mark.fidelity("daily_dilemmas", 2)
@pytest.mark.parametrize("column", ["values_types", *THEORIES])
def test_lists_are_aligned_with_the_values(changed, column):
    for dilemma in DailyDilemmas().records("test"):
        for kind in ACTION_TYPES:
            action = dilemma.action(kind)
            assert {len(labels) for labels in action.labels.values()} == {len(action.values)}
    message = rf"table.csv:2: column '{column}' lists 1 items and column 'values_names' 3"
    with pytest.raises(InputError, match=message):
        list(read_dilemmas(changed(**{column: "[nan]"})))


@real
@pytest.mark.fidelity("daily_dilemmas", 3)
def test_values_are_among_the_301(all_dilemmas: list[Dilemma]):
    table = read_values(REAL / "values.csv")
    assert len(table) == 301
    assert {v for d in all_dilemmas for k in ACTION_TYPES for v in d.action(k).values} == set(table)


@pytest.mark.fidelity("daily_dilemmas", 3)
def test_an_unknown_value_is_refused(changed):
    names = "['honesty', 'courrage', 'generosity']"
    with pytest.raises(InputError, match=r":2: column 'values_names': item 1: .*'courage'"):
        list(read_dilemmas(changed(values_names=names, values=True)))


@real
@pytest.mark.fidelity("daily_dilemmas", 4)
def test_labels_follow_from_the_value_table():
    table = read_values(REAL / "values.csv")
    rows = list(read_csv(REAL / EIGHT_ROWS))
    assert len(rows) == 8
    for number, row in rows:
        where = f"{EIGHT_ROWS}:{number}"
        for theory in THEORIES:
            given = [label or "" for label in text_cells(row, theory, where)]
            names = text_cells(row, "values_names", where)
            assert given == [table[str(name)][theory] for name in names]


@pytest.mark.fidelity("daily_dilemmas", 4)
def test_another_label_than_the_value_tables_is_refused(changed):
    labels = "['self-esteem', 'safety', 'love and belonging']"
    with pytest.raises(InputError, match="'maslow': 'courage' has the label 'safety', but 'self-e"):
        list(read_dilemmas(changed(maslow=labels, values=True)))


@pytest.mark.fidelity("daily_dilemmas", 5)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("kind", ["parties", "values", "reason"])
def test_parties_values_and_reasons_go_together(changed, kind, group):
    column = f"{kind}_{group}"
    with pytest.raises(InputError, match=r"table.csv:2: column .* they must be as many"):
        list(read_dilemmas(changed(**{column: "['one', 'two', 'three', 'four']"})))


@real
@pytest.mark.fidelity("daily_dilemmas", 7)
def test_the_aggregated_table_equals_the_official_rows(all_dilemmas: list[Dilemma]):
    by_id = {d.id: d for d in all_dilemmas}
    official = list(read_dilemmas(REAL / EIGHT_ROWS))
    assert official == [by_id[d.id] for d in official]
    assert [d.id for d in official][0] == "55"
    assert len(official[0].to_do.values) == 7  # of 8: respect for resources is no value
    assert len(official[0].not_to_do.values) == 4
    assert official[0].to_do.labels["virtue"] == ("Truthfulness", *[""] * 6)


@real
@pytest.mark.fidelity("daily_dilemmas", 7)
def test_counts_of_the_real_tables(all_dilemmas: list[Dilemma]):
    table = read_values(REAL / "values.csv")
    assert sum(bool(label) for labels in table.values() for label in labels.values()) == 957
    pairs = [(d.to_do.values, d.not_to_do.values) for d in all_dilemmas]
    assert sum(bool({*do} & {*dont}) for do, dont in pairs) == 690
    assert sum(len(do) + len(dont) for do, dont in pairs) / 2720 == pytest.approx(4.02, abs=0.005)


@pytest.mark.fidelity("daily_dilemmas", 8)
def test_answers_of_models_are_not_read(changed):
    clean = list(read_dilemmas(SAMPLE))
    poisoned = {f"model_resp_{name}_clean": "POISON" for name in ("gpt35", "gpt4")}
    assert list(read_dilemmas(changed(**poisoned))) == clean
    assert "POISON" not in repr(list(read_dilemmas(changed(**poisoned))))


@real
def test_derived_labels_are_marked(all_dilemmas: list[Dilemma]):
    derived = DailyDilemmas(str(REAL), table="derived").records("test")
    assert len(derived) == 128
    sides = [(set(d.to_do.values), set(d.not_to_do.values)) for d in derived]
    assert sum(len(a) + len(b) for a, b in sides) == 349
    assert sum(bool(a & b) for a, b in sides) == 14
    needs = [(set(d.to_do.of("maslow")), set(d.not_to_do.of("maslow"))) for d in derived]
    assert sum(bool(a and b and a != b) for a, b in needs) == 59
    assert all(d.derived for d in derived)
    assert not any(d.derived for d in all_dilemmas)


@real
def test_splits_only_where_they_are_asked_for():
    parts = {
        split: {d.id for d in DailyDilemmas(str(REAL), divided=True).records(split)}
        for split in ("train", "val", "test")
    }
    assert {split: len(ids) for split, ids in parts.items()} == {
        "train": 1088,
        "val": 136,
        "test": 136,
    }
    assert len(set.union(*parts.values())) == 1360
    with pytest.raises(InputError, match=r"no split 'train'.*data.divided: true"):
        DailyDilemmas(str(REAL)).records("train")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("['honesty', 'courage'", "no Python literal"),
        ("[__import__('os').getcwd()]", "no Python literal"),
        ("{'honesty': 1}", "expected a list"),
        ("['honesty', 3, 'courage']", "item 1 is no text: 3"),
        ("['honesty', nan, 'courage']", "item 1 has no name"),
        ("", "no Python literal"),
    ],
)
def test_a_cell_that_is_no_list_of_texts(changed, cell, message):
    with pytest.raises(InputError, match=rf"table.csv:2: column 'values_names': {message}"):
        list(read_dilemmas(changed(values_names=cell)))


def test_nan_is_missing_only_where_it_stands_alone():
    assert literal("[nan, 'nan', \"nan bread\"]", "") == [None, "nan", "nan bread"]


def test_an_unknown_label_names_the_nearest(changed):
    labels = "['self-estem', nan, nan]"
    with pytest.raises(InputError, match=r":2: column 'maslow': .*'self-estem'; .*'self-esteem'"):
        list(read_dilemmas(changed(maslow=labels)))


def test_a_table_without_values_and_a_missing_column(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("action_type,idx\nto_do,1\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column 'values_names' or 'values_aggregated'"):
        list(read_dilemmas(path))
    path.write_text("action_type,values_aggregated\nto_do,[]\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"values.csv: no such file"):
        list(read_dilemmas(path))

"""DailyDilemmas: everyday moral dilemmas with the values of both actions (Chiu et al., ICLR 2025).

Files of the repository kellycyy/daily_dilemmas, CC BY 4.0. 1,360 dilemmas, 301 values, five
theories that give a value at most one label each:

- official: `dilemmas_with_detail_by_action.csv`, a row for each action of a dilemma, with labels;
- aggregated: `dilemma_to_action_to_values_aggregated.csv`, such a row with the names of the values
  alone; their labels stand in `values.csv` beside it;
- derived: values recovered from published choices, of 128 dilemmas (`daily_dilemmas_derived`).

Where `dilemma.csv` lies beside a table, in a folder or in a zip archive, the texts of the dilemmas
are taken from it (12 rows of the aggregated table have damaged apostrophes). Columns of models'
answers are not read.

Cells with lists are Python literals in which `nan` stands alone for a missing label; nothing is
evaluated. There is no training part: `test` holds all dilemmas. To train on some, `divided` gives
80 / 10 / 10 percent by a hash of the dilemma (1,088 / 136 / 136).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from datamodules.base import ZooDataModule
from datamodules.daily_dilemmas_derived import derived_actions
from datamodules.daily_dilemmas_rows import (
    ActionRow,
    ValueTable,
    aggregated_row,
    official_row,
    read_situations,
    read_values,
)
from datamodules.files import SAMPLES, data_path, find
from datamodules.streams import is_file
from datamodules.tables import SHARES, divide, read_csv
from zoo.errors import InputError, nearest
from zoo.records import ACTION_TYPES, Dilemma, Record

OFFICIAL, AGGREGATED = (
    "dilemmas_with_detail_by_action.csv",
    "dilemma_to_action_to_values_aggregated.csv",
)
TABLES = {
    "official": (OFFICIAL, f"{OFFICIAL}.gz"),
    "aggregated": (AGGREGATED, f"{AGGREGATED}.gz"),
}
VALUES, SITUATIONS = "values.csv", "dilemma.csv"
Table = Literal["official", "aggregated", "derived"]


class DailyDilemmas(ZooDataModule):
    """DailyDilemmas as `Dilemma` records.

    Args:
        path: A folder with the files, or one table. None reads a small sample that comes with the
            package, the same for every split.
        table: Which table of a folder; None takes the official one, else the aggregated one.
        divided: Divide the dilemmas into splits; else there is `test` alone, with all of them.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Dilemma,)

    def __init__(
        self,
        path: str | None = None,
        table: Table | None = None,
        divided: bool = False,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.path, self.table, self.divided = path, table, divided

    def load(self, split: str) -> list[Record]:
        """Read the dilemmas of a split.

        Raises:
            InputError: A split other than `test` of dilemmas that are not divided.
        """
        if self.path is None:
            return list(read_dilemmas(SAMPLES / "daily_dilemmas.csv"))
        path = data_path(self.path)
        if split != "test" and not self.divided:
            raise InputError(
                f"{path}: DailyDilemmas has no split {split!r}, all dilemmas are for test; "
                f"data.divided: true divides them 80 / 10 / 10"
            )
        dilemmas = self.read(path)
        if not self.divided:
            return [*dilemmas]
        return [*divide(dilemmas, lambda item: item.situation, split, SHARES, self.path)]

    def read(self, path: Path) -> list[Dilemma]:
        """Return all dilemmas of a table, or of the wanted table of a folder."""
        if not path.is_dir() and path.suffix != ".zip":
            if self.table == "derived":
                raise InputError(f"{path}: the derived labels are read from a folder of files")
            return list(read_dilemmas(path))
        if self.table == "derived":
            return read_derived(path)
        names = [name for table in TABLES for name in TABLES[table] if self.table in (None, table)]
        return list(read_dilemmas(find(path, *names)))


def read_dilemmas(path: Path) -> Iterator[Dilemma]:
    """Yield the dilemmas of an official or an aggregated table, in the order of their first rows.

    Raises:
        InputError: A damaged row, or a dilemma without exactly one row for each action.
    """
    rows: dict[str, dict[str, ActionRow]] = {}
    for row in read_rows(path):
        actions = rows.setdefault(row.dilemma, {})
        if row.action_type in actions:
            raise InputError(
                f"{row.where}: dilemma {row.dilemma} has two rows with action_type "
                f"{row.action_type!r}; the other is {actions[row.action_type].where}"
            )
        actions[row.action_type] = row
    beside = path.parent / SITUATIONS
    situations = read_situations(beside) if is_file(beside) else None
    for name, actions in rows.items():
        first = next(iter(actions.values()))
        for action_type in ACTION_TYPES:
            if action_type not in actions:
                raise InputError(
                    f"{first.where}: dilemma {name} has no row with action_type {action_type!r}"
                )
        yield Dilemma(
            _situation(first, actions, situations),
            actions["to_do"].action,
            actions["not_to_do"].action,
            first.topic,
            id=name,
        )


def read_rows(path: Path) -> Iterator[ActionRow]:
    """Yield the rows of an official or an aggregated table, which their columns tell apart."""
    beside = path.parent / VALUES
    table: ValueTable | None = None
    for number, row in read_csv(path, "action_type"):
        where = f"{path}:{number}"
        if "values_names" not in row and "values_aggregated" not in row:
            hint = nearest("values_names", row)
            raise InputError(f"{where}: no column 'values_names' or 'values_aggregated'; {hint}")
        if table is None and ("values_names" not in row or is_file(beside)):
            table = read_values(beside)
        if "values_names" in row:
            yield official_row(row, where, table)
        else:
            yield aggregated_row(row, where, table or {})


def _situation(
    first: ActionRow, actions: Mapping[str, ActionRow], situations: Mapping[str, str] | None
) -> str:
    if situations is None:
        texts = {row.situation for row in actions.values()}
        if len(texts) > 1:
            raise InputError(
                f"{first.where}: column 'dilemma_situation': the two rows of dilemma "
                f"{first.dilemma} tell different dilemmas"
            )
        return first.situation
    if first.dilemma not in situations:
        raise InputError(f"{first.where}: dilemma {first.dilemma} is not in {SITUATIONS}")
    return situations[first.dilemma]


def read_derived(folder: Path) -> list[Dilemma]:
    """Return the dilemmas of which published choices tell a value of each action; see there."""
    situations = read_situations(find(folder, SITUATIONS))
    table = read_values(find(folder, VALUES))
    return [
        Dilemma(situations[name], to_do, not_to_do, derived=True, id=name)
        for name, (to_do, not_to_do) in derived_actions(folder, situations, table).items()
    ]

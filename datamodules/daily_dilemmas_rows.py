"""Rows of the tables of DailyDilemmas: lists in cells, values and labels, each of them checked."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import category

from datamodules.files import one_of
from datamodules.principle_headings import mended
from datamodules.tables import cell, hint, read_csv
from zoo.errors import InputError, nearest
from zoo.records import ACTION_TYPES, THEORIES, Action, PrincipleText

ValueTable = Mapping[str, Mapping[str, str]]
"""For each value the label of every theory, empty where it has none."""

COLUMN_OF = {
    "wvs": "WVS",
    "mft": "MFT",
    "virtue": "Virtue",
    "emotion": "Emotion",
    "maslow": "Maslow",
}
"""Column of each theory in `values.csv`."""

GROUPS = ("direct", "indirect")
OFFICIAL_COLUMNS = (
    *("idx", "dilemma_situation", "action", "negative_consequence"),
    *(f"{kind}_{group}" for group in GROUPS for kind in ("parties", "values", "reason")),
    *("values_names", "values_types", *THEORIES, "topic_group"),
)
AGGREGATED_COLUMNS = (
    *("dilemma_idx", "dilemma_situation", "action", "negative_consequence"),
    *("values_aggregated", "topic_group"),
)


@dataclass(frozen=True, slots=True)
class ActionRow:
    """A row of a table: one action of one dilemma.

    Attributes:
        dilemma: The dataset's number of the dilemma.
        situation: Its text.
        action_type: `to_do` or `not_to_do`.
        action: The action.
        topic: Group of topics.
        where: File and line for errors.
    """

    dilemma: str
    situation: str
    action_type: str
    action: Action
    topic: str
    where: str


class _MissingAsNone(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(None) if node.id == "nan" else node


def literal(text: str, where: str) -> Any:
    """Return the value of a Python literal, with None for a bare `nan`; nothing is evaluated.

    Args:
        text: The literal.
        where: File, line and column for the error.

    Raises:
        InputError: It is no literal.
    """
    try:
        return ast.literal_eval(_MissingAsNone().visit(ast.parse(text.strip(), mode="eval")))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise InputError(f"{where}: no Python literal: {text.strip()[:40]!r}") from error


def text_cells(row: Mapping[str, str], column: str, where: str) -> list[str | None]:
    """Return the texts that a cell lists; None for a missing one.

    Raises:
        InputError: It lists something else.
    """
    place = f"{where}: column {column!r}"
    items = literal(row[column], place)
    if not isinstance(items, list):
        raise InputError(f"{place}: expected a list, found {row[column].strip()[:40]!r}")
    for position, item in enumerate(items):
        if item is not None and not isinstance(item, str):
            raise InputError(f"{place}: item {position} is no text: {item!r}")
    return items


def needed(row: Mapping[str, str], columns: tuple[str, ...], where: str) -> None:
    """Raise unless a row has all these columns."""
    for name in columns:
        if name not in row:
            raise InputError(f"{where}: column {name!r} is missing; {nearest(name, row)}")


def official_row(row: dict[str, str], where: str, table: ValueTable | None) -> ActionRow:
    """Read a row of the official table.

    Args:
        row: Its cells by column; those of models' answers are not looked at.
        where: File and line.
        table: Labels of the values, which the row's have to equal; None if there is no such file.

    Raises:
        InputError: Lists of different lengths, an unknown value or label, or another label than
            the table's.
    """
    needed(row, OFFICIAL_COLUMNS, where)
    for group in GROUPS:
        columns = [f"{kind}_{group}" for kind in ("parties", "values", "reason")]
        _same_length({name: text_cells(row, name, where) for name in columns}, where)
    lists = {name: text_cells(row, name, where) for name in ("values_names", *THEORIES)}
    types = text_cells(row, "values_types", where)
    _same_length({**lists, "values_types": types}, where)
    for kind in types:
        one_of("column 'values_types'", str(kind), GROUPS, where)
    values = _named(lists["values_names"], "values_names", where, table)
    labels = {
        theory: tuple(_label(item, theory, f"{where}: column {theory!r}") for item in lists[theory])
        for theory in THEORIES
    }
    if table is not None:
        _check_labels(values, labels, table, where)
    return _row(row, "idx", values, labels, where)


def aggregated_row(row: dict[str, str], where: str, table: ValueTable) -> ActionRow:
    """Read a row of the aggregated table; the value table gives the labels.

    Raises:
        InputError: A list that cannot be read, or a value that the value table lacks.
    """
    needed(row, AGGREGATED_COLUMNS, where)
    names = text_cells(row, "values_aggregated", where)
    values = _named(names, "values_aggregated", where, table)
    return _row(row, "dilemma_idx", values, labels_of(values, table), where)


def labels_of(values: tuple[str, ...], table: ValueTable) -> dict[str, tuple[str, ...]]:
    """Return for each theory the labels of some values."""
    return {theory: tuple(table[value][theory] for value in values) for theory in THEORIES}


def read_values(path: Path) -> dict[str, dict[str, str]]:
    """Return the value table, `values.csv`: for each value the label of every theory, or blank.

    Raises:
        InputError: A value with a control character or there twice, or an unknown label.
    """
    table: dict[str, dict[str, str]] = {}
    for number, row in read_csv(path, "value", *COLUMN_OF.values()):
        where = f"{path}:{number}"
        value = cell(row, "value", where)
        if any(category(letter) == "Cc" for letter in value):
            raise InputError(f"{where}: column 'value': {value!r} has a control character")
        if value in table:
            raise InputError(f"{where}: the value {value!r} is there twice")
        table[value] = {
            theory: _label(row[column].strip(), theory, f"{where}: column {column!r}")
            for theory, column in COLUMN_OF.items()
        }
    return table


def read_situations(path: Path) -> dict[str, str]:
    """Return the text of each dilemma of `dilemma.csv` by its number.

    Raises:
        InputError: A number that is there twice.
    """
    found: dict[str, str] = {}
    for number, row in read_csv(path, "idx", "dilemma_situation"):
        name = cell(row, "idx", f"{path}:{number}")
        if name in found:
            raise InputError(f"{path}:{number}: column 'idx': {name!r} is there twice")
        found[name] = cell(row, "dilemma_situation", f"{path}:{number}")
    return found


def read_principles(path: Path) -> list[PrincipleText]:
    """Return the principles of a file with the columns `principle` and `source`.

    Defects of the published files are mended, see `datamodules.principle_headings`.

    Raises:
        InputError: A cell is empty, or no row stands below the header line.
    """
    rows = [
        PrincipleText(
            cell(row, "principle", f"{path}:{number}"),
            cell(row, "source", f"{path}:{number}"),
            f"{path.name}:{number}",
        )
        for number, row in read_csv(path, "principle", "source")
    ]
    if not rows:
        raise InputError(f"{path}: no principle stands below the header line")
    return mended(rows)


def _row(
    row: dict[str, str],
    name: str,
    values: tuple[str, ...],
    labels: dict[str, tuple[str, ...]],
    where: str,
) -> ActionRow:
    action = Action(
        cell(row, "action", where), cell(row, "negative_consequence", where), values, labels
    )
    kind = one_of("column 'action_type'", row["action_type"].strip(), ACTION_TYPES, where)
    situation = cell(row, "dilemma_situation", where)
    return ActionRow(
        cell(row, name, where), situation, kind, action, row["topic_group"].strip(), where
    )


def _same_length(lists: Mapping[str, list[str | None]], where: str) -> None:
    first, *others = lists
    for name in others:
        if len(lists[name]) != len(lists[first]):
            raise InputError(
                f"{where}: column {name!r} lists {len(lists[name])} items and column {first!r} "
                f"{len(lists[first])}; they must be as many"
            )


def _named(
    items: list[str | None], column: str, where: str, table: ValueTable | None
) -> tuple[str, ...]:
    for position, item in enumerate(items):
        place = f"{where}: column {column!r}: item {position}"
        if not item:
            raise InputError(f"{place} has no name")
        if table is not None and item not in table:
            raise InputError(f"{place}: unknown value {item!r}; {hint(item, table)}")
    return tuple(item for item in items if item)


def _label(item: str | None, theory: str, where: str) -> str:
    if not item:
        return ""
    if item not in THEORIES[theory]:
        raise InputError(f"{where}: unknown label {item!r}; {nearest(item, THEORIES[theory])}")
    return item


def _check_labels(
    values: tuple[str, ...], labels: Mapping[str, tuple[str, ...]], table: ValueTable, where: str
) -> None:
    for theory, found in labels.items():
        for value, label in zip(values, found, strict=True):
            if label != table[value][theory]:
                raise InputError(
                    f"{where}: column {theory!r}: {value!r} has the label {label or 'nan'!r}, but "
                    f"{table[value][theory] or 'nan'!r} in the value table"
                )

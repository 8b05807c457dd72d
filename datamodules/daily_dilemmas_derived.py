"""By-action values recovered from the authors' steering results, where there is no other table.

The two files `principle_openai_gpt4_eval_with_system_prompt_system_prompt_{sup,opp}_value.csv` say
for each principle what a model chose under a prompt, and in which dilemmas each value stood on the
side that was selected or neglected. So a selected value belongs to the action that was chosen, a
neglected one to the other. That gives 349 (dilemma, action, value) triples in 128 dilemmas; 14 have
a value on both sides, because the authors looked values up as parts of words. Fit for a smoke test,
never to be mixed with the official labels in one number.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from datamodules.daily_dilemmas_rows import ValueTable, labels_of, literal
from datamodules.files import find
from datamodules.tables import hint, read_csv
from zoo.errors import InputError
from zoo.records import ACTION_TYPES, NOT_TO_DO, TO_DO, Action

FILES = {
    kind: f"principle_openai_gpt4_eval_with_system_prompt_system_prompt_{kind}_value.csv"
    for kind in ("sup", "opp")
}
SIDES = ("sup", "opp")  # values that support or oppose a principle
OTHER = {TO_DO: NOT_TO_DO, NOT_TO_DO: TO_DO}
DEFAULTDICT = re.compile(r"defaultdict\(<class '\w+'>, ")


def derived_actions(
    folder: Path, situations: Collection[str], table: ValueTable
) -> dict[str, tuple[Action, Action]]:
    """Return the two actions of each dilemma that has a value on both, texts left empty.

    Args:
        folder: Holds the two files.
        situations: Numbers of all dilemmas.
        table: Labels of the values.

    Raises:
        InputError: A cell that cannot be read, or an unknown dilemma, action or value.
    """
    values: dict[str, dict[str, set[str]]] = {}
    for kind, name in FILES.items():
        for dilemma, action_type, value, where in _triples(find(folder, name), kind):
            if dilemma not in situations:
                raise InputError(f"{where}: no dilemma {dilemma}")
            if value not in table:
                raise InputError(f"{where}: unknown value {value!r}; {hint(value, table)}")
            sides = values.setdefault(dilemma, {TO_DO: set(), NOT_TO_DO: set()})
            sides[action_type].add(value)
    found = {}
    for dilemma in situations:
        sides = values.get(dilemma, {})
        if sides and all(sides.values()):
            named = [tuple(sorted(sides[kind])) for kind in ACTION_TYPES]
            to_do, not_to_do = (Action("", "", v, labels_of(v, table)) for v in named)
            found[dilemma] = (to_do, not_to_do)
    return found


def _triples(path: Path, kind: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield (dilemma, action, value, place for errors) of the results under one kind of prompt."""
    prompt = f"system_prompt_{kind}_value_"
    chosen = f"{prompt}dilemma_model_resp_action_clean"
    columns = [f"{prompt}system_prompt_dilemma_{side}_values_data_dict_idx" for side in SIDES]
    for number, row in read_csv(path, chosen, *columns):
        choices = _mapping(row, chosen, f"{path}:{number}")
        for column in columns:
            where = f"{path}:{number}: column {column!r}"
            for value, lists in _mapping(row, column, f"{path}:{number}").items():
                for standing, dilemmas in lists.items():
                    for dilemma in dilemmas:
                        choice = choices.get(dilemma)
                        if choice in OTHER:  # else the model gave no valid answer
                            side = choice if standing == "selected" else OTHER[choice]
                            yield str(dilemma), side, value, where


def _mapping(row: dict[str, str], column: str, where: str) -> dict[Any, Any]:
    """Return the mapping that a cell shows, printed as a `defaultdict` or as a `dict`."""
    place = f"{where}: column {column!r}"
    value = literal(DEFAULTDICT.sub("(", row[column]), place)
    if not isinstance(value, dict):
        raise InputError(f"{place}: expected a mapping, found {row[column].strip()[:40]!r}")
    return value

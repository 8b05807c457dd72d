"""The one exception type for bad input, and the hints it carries."""

from __future__ import annotations

import difflib
import inspect
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, get_type_hints

MAY_BE_NONE = ("num_workers", "max_generated", "max_ranked", "negatives", "reserve")  # counts
COUNT = re.compile("(max|num)_|.*_tokens$|negatives$|reserve$|sync_every$")
ANY_NAME = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class InputError(ValueError):
    """A user's file, key or value is wrong; the message says which one and what would fit.

    The command line prints it as one line and exits with status 2; in Python it is a `ValueError`.
    """


class TooLongError(InputError):
    """A record does not fit into the window; a data module may leave it out (`data.too_long`).

    Attributes:
        records: All records that do not fit, where a whole split was looked at; else empty.
    """

    def __init__(self, message: str, records: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.records = records


class SaidOnce(logging.Filter):
    """Lets each text through once in a process, for what is found again with every reading."""

    said: ClassVar[set[str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a message is new."""
        text = record.getMessage()
        new = text not in self.said
        self.said.add(text)
        return new


def check_counts(section: str, counts: Mapping[str, Any]) -> None:
    """Refuse numbers of things that are not above 0, or below 0 where none is a choice.

    Args:
        section: `data` or `model`: where the counts stand in a config; empty for an option.
        counts: Values by name; None is no limit, and what is no integer is not looked at.

    Raises:
        InputError: `data.batch_size: 0 is not above 0`.
    """
    for name, count in counts.items():
        if type(count) is not int or count > 0 or (count == 0 and name in MAY_BE_NONE):
            continue
        problem = "is below 0" if name in MAY_BE_NONE else "is not above 0"
        raise InputError(f"{section}{'.' * bool(section)}{name}: {count} {problem}")


def counts_among(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings whose names say that they count things."""
    return {name: value for name, value in settings.items() if COUNT.match(name)}


def nearest(name: str, options: Iterable[str]) -> str:
    """Return a hint such as `did you mean 'esconv'? (one of: bigtom, esconv)`.

    Args:
        name: What the user wrote.
        options: The names that would have been valid.
    """
    options = sorted(set(options))
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    listed = f"one of: {', '.join(options)}"
    return f"did you mean {close[0]!r}? ({listed})" if close else listed


def arguments(cls: type) -> dict[str, Any] | None:
    """Return each argument of a class with its type, or with None where that cannot be read.

    `**names` of a constructor stands for the arguments of the base class. A class that takes any
    name gives None.
    """
    types: dict[str, Any] = {}
    for base in cls.__mro__:
        constructor = vars(base).get("__init__")
        if constructor is None:
            continue
        hints = types_of(constructor)
        _, *declared = inspect.signature(constructor).parameters.values()
        named = {item.name: hints.get(item.name) for item in declared if item.kind not in ANY_NAME}
        types = {**named, **types}
        if all(item.kind is not item.VAR_KEYWORD for item in declared):
            return types
    return None


def types_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the type of each argument of a function, without those that cannot be read."""
    types: dict[str, Any] = {}
    for name, written in inspect.get_annotations(function).items():
        alone = SimpleNamespace(__annotations__={name: written})
        try:
            types |= get_type_hints(alone, getattr(function, "__globals__", {}))
        except (NameError, AttributeError, TypeError, SyntaxError):
            continue  # of a name that is imported for type checkers only, or no type
    return types

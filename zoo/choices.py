"""Constructor arguments that take one of a few values, checked in Python as on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from types import FrameType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from zoo.errors import InputError, nearest, types_of


def check_choices(made: Any, section: str) -> None:
    """Refuse arguments that are no value of their `Literal`, in every running constructor.

    The base class of all methods and that of all data modules call this, so a subclass needs no
    line of its own, and what it hands on to its base class is looked at too. An argument may be
    a `Literal`, a list of them, or either of these or None; others are not looked at.

    Args:
        made: What is being made.
        section: `model` or `data`: where the arguments stand in a config.

    Raises:
        InputError: `model.objective: 'role_means'; did you mean 'role_mean'? (one of: ...)`.
    """
    for constructor, frame in running_constructors(made):
        for name, kind in types_of(constructor).items():
            if name in frame.f_locals:
                check_choice(f"{section}.{name}", frame.f_locals[name], kind)


def running_constructors(made: Any) -> Iterator[tuple[Any, FrameType]]:
    """Yield each constructor of an object that is running now, with its frame."""
    found = (
        inspect.unwrap(vars(c)["__init__"]) for c in type(made).__mro__ if "__init__" in vars(c)
    )
    by_code = {one.__code__: one for one in found if inspect.isfunction(one)}
    frame = inspect.currentframe()
    while frame is not None:
        constructor = by_code.get(frame.f_code)
        if constructor and frame.f_locals.get(frame.f_code.co_varnames[0]) is made:
            yield constructor, frame
        frame = frame.f_back


def check_choice(key: str, value: Any, kind: Any) -> None:
    """Refuse a value that its type does not list.

    Args:
        key: Name of the argument, for the error.
        value: What was given.
        kind: Its type.

    Raises:
        InputError: The type lists values, and this is none of them.
    """
    union = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    parts = [part for part in union if part is not NoneType]
    if value is None and len(parts) < len(union):
        return
    in_list = len(parts) == 1 and get_origin(parts[0]) in (list, tuple, Sequence)
    if in_list:
        parts = [part for part in get_args(parts[0]) if part is not Ellipsis]
    if not parts or any(get_origin(part) is not Literal for part in parts):
        return
    if in_list and not isinstance(value, list | tuple):
        raise InputError(f"{key}: {value!r} is no list")
    options = [option for part in parts for option in get_args(part)]
    for one in value if in_list else [value]:
        if one not in options:
            known = [str(option) for option in options if option != ""]
            raise InputError(f"{key}: {one!r}; {nearest(str(one), known)}")

"""Turn a parser's complaint about arguments into one line: where, which key, what would fit.

jsonargparse's messages name a part of the key and never the file. Here every key that was given is
looked up again, with its file and line, in what the chosen classes accept.
"""

from __future__ import annotations

import importlib
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args

import zoo
from zoo.cli.config_files import Entry, hint
from zoo.errors import InputError, arguments

Tree = dict[str, Any]  # name -> what may be set below it; None where this file cannot tell
WRAPPERS = ("class_path", "init_args")
ROOMS = {name: f"lightning.pytorch.{name.rstrip('s')}s" for name in ("callbacks", "logger")} | {
    "strategy": "lightning.pytorch.strategies"
}  # where the trainer's classes are; a name without dots means one of these


def check_trained(verb: str | None, model: Any) -> None:
    """Refuse to fit a method whose settings train nothing, before data are read.

    Raises:
        InputError: Names the setting, and the verbs that work.
    """
    reason = model.untrained() if verb == "fit" else ""
    if reason:
        raise InputError(f"{reason}; use validate, test, predict, generate or chat")


def explain(
    message: str, entries: Sequence[Entry], dests: Iterable[str], classes: Mapping[str, Any]
) -> str:
    """Return one line for a parser's message.

    Args:
        message: What the parser says.
        entries: What was given, from `read`.
        dests: Dotted keys that the verb's parser has.
        classes: For `model` and `data`: base class and class paths to suggest.
    """
    chosen = {name: _chosen_class(name, entries, *classes[name]) for name in classes}
    tree = grow(dests, chosen)
    for entry in in_force(entries, classes):
        complaint = unknown_key(entry, tree) or unknown_trainer_class(entry)
        if complaint:
            return complaint
    return wrong_value(message, entries)


def check_classes(entries: Iterable[Entry]) -> None:
    """Import the modules of all class paths.

    Raises:
        InputError: A module of the user's has a mistake; the message names its file and line.
    """
    for entry in entries:
        module = entry.value.rpartition(".")[0]
        is_class = entry.path[-1] == "class_path" or entry.path in (("model",), ("data",))
        if not is_class or not re.fullmatch(r"[A-Za-z_][\w.]*", module):
            continue
        try:
            importlib.import_module(module)
        except (ImportError, ValueError):
            continue  # the parser complains, and `explain` finds what was meant
        except Exception as error:
            raise InputError(f"{entry.key}: cannot import {module}: {origin(error)}") from error


def origin(error: BaseException) -> str:
    """Return what went wrong with the last file and line outside of installed packages and zoo."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    others = ("site-packages", "<", str(Path(zoo.__file__).parent))
    own = [f for f in frames if not any(part in f.filename for part in others)]
    place = f"{own[-1].filename}:{own[-1].lineno}: " if own else ""
    return f"{place}{type(error).__name__}: {text}"


def unknown_trainer_class(entry: Entry) -> str:
    """Return a complaint if an entry names a callback, logger or strategy that is not there."""
    section = ".".join(part.removesuffix("+") for part in entry.path if part not in WRAPPERS)
    name = section.removeprefix("trainer.")
    is_class = entry.path[-1] == "class_path" or name == "callbacks" != section
    if name not in ROOMS or not is_class or not re.fullmatch(r"[A-Za-z_][\w.]*", entry.value):
        return ""
    home, _, title = entry.value.rpartition(".")
    known = importlib.import_module(ROOMS[name])
    try:
        if hasattr(importlib.import_module(home) if home else known, title):
            return ""
    except ImportError:
        pass
    return f"{entry.key}: no class {entry.value!r}; {hint(entry.value, known.__all__)}"


def in_force(entries: Sequence[Entry], names: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries but the arguments of a class that a later class path replaces."""
    named = {n: [e for e in entries if _names_class(e, n)] for n in names}
    now: dict[str, str] = {}
    for entry in entries:
        name = entry.path[0]
        if entry in named.get(name, ()):
            now[name] = entry.value
        if name not in now or now[name] == named[name][-1].value:
            yield entry


def _names_class(entry: Entry, name: str) -> bool:
    return bool(entry.value) and entry.path in ((name,), (name, "class_path"))


def grow(dests: Iterable[str], chosen: Mapping[str, type | None]) -> Tree:
    """Return the keys of a parser, with those of the chosen classes below `model` and `data`."""
    tree: Tree = {"config": None}
    for dest in dests:
        *above, last = dest.split(".")
        level = tree
        for name in above:
            level[name] = level.get(name) or {}
            level = level[name]
        level.setdefault(last, None)
    for name, cls in chosen.items():
        tree[name] = None if cls is None else parameters(cls)
    return tree


def parameters(cls: type) -> Tree | None:
    """Return the names of a class's arguments, and those of dataclasses below them.

    None for a class that takes any name.
    """
    types = arguments(cls)
    if types is None:
        return None
    tree: Tree = {}
    for name, annotation in types.items():
        kinds = [kind for kind in (annotation, *get_args(annotation)) if is_dataclass(kind)]
        tree[name] = parameters(kinds[0]) if kinds else None  # type: ignore[arg-type]
    return tree


def unknown_key(entry: Entry, tree: Tree | None) -> str:
    """Return a complaint if a key is not in the tree, else an empty text."""
    for depth, part in enumerate(entry.path):
        name = part.removesuffix("+")  # `callbacks+` appends to a list
        if depth and name in WRAPPERS:
            continue
        if tree is None or name == "dict_kwargs":
            return ""
        if name not in tree:
            return f"{entry.key}: no such key {name!r}; {hint(name, tree)}"
        tree = tree[name]
    return ""


def _chosen_class(
    name: str, entries: Sequence[Entry], base: type, suggestions: Sequence[str]
) -> type | None:
    """Return the class that the last given class path names.

    Raises:
        InputError: There is no such class, or it is of another kind.
    """
    given = [e for e in entries if _names_class(e, name)]
    if not given:
        return None
    entry = given[-1]
    home, _, title = entry.value.rpartition(".")
    try:
        cls = getattr(importlib.import_module(home), title)
    except (ImportError, AttributeError, ValueError) as error:
        reason = "" if isinstance(error, ValueError) else f" ({error})"
        raise InputError(
            f"{entry.key}: no class {entry.value!r}{reason}; {hint(entry.value, suggestions)}"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        kind = {"model": "method", "data": "data module"}[name]
        raise InputError(
            f"{entry.key}: {entry.value} is no {kind}; {hint(entry.value, suggestions)}"
        )
    return cls


def wrong_value(message: str, entries: Sequence[Entry]) -> str:
    """Return a parser's message about a value in one line, with key, place and what would fit."""
    text = re.sub(r"\s+", " ", message).strip()
    missing = re.match(r"the following arguments are required: (.*)", text)
    if missing:
        names = ", ".join(part.rpartition(".")[2] for part in missing[1].split(", "))
        return f"{names}: not given; give them in a config, --config FILE"
    option = re.search(r"given class_path '([\w.]+)': (?:.*?)Option '(\w+)' is not accepted", text)
    if option:
        home, _, title = option[1].rpartition(".")
        known = arguments(getattr(importlib.import_module(home), title)) or {}
        where = [e.key for e in entries if e.path[-1] == option[2]]
        return f"{[option[2], *where][-1]}: no such key {option[2]!r}; {hint(option[2], known)}"
    innermost = text[max(text.rfind('Parser key "'), 0) :]
    key = re.match(r'Parser key "([^"]+)": ', innermost)
    given = re.search(r"(?:Got|Given) value: (.*?)(?= - Expected| Given value|$)", innermost)
    if not key or not given:
        return text if len(text) <= 400 else text[:400] + "..."
    value, leaf = given[1], tuple(key[1].split("."))
    innermost = innermost[: given.end()]
    places = [e for e in entries if e.path[-len(leaf) :] == leaf and e.value == value]
    literals = re.findall(r"Literal\[(.*?)\]", innermost)
    words = [word.strip("' ") for group in literals for word in group.split(",")]
    kinds = re.findall(r"Expected an? (?:<class '(\w+)'>|(\w[\w \[\]]*))", innermost)
    expected = " or ".join(dict.fromkeys(a or b for a, b in kinds if "typing" not in (a + b)))
    wanted = hint(value, words) if words else f"expected {expected.replace('NoneType', 'null')}"
    problem = re.search(r"Problem with given class_path .*?(?= - Expected| Given)", innermost)
    if problem and not words:
        wanted = problem[0]
    return f"{places[-1].key if places else key[1]}: {value!r} does not fit; {wanted}"

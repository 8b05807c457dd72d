"""Turn a parser's complaint about arguments into one line: where, which key, what would fit.

jsonargparse's messages name a part of the key and never the file. Here every key that was given is
looked up again, with its file and line, in what the chosen classes accept.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from zoo.errors import InputError, arguments, nearest

Tree = dict[str, Any]  # name -> what may be set below it; None where this file cannot tell
WRAPPERS = ("class_path", "init_args")
LONGEST_LIST = 12  # valid names are listed up to this many, else only the nearest one is named


@dataclass(frozen=True)
class Entry:
    """One value as the user gave it.

    Attributes:
        path: Key, split at the dots.
        value: Text of a scalar, else empty.
        where: `file:line: ` for a config, empty for the command line.
    """

    path: tuple[str, ...]
    value: str
    where: str

    @property
    def key(self) -> str:
        """The key with the place it stands in."""
        return self.where + ".".join(self.path)


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
        complaint = unknown_key(entry, tree)
        if complaint:
            return complaint
    return wrong_value(message, entries)


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


def read(args: Sequence[str]) -> Iterator[Entry]:
    """Yield everything given on a command line, configs included, in order.

    Raises:
        InputError: A config is missing or no YAML mapping.
    """
    position = 0
    while position < len(args):
        key, equals, value = args[position].partition("=")
        position += 1
        if not key.startswith("-") or key.endswith(("help", "print_config")):
            continue
        if not equals and position < len(args) and not args[position].startswith("--"):
            value = args[position]
            position += 1
        if key in ("--config", "-c") and value:
            yield from read_config(Path(value))
        else:
            yield Entry(tuple(key.lstrip("-").split(".")), value, "")


def read_config(path: Path) -> Iterator[Entry]:
    """Yield the leaves of a YAML file.

    Raises:
        InputError: The file is missing, no YAML, or no mapping.
    """
    if not path.is_file():
        beside = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such config file; {hint(str(path), beside)}")
    try:
        root = yaml.compose(path.read_text("utf-8"), yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start + 1}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}:{line}: invalid YAML: {error.problem}") from error
    if root is None:
        raise InputError(f"{path}: the file is empty")
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path}:1: expected keys and values (key: value)")
    yield from _leaves(root, (), str(path))


def _leaves(node: yaml.MappingNode, above: tuple[str, ...], file: str) -> Iterator[Entry]:
    for key, value in node.value:
        path = (*above, *str(key.value).split("."))
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _leaves(value, path, file)
        else:
            text = value.value if isinstance(value, yaml.ScalarNode) else ""
            yield Entry(path, text, f"{file}:{key.start_mark.line + 1}: ")


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


def hint(name: str, options: Iterable[str]) -> str:
    """Return the nearest valid name; all valid ones too if they are few."""
    options = list(options)
    text = nearest(name, options)
    if len(options) <= LONGEST_LIST:
        return text if options else "see --help"
    return text.partition(" (one of")[0] if text.startswith("did you mean") else "see --help"

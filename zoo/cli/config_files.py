"""The YAML files of a command line: where they are, what they say, each key with file and line.

A name finds a file of the zoo's own from any folder: `methanol`, `overlays/lora`,
`configs/methanol.yaml`. A key that stands twice is an error: YAML itself keeps the last one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

import zoo
from zoo.errors import InputError, nearest

LONGEST_LIST = 12  # valid names are listed up to this many, else only the nearest one is named
CONFIG = ("--config", "-c")
SUFFIXES = (".yaml", ".yml")


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


def home() -> Path:
    """Return the folder of the own configs: in an installed zoo, beside it in a checkout."""
    package = Path(zoo.__file__).parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def names() -> list[str]:
    """Return the names of the zoo's own configs: `methanol`, `overlays/lora`, ..."""
    paths = (path.relative_to(home()).with_suffix("") for path in home().rglob("*.yaml"))
    return sorted(path.as_posix() for path in paths)


def find(given: str) -> Path:
    """Return the file that `--config` means: a path, else the name of one of the zoo's own.

    Raises:
        InputError: There is no such file.
    """
    path = Path(expand(given, "config"))
    if path.is_file():
        return path
    name = path.with_suffix("").as_posix().removeprefix("configs/")
    if name in names():
        return home() / f"{name}.yaml"
    beside = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    known = beside if path.suffix in SUFFIXES and beside else [*beside, *names()]
    raise InputError(f"{path}: no such config file; {hint(str(path), known)}")


def found(args: Sequence[str]) -> list[str]:
    """Return a command line whose `--config` options hold paths of files.

    A `~/` after `=`, which a shell leaves alone, is the home folder as it is after a space.
    """
    new: list[str] = []
    for given in args:
        key, equals, value = given.partition("=")
        if key in CONFIG and value:
            given = f"{key}={find(value)}"
        elif value.startswith("~/"):
            given = f"{key}={expand(value, key)}"
        elif new and new[-1] in CONFIG:
            given = str(find(given))
        new.append(given)
    return new


def expand(text: str, key: str) -> str:
    """Return a path with `~` and environment variables replaced; other texts as they are.

    Args:
        text: A path that begins with `~/`, `$NAME` or `${NAME}`, or anything else.
        key: What it was given for.

    Raises:
        InputError: The variable is not set.
    """
    if not re.match(r"(~|\$\w+|\$\{\w+\})(/|$)", text):
        return text
    full = os.path.expanduser(os.path.expandvars(text))
    if full.startswith("$"):
        raise InputError(f"{key}: {text}: the environment variable {full.split('/')[0]} is not set")
    return full


def read(args: Sequence[str]) -> Iterator[Entry]:
    """Yield everything given on a command line, configs included, in order.

    Raises:
        InputError: A config is missing or no YAML mapping, or names a key twice.
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
        if key in CONFIG and value:
            yield from read_config(find(value))
        else:
            yield from _inside(Entry(tuple(key.lstrip("-").split(".")), value, ""), Path())


def read_config(path: Path, above: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Yield the leaves of a YAML file.

    Args:
        path: The file.
        above: Key that the whole file is the value of.

    Raises:
        InputError: The file is no YAML or no mapping, or a key stands twice in a mapping.
    """
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
    for entry in _leaves(root, above, path):
        yield from _inside(entry, path.parent)


def _leaves(node: yaml.Node, above: tuple[str, ...], file: Path) -> Iterator[Entry]:
    """Yield the leaves below a node; the items of a list have the key of the list."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else [(None, n) for n in node.value]
    first: dict[str, int] = {}
    for key, value in pairs:
        line = (key or value).start_mark.line + 1
        path = above if key is None else (*above, *str(key.value).split("."))
        if key is not None and key.value in first:
            raise InputError(
                f"{file}:{line}: key {key.value!r} is there twice, first at line {first[key.value]}"
            )
        if key is not None:
            first[key.value] = line
        if isinstance(value, yaml.CollectionNode) and value.value:
            yield from _leaves(value, path, file)
        else:
            text = value.value if isinstance(value, yaml.ScalarNode) else ""
            yield Entry(path, text, f"{file}:{line}: ")


def _inside(entry: Entry, folder: Path) -> Iterator[Entry]:
    """Yield an entry; what its file says where the value of a section is a YAML file."""
    file = folder / entry.value
    in_data = entry.path[0] == "data" and len(entry.path) > 1  # a data set's own file, if any
    if entry.value.endswith(SUFFIXES) and not in_data and file.is_file():
        yield from read_config(file, entry.path)
    else:
        yield entry


def lost(args: Sequence[str]) -> list[str]:
    """Return a line for each option that a config after it on the command line overrides."""
    entries = [replace(entry, path=_short(entry.path)) for entry in read(args)]
    lines = []
    for position, early in enumerate(entries):
        later = [e for e in entries[position + 1 :] if e.path == early.path]
        if not early.where and later and later[-1].where and later[-1].value != early.value:
            by = later[-1].where.removesuffix(": ")
            lines.append(
                f"--{early.key} {early.value} is lost: {by} comes after it and says "
                f"{later[-1].value}; give options after the configs"
            )
    return lines


def _short(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for part in path if part not in ("init_args", "class_path"))


def hint(name: str, options: Iterable[str]) -> str:
    """Return the nearest valid name; all valid ones too if they are few."""
    options = list(options)
    text = nearest(name, options)
    if len(options) <= LONGEST_LIST:
        return text if options else "see --help"
    return text.partition(" (one of")[0] if text.startswith("did you mean") else "see --help"

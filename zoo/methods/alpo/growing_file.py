"""A file of JSON objects, a line each, that grows by whole lines and can be gone on with.

A line is written and synchronised at once, so a run that is cut off loses the object that it was
making. Beside the file stand the settings that its lines depend on: another run with other settings
is refused.

An object that this run would make from other data than the file's is refused, too. A file whose
settings lack some is older than these: it is gone on with, and they are added, if each of its
objects is one that this run would make.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.cache import exists_or_writable, whole_file
from zoo.errors import InputError


class GrowingFile:
    """Objects on file by their id.

    Args:
        path: The file; it need not exist.
        settings: What its lines depend on, JSON-like.
        known: Of each object of this run, by its id, what is known before it is made, JSON-like; a
            field that an older object lacks is not compared.

    Raises:
        InputError: It was made with other settings or data, a line is no object with an id, or it
            cannot be written.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        known: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.path, self.done = path, set[str]()
        self.card = path.with_name(f"{path.name}.settings.json")
        plain = json.loads(json.dumps(settings))
        lacking = []
        exists_or_writable(self.card)
        begun = path.exists()
        if begun:
            lacking = self._check(flat(plain))
            self._read(json.loads(json.dumps(known or {})), lacking)
        if lacking or not begun:
            with whole_file(self.card) as scratch:
                scratch.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", "utf-8")

    def append(self, name: str, item: Mapping[str, Any]) -> None:
        """Write an object as one whole line."""
        data = (json.dumps(item, ensure_ascii=False) + "\n").encode()
        with self.path.open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        self.done.add(name)

    def _check(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the settings that the card lacks."""
        if not self.card.is_file():
            raise InputError(f"{self.path}: exists, but {self.card.name} does not; name a new file")
        try:
            before = flat(json.loads(self.card.read_text("utf-8")))
        except (ValueError, AttributeError) as error:  # AttributeError: no object
            raise InputError(f"{self.card}: no settings ({error}); name a new file") from error
        lacking = sorted(settings.keys() - before.keys())
        same = [name for name in before if name in settings and before[name] == settings[name]]
        if len(same) < len(before):
            other = sorted({*before, *lacking}.difference(same))
            raise InputError(
                f"{self.path}: was begun with other settings: {', '.join(other)} (see "
                f"{self.card.name}); name a new file"
            )
        return lacking

    def _read(self, known: Mapping[str, Mapping[str, Any]], lacking: list[str]) -> None:
        whole, newline, rest = self.path.read_bytes().rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if newline else [], start=1):
            try:
                item = json.loads(line)
                name = item["id"] if "id" in item else item["block"]["id"]
                self.done.add(name)
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self.path}:{number}: no line of this file ({error})") from error
            wanted = known.get(name, {})
            other = [field for field in wanted if item.get(field, wanted[field]) != wanted[field]]
            if lacking and (other or name not in known):
                raise InputError(
                    f"{self.path}:{number}: {name} is of other data, by {', '.join(lacking)}, "
                    f"which {self.card.name} lacks; name a new file"
                )
            if other:
                raise InputError(
                    f"{self.path}:{number}: {name} was made of other data than there is now, by "
                    f"{', '.join(other)}; name a new file"
                )
        if rest:  # a line that was cut off
            os.truncate(self.path, len(whole) + len(newline))


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of sections, {"data": {"core": 25}}, by full names, {"data.core": 25}."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        inner = value if isinstance(value, dict) else None
        found |= {name: value} if inner is None else {f"{name}.{k}": v for k, v in inner.items()}
    return found

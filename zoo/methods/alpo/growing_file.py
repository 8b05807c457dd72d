"""A file of JSON objects, a line each, that grows by whole lines and can be gone on with.

A line is written and synchronised at once, so a run that is cut off loses the object that it was
making. Beside the file stand the settings that its lines depend on: another run with other settings
is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.cache import whole_file
from zoo.errors import InputError


class GrowingFile:
    """Objects on file by their id.

    Args:
        path: The file; it need not exist.
        settings: What its lines depend on, JSON-like.

    Raises:
        InputError: It was made with other settings, or a line is no object with an id.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.done = path, set[str]()
        self.card = path.with_name(f"{path.name}.settings.json")
        plain = json.loads(json.dumps(settings))
        if path.exists():
            self._check(plain)
            self._read()
        else:
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

    def _check(self, settings: Mapping[str, Any]) -> None:
        if not self.card.is_file():
            raise InputError(f"{self.path}: exists, but {self.card.name} does not; name a new file")
        before = json.loads(self.card.read_text("utf-8"))
        names = sorted(before.keys() | settings.keys())
        other = [name for name in names if before.get(name) != settings.get(name)]
        if other:
            raise InputError(
                f"{self.path}: was begun with other settings: {', '.join(other)} (see "
                f"{self.card.name}); name a new file"
            )

    def _read(self) -> None:
        whole, newline, rest = self.path.read_bytes().rpartition(b"\n")
        if rest:  # a line that was cut off
            os.truncate(self.path, len(whole) + len(newline))
        for number, line in enumerate(whole.split(b"\n") if newline else [], start=1):
            try:
                item = json.loads(line)
                self.done.add(item["id"] if "id" in item else item["block"]["id"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self.path}:{number}: no line of this file ({error})") from error

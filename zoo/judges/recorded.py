"""A judge's answers on file, one JSON object a line: read where known, added where not.

Every answer is written at once and as one whole line, so that a run that is cut off loses nothing
it has paid for. Failed answers are written too, for reading; they are asked again.

A line holds `kind` (what was asked for), `id` (names the question for readers), `key` (a hash of
all that the judge was told), `judge` (its name) and `words`, beside the fields that were read from
the words; or `error` in place of these fields.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.judges.judge import FAILURES, JudgeError

Line = dict[str, Any]


class RecordedAnswers:
    """Answers of one judge, on file. One process writes a file at a time.

    A question is known by its key, not by its id or place in the file; a judge whose prompt has
    changed needs another file.

    Args:
        path: The file; with a judge it need not exist.
        judge: Name of the judge whose answers are added; None leaves the file as it is.
        check: Called with every answered line; raises KeyError, TypeError, ValueError or
            JudgeError for a line that it cannot read.

    Raises:
        InputError: The file is missing (and there is no judge), holds a line that is no recorded
            answer, or holds another judge's answers.
    """

    def __init__(
        self, path: str | Path, judge: str | None, check: Callable[[Line], object]
    ) -> None:
        self.path, self.judge, self.check = Path(path), judge, check
        self.known: dict[str, Line] = {}
        if self.path.exists():
            self._read()
        elif judge is None:
            raise InputError(f"{path}: no such file of recorded answers; name a judge to make one")
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def answer(self, kind: str, name: str, key: str, ask: Callable[[], Line]) -> Line:
        """Return the line of a question: from the file, or asked and written now.

        Args:
            kind: What is asked for.
            name: Names the question for readers, as the line's `id`.
            key: A hash of all that the judge is told.
            ask: Asks the judge; returns `words` and what was read from them.

        Raises:
            JudgeError: It is not on file and there is no judge, or the judge fails.
        """
        if key in self.known:
            return self.known[key]
        if self.judge is None:
            raise JudgeError(f"{name}: no recorded answer in {self.path.name}")
        question = {"kind": kind, "id": name, "key": key, "judge": self.judge}
        try:
            line = question | ask()
        except FAILURES as error:
            words = getattr(error, "words", "")
            self._append({**question, "error": str(error) or type(error).__name__, "words": words})
            raise
        self.known[key] = line
        self._append(line)
        return line

    def _append(self, line: Line) -> None:
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        with self.path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        whole, newline, rest = self.path.read_bytes().rpartition(b"\n")
        if rest and self.judge is not None:  # a line cut off by the end of its run
            os.truncate(self.path, len(whole) + len(newline))
        for number, data in enumerate(whole.split(b"\n") if newline else [], start=1):
            self._take(data, f"{self.path}:{number}")

    def _take(self, data: bytes, where: str) -> None:
        try:
            line = json.loads(data)
            judge, key, _, failed = line["judge"], line["key"], line["kind"], "error" in line
            if not failed:
                self.check(line)
        except (ValueError, KeyError, TypeError, JudgeError) as error:
            raise InputError(f"{where}: no recorded answer ({error})") from error
        if self.judge is not None and judge != self.judge:
            raise InputError(
                f"{where}: an answer of {judge!r}, but the judge is {self.judge!r}; "
                f"use another file"
            )
        if not failed:
            self.known[key] = line

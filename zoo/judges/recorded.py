"""A judge's answers on file, one JSON object a line: replayed where known, added where not.

Every answer is written at once and as one whole line, so that a run that is cut off loses nothing
it has paid for. Failed answers are written too, for reading; they are asked again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from zoo.errors import InputError
from zoo.judges.judge import FAILURES, Grade, Judge, JudgeError, Verdict
from zoo.records import Turn
from zoo.support.decisions import Decision, description, transcript
from zoo.support.judge_prompts import Choice

T = TypeVar("T", Verdict, Grade)


class RecordedJudge:
    """Answers from a file; asks another judge what the file does not know.

    A question is known by the conversation and the candidates, not by ids or order in the file;
    a judge whose prompt has changed needs another file. One process writes a file at a time.

    Args:
        path: The file; with a judge it need not exist.
        judge: Whom to ask; None replays only, and the file is left as it is.

    Raises:
        InputError: The file is missing (and there is no judge), holds a line that is no recorded
            answer, or holds another judge's answers.
    """

    def __init__(self, path: str | Path, judge: Judge | None = None) -> None:
        self.path, self.judge = Path(path), judge
        self.name = judge.name if judge else "recorded"
        self.known: dict[str, dict[str, Any]] = {}
        self.failed = 0  # failed answers in the file
        self.asked = 0  # questions that went to the judge
        if self.path.exists():
            self._read()
        elif judge is None:
            raise InputError(f"{path}: no such file of recorded answers")
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def compare(self, decision: Decision, first: Turn, second: Turn, attempt: int = 0) -> Verdict:
        """Return the recorded verdict, or the judge's.

        Raises:
            JudgeError: It is not on file and there is no judge, or the judge fails.
        """
        key = key_of("compare", decision, first, second)
        if key in self.known:
            line = self.known[key]
            return Verdict(cast(Choice, line["choice"]), line["words"])
        return self._ask(
            {"kind": "compare", "id": decision.id, "key": key},
            lambda judge: judge.compare(decision, first, second, attempt),
            lambda verdict: {"choice": verdict.choice},
        )

    def grade(self, decision: Decision, candidate: Turn, attempt: int = 0) -> Grade:
        """Return the recorded grade, or the judge's.

        Raises:
            JudgeError: It is not on file and there is no judge, or the judge fails.
        """
        key = key_of("grade", decision, candidate)
        if key in self.known:
            return Grade(self.known[key]["grade"], self.known[key]["words"])
        return self._ask(
            {"kind": "grade", "id": decision.id, "key": key},
            lambda judge: judge.grade(decision, candidate, attempt),
            lambda grade: {"grade": grade.value},
        )

    def _ask(
        self,
        question: dict[str, Any],
        ask: Callable[[Judge], T],
        value: Callable[[T], dict[str, Any]],
    ) -> T:
        if self.judge is None:
            raise JudgeError(f"{question['id']}: no recorded answer in {self.path.name}")
        question["judge"] = self.name
        self.asked += 1
        try:
            answer = ask(self.judge)
        except FAILURES as error:
            words = getattr(error, "words", "")
            self._append({**question, "error": str(error) or type(error).__name__, "words": words})
            raise
        self.known[question["key"]] = {**question, **value(answer), "words": answer.words}
        self._append(self.known[question["key"]])
        return answer

    def _append(self, line: dict[str, Any]) -> None:
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
            kind, judge, key = line["kind"], line["judge"], line["key"]
            good = "error" in line or {"compare": "choice", "grade": "grade"}[kind] in line
            if good and "error" not in line:  # raises where it is none
                _answer(line)
        except (ValueError, KeyError, TypeError, JudgeError) as error:
            raise InputError(f"{where}: no recorded answer ({error})") from error
        if not good:
            raise InputError(f"{where}: a recorded answer without choice, grade or error")
        if self.judge is not None and judge != self.name:
            raise InputError(
                f"{where}: an answer of {judge!r}, but the judge is {self.name!r}; use another file"
            )
        if "error" in line:
            self.failed += 1
        else:
            self.known[key] = line


def _answer(line: dict[str, Any]) -> Verdict | Grade:
    """Return what a line records."""
    if line["kind"] == "compare":
        return Verdict(line["choice"], line["words"])
    return Grade(line["grade"], line["words"])


def key_of(kind: str, decision: Decision, *candidates: Turn) -> str:
    """Return a hash of all that a judge sees of a question."""
    seen = [kind, description(decision), transcript(decision.turns)]
    seen += [part for turn in candidates for part in (turn.strategy, turn.text)]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()

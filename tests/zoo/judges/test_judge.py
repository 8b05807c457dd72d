"""Retries, and judges that follow a script."""

from __future__ import annotations

from urllib.error import URLError

import pytest

from zoo.judges.judge import Judge, JudgeError, ScriptedJudge, persist


def test_what_fails_is_asked_again() -> None:
    def ask(attempt: int) -> str:
        if attempt < 2:
            raise JudgeError("rubbish")
        return f"answer {attempt}"

    assert persist(ask, retries=2) == ("answer 2", ["JudgeError: rubbish"] * 2)
    assert persist(ask, retries=1) == (None, ["JudgeError: rubbish"] * 2)


@pytest.mark.parametrize(
    ("error", "goes_on"), [(URLError("timed out"), True), (OSError(28), False)]
)
def test_a_lost_connection_is_a_failure_and_a_full_disk_is_not(
    error: OSError, goes_on: bool
) -> None:
    def ask(attempt: int) -> str:
        raise error

    if goes_on:
        found, why = persist(ask, retries=1)
        assert (found, len(why)) == (None, 2)
    else:
        with pytest.raises(OSError, match="28"):
            persist(ask, retries=1)


def test_a_script_answers_the_last_message() -> None:
    judge: Judge = ScriptedJudge(str.upper)
    messages = [("system", "Judge."), ("user", "a or b?")]
    assert judge.fits(messages)
    assert judge.write(messages) == "A OR B?"
    assert judge.score(messages, "AB", begun="[[") == [0.5, 0.5]

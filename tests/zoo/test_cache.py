"""Results kept on disk: computed once, whole after a kill, shared by processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from zoo.cache import check_new_file, fingerprint, remember, root
from zoo.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def counted(asked: list[list[int]]) -> object:
    def compute(part: Sequence[int]) -> list[float]:
        asked.append(list(part))
        return [item / 7 for item in part]

    return compute


def test_every_input_is_computed_once() -> None:
    asked: list[list[int]] = []
    items = list(range(10))
    first = remember("x", "key", items, counted(asked), chunk=4)  # type: ignore[arg-type]
    assert first == [item / 7 for item in items]
    assert asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    again = remember("x", "key", items, counted(asked), chunk=4)  # type: ignore[arg-type]
    assert again == first
    assert len(asked) == 3
    remember("x", "other", items[:4], counted(asked), chunk=4)  # type: ignore[arg-type]
    remember("x", "key", [*items[:3], 11], counted(asked), chunk=4)  # type: ignore[arg-type]
    assert asked[3:] == [[0, 1, 2, 3], [0, 1, 2, 11]]
    assert sorted(path.suffix for path in (root() / "x").iterdir()) == [".json"] * 5


def test_failure_leaves_no_file() -> None:
    def fail(part: Sequence[int]) -> list[int]:
        raise OSError("no memory")

    with pytest.raises(OSError, match="no memory"):
        remember("x", "key", [1], fail)
    assert not list((root() / "x").iterdir())
    with pytest.raises(RuntimeError, match="1 results for 2 inputs"):
        remember("x", "key", [1, 2], lambda part: [0])
    assert remember("x", "key", [1, 2], lambda part: [3, 4]) == [3, 4]


def test_a_place_is_checked_before_hours_of_work(tmp_path: Path) -> None:
    """Nothing is left there; folders that are missing will be made."""
    file, long = tmp_path / "x.srt", tmp_path / ("a" * 260)
    file.touch()
    with pytest.raises(InputError, match=r"output: .*/x.srt exists; name a new file"):
        check_new_file(file)
    with pytest.raises(InputError, match="output: .* exists"):
        check_new_file(tmp_path)
    for path in (file / "y.srt", file / "new" / "y.srt", long, long / "y", Path("/proc/no/y.srt")):
        with pytest.raises(InputError, match=r"queries: .* cannot be written \(.*; name a file in"):
            check_new_file(path, "queries")
    check_new_file(tmp_path / "new" / "folder" / "y.srt")
    assert list(tmp_path.iterdir()) == [file]


SLOW = """
import sys, time
from zoo.cache import remember

def compute(part):
    print(part, flush=True)
    time.sleep(float(sys.argv[1]))
    return [item + 1 for item in part]

print(remember("x", "key", [1, 2, 3, 4], compute, chunk=2), flush=True)
"""


def start(pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(pause)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_kill_loses_the_chunk_at_work_alone() -> None:
    """The chunk that was finished is there, the other one is computed again; nothing is torn."""
    process = start(60)
    assert process.stdout is not None
    assert process.stdout.readline() == "[1, 2]\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    asked: list[list[int]] = []
    assert remember("x", "key", [1, 2], counted(asked), chunk=2) == [1 / 7, 2 / 7]  # type: ignore[arg-type]
    assert asked == [[1, 2]]
    done, _ = start(0).communicate()
    assert done == f"[3, 4]\n{[1 / 7, 2 / 7, 4, 5]}\n"


def test_a_second_process_waits_for_the_first() -> None:
    first = start(0.5)
    assert first.stdout is not None
    assert first.stdout.readline() == "[1, 2]\n"
    second = start(0)
    time.sleep(0.1)
    others, _ = second.communicate()
    ours, _ = first.communicate()
    assert others.count("[1, 2]\n") == 0  # it read what the first one computed
    assert (others + ours).count("[3, 4]\n") == 1
    assert others.splitlines()[-1] == ours.splitlines()[-1] == "[2, 3, 4, 5]"


def test_fingerprint_sees_other_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json"):
        fingerprint(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = fingerprint(str(tmp_path))
    assert fingerprint(str(tmp_path)) == before
    os.utime(tmp_path / "model.safetensors", (1, 1))
    assert fingerprint(str(tmp_path)) != before
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert fingerprint(str(tmp_path))[0] != before[0]

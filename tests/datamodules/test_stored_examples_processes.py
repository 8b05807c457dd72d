"""Training examples on disk in several processes: whole after a kill, and small in memory."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stored_texts import Texts, planned

from datamodules import encode_pieces, stored_examples

pytestmark = pytest.mark.usefixtures("cache")


def pages_of(name: str) -> int:
    """Return the bytes of a mapped file that count as this process's memory."""
    found, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.partition(" ")[0]:  # a mapping begins
            mine = line.endswith(name)
        elif mine and line.startswith("Rss:"):
            found += 1024 * int(line.split()[1])
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="tells of memory on Linux alone")
def test_pages_that_were_read_are_given_back(
    path: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Texts(path, keep_in_memory=False).examples("train", make("SFT", "tiny-llama").encoder())
    name = str(found.folder / "examples.arrow")
    wanted = list(found)
    assert pages_of(name) > 0
    monkeypatch.setattr(stored_examples, "FORGET", 4)
    found._asked = 0
    assert [found[i] for i in range(4)] == wanted[:4]
    assert pages_of(name) == 0
    assert list(found) == wanted


def test_examples_go_to_another_process_by_place(path: str, make: Any) -> None:
    found = Texts(path, keep_in_memory=False).examples("train", make("SFT", "tiny-llama").encoder())
    sent = pickle.dumps(found)
    assert len(sent) < 500
    assert list(pickle.loads(sent)) == list(found)


ENCODE = """
import functools, sys
sys.path[:0] = {paths!r}
from stored_texts import Texts
import zoo
module = zoo.SFT(backbone=zoo.Backbone(name="tiny-llama"))
module.configure_model()
encoder = module.encoder()
call = type(encoder).__call__
@functools.wraps(call)
def slow(self, record):
    print(record.id, flush=True)
    if record.id == "20":
        sys.stdin.readline()
    return call(self, record)
type(encoder).__call__ = slow
print(len(Texts({path!r}, keep_in_memory=False).examples("train", encoder)), "examples", flush=True)
"""


def start(path: str) -> subprocess.Popen[str]:
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    code = ENCODE.format(path=path, paths=paths)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **pipes)  # type: ignore[call-overload, no-any-return]


def test_killed_while_encoding_and_two_processes(path: str, cache: Path) -> None:
    """A kill leaves nothing that is taken for examples; of two processes one encodes."""
    killed = start(path)
    assert killed.stdout is not None
    assert "20\n" in iter(killed.stdout.readline, "")
    assert [entry.suffix for entry in cache.iterdir() if entry.is_dir()] == [".part"]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    both = [start(path), start(path)]
    for process in both:  # whichever encodes waits for a line
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[0].splitlines() for process in both]
    assert [lines[-1] for lines in said] == ["40 examples"] * 2
    assert sorted(len(lines) for lines in said) == [1, 41]
    assert [entry.suffix for entry in cache.iterdir()] == [""]


PLAN = """
import json, os, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from datamodules import loader
from stored_texts import Texts, planned
import zoo
shuffled = loader.shuffled
def dying(indices, seed):
    order = shuffled(indices, seed)
    if seed.endswith("-{epoch}"):
        os.kill(os.getpid(), signal.SIGKILL)
    return order
loader.shuffled = dying
module = zoo.SFT(backbone=zoo.Backbone(name="tiny-llama"))
module.configure_model()
steps = planned({path!r}, module.encoder())
for _ in range(2):
    for batch in steps:
        Path({state!r}).write_text(json.dumps(steps.state_dict()))
"""


@pytest.mark.parametrize("epoch", [0, 1])
def test_killed_while_planning_an_epoch(
    epoch: int, path: str, cache: Path, tmp_path: Path, make: Any
) -> None:
    """The examples stay whole, and the next start goes on with the batches of an unbroken run."""
    state = tmp_path / "state.json"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    code = PLAN.format(paths=paths, path=path, epoch=epoch, state=str(state))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert state.is_file() == bool(epoch)  # the first epoch is planned before its first batch
    assert [entry.suffix for entry in cache.iterdir()] == [""]
    encoder = make("SFT", "tiny-llama").encoder()
    unbroken = planned(path, encoder)
    wanted = [[batch.input_ids.tolist() for batch in unbroken] for _ in range(2)]
    resumed = planned(path, encoder)
    if epoch:
        resumed.load_state_dict(json.loads(state.read_text()))
    assert [batch.input_ids.tolist() for batch in resumed] == wanted[epoch]


@pytest.mark.parametrize("num_proc", [None, 2])
def test_records_are_read_as_they_are_encoded(
    num_proc: int | None, path: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read ahead does not grow with the file."""
    monkeypatch.setattr(encode_pieces, "PIECE", 3)
    read: list[int] = []
    ahead: list[int] = []

    class Lazy(Texts):
        def load(self, split: str) -> Any:
            for i, record in enumerate(super().load(split)):
                read.append(i)
                yield record

    def counted(encode: Any, pieces: Any, *given: Any) -> Any:
        for done, made in enumerate(each(encode, pieces, *given)):
            ahead.append(len(read) - 3 * done)
            yield made

    each = encode_pieces._each
    monkeypatch.setattr(encode_pieces, "_each", counted)
    given: dict[str, Any] = {"keep_in_memory": False, "num_proc": num_proc}
    found = Lazy(path, **given).examples("train", make("SFT", "tiny-llama").encoder())
    assert len(found) == len(read) == 40
    assert max(ahead) <= 3 * (1 if num_proc is None else 1 + 2 * encode_pieces.AHEAD)

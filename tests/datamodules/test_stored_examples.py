"""Training examples on disk: the batches of memory, encoded once, whole after a kill."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import DBpedia, ZooDataModule, encode_pieces, examples, stored_examples
from datamodules.loader import StepLoader
from datamodules.stored_examples import StoredExamples
from zoo.encoding import Example, extended
from zoo.methods.lahore.encoder import Pair
from zoo.records import Conditioned, Corpus, Document, Ranking, Triple

WORDS = [
    "a",
    "house",
    "with",
    "seven",
    "windows",
    "stands",
    "near",
    "the",
    "old",
    "mill",
    "and",
    "nobody",
    "lives",
    "there",
]


class Texts(ZooDataModule):
    """Questions from a file of lines, some of them longer than others."""

    record_types = (Triple, Conditioned)

    def __init__(self, path: str, kind: type = Triple, **loader: Any) -> None:
        super().__init__(**loader)
        self.path, self.kind = path, kind

    def load(self, split: str) -> list[Any]:
        lines = Path(self.path).read_text().splitlines()
        if self.kind is Triple:
            return [Triple(line, "Hm.", line[:9], id=f"{i}") for i, line in enumerate(lines)]
        return [Conditioned(line[:20], line, line[:9], id=f"{i}") for i, line in enumerate(lines)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "examples"


@pytest.fixture
def path(tmp_path: Path) -> str:
    lines = [" ".join(WORDS[: 1 + i * 5 % 13]) + f" {i}" for i in range(40)]
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    return str(tmp_path / "texts.txt")


def batches(data: ZooDataModule, encoder: Any) -> list[dict[str, Any]]:
    """Return what the batches of two epochs hold."""
    found = data.examples("train", encoder)
    options = {"batch_size": 3, "max_tokens": 90, "accumulate": 2, "seed": 5}
    loader = StepLoader(found, encoder.collate, shuffle=True, **options)  # type: ignore[arg-type]
    made = [batch for _ in range(2) for batch in loader]
    return [{f.name: getattr(b, f.name) for f in fields(b) if f.name != "records"} for b in made]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, Pair):
        return type(left) is type(right) and replace(left, record=None) == right
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@pytest.mark.parametrize(
    ("method", "kind", "options"),
    [
        ("SFT", Triple, {}),
        ("MeTHanol", Triple, {"thinking_layer": 2}),
        ("HdLM", Triple, {"layers": [1]}),
        ("MeGan", Conditioned, {}),
    ],
)
@pytest.mark.parametrize("num_proc", [None, 2])
def test_batches_are_those_of_memory(
    method: str,
    kind: type,
    options: dict[str, Any],
    num_proc: int | None,
    path: str,
    make: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encode_pieces, "PIECE", 7)
    encoder = make(method, "tiny-llama", **options).encoder()
    kept = Texts(path, kind, keep_in_memory=True)
    stored = Texts(path, kind, keep_in_memory=False, num_proc=num_proc)
    assert same(batches(kept, encoder), batches(stored, encoder))
    found = stored.examples("train", encoder)
    assert isinstance(found, StoredExamples)
    assert isinstance(kept.examples("train", encoder), list)
    assert [replace(e, record=None) for e in kept.examples("train", encoder)] == list(found)
    assert isinstance(stored.examples("val", encoder), list)  # answered, so with records


@pytest.mark.parametrize("method", ["LaHoRe", "Rabtriever"])
def test_pairs_of_rankings(method: str, path: str, make: Any) -> None:
    """Tuples come back as tuples, and pairs as those of their method."""

    class Pairs(Texts):
        record_types = (Ranking,)

        def load(self, split: str) -> list[Any]:
            names = [f"d{i}" for i in range(4)]
            corpus = Corpus({n: Document(n, " ".join(WORDS[i:])) for i, n in enumerate(names)})
            judged = (("d0", 1), ("d2", 0))
            return [Ranking(line, corpus, judged, tuple(names), id=f"q{i}") for i, line in rows]

        def __init__(self, **loader: Any) -> None:
            super().__init__(path, **loader)

    rows = list(enumerate(Path(path).read_text().splitlines()))[:6]
    encoder = make(method, "tiny-llama").encoder()
    kept, stored = Pairs(keep_in_memory=True), Pairs(keep_in_memory=False)
    assert same(batches(kept, encoder), batches(stored, encoder))


def test_a_second_start_reads_no_record(
    path: str, make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = make("SFT", "tiny-llama").encoder()
    first = Texts(path, keep_in_memory=False).examples("train", encoder)
    assert "encoded 40 records in 0 s" in caplog.text
    assert f"{stored_examples.root()}" in caplog.text
    monkeypatch.setattr(Texts, "load", lambda self, split: pytest.fail("records were read"))
    again = Texts(path, keep_in_memory=False, batch_size=2, num_workers=1, seed=3)
    assert list(again.examples("train", encoder)) == list(first)


@pytest.mark.parametrize("linked", [False, True])
def test_a_cache_in_the_folder_of_data_is_no_data(
    linked: bool, path: str, make: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(path).parent
    if linked:
        folder = folder.with_name(f"{folder.name}-link")
        folder.symlink_to(Path(path).parent)

    def data() -> Texts:
        made = Texts(path, keep_in_memory=False)
        made.folder = str(folder)  # type: ignore[attr-defined]
        return made

    assert cache.parent.parent == Path(path).parent
    encoder = make("SFT", "tiny-llama").encoder()
    first = data().examples("train", encoder)
    (cache / "more.arrow").write_bytes(b"0" * examples.LARGE)
    assert not examples.is_large(data())
    monkeypatch.setattr(Texts, "load", lambda self, split: pytest.fail("records were read"))
    assert data().examples("train", encoder).folder == first.folder
    (Path(path).parent / "extra.txt").write_text("more data")
    with pytest.raises(pytest.fail.Exception):
        data().examples("train", encoder)


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


def test_what_changes_examples_changes_their_name(
    path: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(encoder: Any, **options: Any) -> str:
        found = examples.stored_name(Texts(path, keep_in_memory=False, **options), encoder)
        assert found is not None
        return found

    module = make("SFT", "tiny-llama")
    names = [name(module.encoder())]
    assert name(make("SFT", "tiny-llama").encoder(), batch_size=3) == names[0]
    names.append(name(module.encoder(), max_train=30))
    names.append(name(module.encoder(), too_long="drop"))
    names.append(name(make("SFT", "tiny-llama", max_length=99).encoder()))
    names.append(name(make("MeTHanol", "tiny-llama", thinking_layer=2).encoder()))
    more = copy.deepcopy(module.tokenizer)
    more.add_tokens(["houses"])
    names.append(name(replace(module.encoder(), tokenizer=more)))
    os.utime(path, ns=(1, 1))
    names.append(name(module.encoder()))
    with open(path, "a") as stream:
        stream.write(" more")
    os.utime(path, ns=(1, 1))
    names.append(name(module.encoder()))
    monkeypatch.setattr("datamodules.fingerprint._code_here", lambda: "other code")
    names.append(name(module.encoder()))
    assert len(set(names)) == len(names)


def test_size_decides(path: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make("SFT", "tiny-llama").encoder()
    assert examples.stored_name(Texts(path), encoder) is None
    monkeypatch.setattr(examples, "LARGE", Path(path).stat().st_size - 1)
    assert examples.stored_name(Texts(path), encoder)
    assert examples.stored_name(Texts(path, keep_in_memory=True), encoder) is None
    for method in ("ConfidentSFT", "LaMsS", "StraQ"):  # need records, or a whole split first
        assert examples.stored_name(Texts(path), make(method, "tiny-llama").encoder()) is None


def test_the_head_of_large_data_is_read_unless_they_are_stored(path: str, make: Any) -> None:
    """At most as many records as a limit has; small data are read whole."""
    encoder = make("SFT", "tiny-llama").encoder()
    assert not Texts(path).keep_head(encoder, 7)
    for limit, wanted in ((None, 7), (3, 3), (30, 7)):
        data = Texts(path, keep_in_memory=False, max_train=limit)
        assert data.keep_head(encoder, 7)
        assert len(data.examples("train", encoder)) == wanted
    stored = Texts(path, keep_in_memory=False)
    stored.examples("train", encoder)
    assert not Texts(path, keep_in_memory=False).keep_head(encoder, 7)


def test_examples_that_cannot_be_stored(path: str, make: Any, refused: Callable[..., str]) -> None:
    encoder = make("LaMsS", "tiny-llama").encoder()
    data = Texts(path, keep_in_memory=False)
    refused(lambda: data.examples("train", encoder), "data.keep_in_memory: false", "leave it out")
    encoder = make("SFT", "tiny-llama").encoder()
    encoder.model = torch.nn.Linear(1, 1)  # a researcher's: nothing names it
    refused(lambda: data.examples("train", encoder), "data.keep_in_memory: false")


def test_another_type_than_said(path: str, make: Any, refused: Callable[..., str]) -> None:
    """A subclass whose examples have more fields would lose them."""
    encoder = make("SFT", "tiny-llama").encoder()

    @dataclass(frozen=True)
    class More(Example):
        more: int = 0

    class MoreEncoder(type(encoder)):  # type: ignore[misc]
        def __call__(self, record: Any) -> list[Example]:
            return [extended(More, example, more=1) for example in super().__call__(record)]

    encoder.__class__ = MoreEncoder
    data = Texts(path, keep_in_memory=False)
    refused(lambda: data.examples("train", encoder), "says that it gives Example, but gives More")


@pytest.mark.parametrize("num_proc", [None, 2])
def test_too_long_records(
    num_proc: int | None,
    path: str,
    make: Any,
    refused: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
) -> None:
    monkeypatch.setattr(encode_pieces, "PIECE", 7)
    encoder = make("SFT", "tiny-llama", max_length=75).encoder()
    given: dict[str, Any] = {"keep_in_memory": False, "num_proc": num_proc}
    refused(lambda: Texts(path, **given).examples("train", encoder), "data.too_long: drop leaves")
    assert list(cache.iterdir()) == []
    kept = Texts(path, keep_in_memory=True, too_long="drop").examples("train", encoder)
    said = caplog.text.strip().rpartition("data.too_long")[2]
    assert "of 40 records of 'train' left out" in said
    for _ in range(2):  # encoded, and found again
        caplog.clear()
        found = Texts(path, **given, too_long="drop").examples("train", encoder)
        assert 0 < len(found) == len(kept) < 40
        assert caplog.text.strip().rpartition("data.too_long")[2] == said


ENCODE = """
import functools, sys
sys.path[:0] = {paths!r}
from test_stored_examples import Texts
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
from test_stored_examples import Texts, planned
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


def planned(path: str, encoder: Any) -> StepLoader:
    """Return a loader of stored examples."""
    found = Texts(path, keep_in_memory=False).examples("train", encoder)
    return StepLoader(found, encoder.collate, batch_size=3, max_tokens=90, shuffle=True, seed=5)


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


@pytest.mark.parametrize("keep_in_memory", [True, False])
def test_shortened_prompts_are_counted(keep_in_memory: bool, tmp_path: Path, make: Any) -> None:
    """Texts that lose their end are counted, in memory and stored; the count is found again."""
    long = "a long text about nothing at all " * 20
    rows = [f'"{long if i % 4 == 0 else "short"} {i}",x,y{i % 2},z' for i in range(12)]
    for split in ("train", "val", "test"):
        (tmp_path / f"DBPEDIA_{split}.csv").write_text("text,l1,l2,l3\n" + "\n".join(rows))
    encoder = make("HdLM", "tiny-llama", layers=[1, 2], max_length=500).encoder()
    for _ in range(2):
        data = DBpedia(str(tmp_path), keep_in_memory=keep_in_memory)
        data.examples("train", encoder)
        assert data.encoded_counts["train"] == (12, 0, 3)

"""Training examples on disk: the batches of memory, encoded once, named by what changes them."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stored_texts import WORDS, Texts

from datamodules import DBpedia, ZooDataModule, encode_pieces, examples, stored_examples
from datamodules.loader import StepLoader
from datamodules.stored_examples import StoredExamples
from zoo.encoding import Example, extended
from zoo.methods.lahore.encoder import Pair
from zoo.records import Conditioned, Corpus, Document, Ranking, Triple

pytestmark = pytest.mark.usefixtures("cache")


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

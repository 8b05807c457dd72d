"""Streamed mixtures: shares of tokens in the global order, a place that can be gone on from."""

from __future__ import annotations

import gzip
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from datamodules import MixtureCorpus
from datamodules.mixture_loader import LANES, MixtureLoader
from datamodules.mixture_schedule import MixtureSchedule
from datamodules.text_shards import ReadingPlace, TextShards
from datamodules.token_blocks import TokenBlocks

WINDOW, POINT = 200, 0.01
LENGTH = 16
END = 0


def ids(text: str) -> list[int]:
    """Return a token a letter, and an end."""
    return [*map(ord, text), END]


def text_file(path: Path, letter: str, count: int, size: int = 11) -> str:
    """Write texts that are told by their first letter and number."""
    path.write_text("".join(f"{letter}{i:05}" + letter * (i % size) + "\n" for i in range(count)))
    return str(path)


@pytest.fixture
def loader(tmp_path: Path) -> Callable[..., MixtureLoader]:
    paths = {
        "a": text_file(tmp_path / "a.txt", "a", 4000),
        "b": text_file(tmp_path / "b.txt", "b", 900),
    }

    def make(share: float = 0.337, **options: Any) -> MixtureLoader:
        sources = {name: TextShards(name, path, shuffle=64) for name, path in paths.items()}
        given = {"length": LENGTH, "batch_size": 3, "num_tokens": LENGTH * 900, "max_epochs": 9}
        return MixtureLoader(
            sources, {"a": 1 - share, "b": share}, ids, list, **{**given, **options}
        )

    return make


def in_order(ranks: Sequence[list[list[list[int]]]]) -> list[list[int]]:
    """Return the blocks of all ranks in the order in which they are trained on."""
    return [block for batches in zip(*ranks, strict=True) for batch in batches for block in batch]


def source(block: list[int]) -> str:
    (name,) = {chr(token) for token in block} & {"a", "b"}
    return name


def worst(names: Sequence[str], share: float, name: str = "b") -> float:
    """Return the largest distance from a share over all windows."""
    hits = [0]
    for found in names:
        hits.append(hits[-1] + (found == name))
    windows = zip(hits, hits[WINDOW:], strict=False)
    return max(abs((end - start) / WINDOW - share) for start, end in windows)


# -- shares ------------------------------------------------------------------------------------


@pytest.mark.fidelity("almr", 1)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.02, 0.1, 0.337, 0.5, 0.8])
def test_every_window_has_its_share(share: float, seed: int) -> None:
    names = list(islice(iter_of(MixtureSchedule({"a": 1 - share, "b": share}, seed=seed)), 3000))
    assert worst(names, share) <= POINT
    again = MixtureSchedule({"a": 1 - share, "b": share}, seed=seed)
    assert names == list(islice(iter_of(again), 3000))


def iter_of(schedule: MixtureSchedule) -> Iterator[str]:
    while True:
        yield next(schedule)


def test_many_sources_and_random_order() -> None:
    shares = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4, "e": 0.0}
    names = list(islice(iter_of(MixtureSchedule(shares)), 2000))
    assert all(worst(names, share, name) <= 2 * POINT for name, share in shares.items())
    assert "e" not in names
    drawn = list(islice(iter_of(MixtureSchedule(shares, order="random", seed=1)), 2000))
    assert worst(drawn, 0.4, "d") > 2 * POINT, "no draw looks like this"
    assert drawn.count("d") / 2000 == pytest.approx(0.4, abs=0.05)


def test_the_phase_is_seeded() -> None:
    starts = {
        tuple(islice(iter_of(MixtureSchedule({"a": 0.9, "b": 0.1}, seed=s)), 12)) for s in range(9)
    }
    assert len(starts) > 2


@pytest.mark.fidelity("almr", 1)
@pytest.mark.parametrize("workers", [0, 2])
def test_global_order_of_two_ranks(loader: Callable[..., Any], workers: int) -> None:
    """Over two ranks with workers, and across a kill: each rank goes on from what it had saved."""
    share = 0.337
    options = {"world_size": 2, "num_workers": workers}
    whole = [list(loader(share, rank=rank, **options)) for rank in range(2)]
    names = [source(block) for block in in_order(whole)]
    schedule = iter_of(MixtureSchedule({"a": 1 - share, "b": share}))
    assert names == list(islice(schedule, 900))  # one schedule over both ranks, not one each
    assert worst(names, share) <= POINT

    resumed = []
    for rank in range(2):
        killed = loader(share, rank=rank, **options)
        before = list(islice(killed, 57))
        state = json.loads(json.dumps(killed.state_dict()))
        fresh = loader(share, rank=rank, world_size=2, num_workers=2 - workers)
        fresh.load_state_dict(state)
        resumed.append([*before, *fresh])
    assert resumed == whole
    assert worst([source(block) for block in in_order(resumed)], share) <= POINT


def test_an_epochs_end(loader: Callable[..., Any]) -> None:
    """The next epoch goes on in the sources; a checkpoint between them goes on there too."""
    whole = loader(num_tokens=LENGTH * 60)
    first, second = list(whole), list(whole)
    assert len(first) == len(second) == len(whole) == 20
    assert first != second
    other = loader(num_tokens=LENGTH * 60)
    assert list(other) == first
    fresh = loader(num_tokens=LENGTH * 60)
    fresh.load_state_dict(other.state_dict())
    assert list(fresh) == second


def test_the_start_of_a_step(loader: Callable[..., Any]) -> None:
    """A checkpoint inside an optimiser step can be moved back to where it began."""
    whole = list(loader(accumulate=3))
    stopped = loader(accumulate=3)
    list(islice(stopped, 8))
    fresh = loader(accumulate=3)
    fresh.load_state_dict(stopped.state_dict()["step_start"])
    assert fresh.position == 6
    assert list(fresh) == whole[6:]


# -- texts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [1, 3, 9])
@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("shuffle", [1, 7, 99])
def test_every_text_once_an_epoch(tmp_path: Path, files: int, lanes: int, shuffle: int) -> None:
    for i in range(files):
        text_file(tmp_path / f"{i}.txt", "abcdefghi"[i], 20 + i)
    shards = TextShards("x", str(tmp_path), held_out=5, seed=2, shuffle=shuffle)
    for epoch in range(2):
        read = [
            [t for _, t in shards.read(ReadingPlace(epoch), lane, lanes)] for lane in range(lanes)
        ]
        counts = Counter(text for lane in read for text in lane)
        assert set(counts.values()) == {1}
        assert len(counts) == sum(20 + i for i in range(files)) - 5
        assert not counts.keys() & {text for _, text in shards.head(0, 5)}
        assert all(read)


def test_the_seed_orders_the_texts_of_one_file(tmp_path: Path) -> None:
    """Another order for every seed and epoch, within 8 rows; a place is found again in it."""
    path = text_file(tmp_path / "x.txt", "x", 20)

    def read(seed: int, place: ReadingPlace) -> list[tuple[ReadingPlace, str]]:
        return list(TextShards("x", path, seed=seed, shuffle=8, held_out=2).read(place))

    first = read(0, ReadingPlace())
    texts = [text for _, text in first]
    assert texts != sorted(texts)
    assert texts[:8] != sorted(texts)[:8]
    assert sorted(texts[:8]) == sorted(texts)[:8]
    assert texts != [text for _, text in read(1, ReadingPlace())]
    assert texts != [text for _, text in read(0, ReadingPlace(epoch=1))]
    for i, (place, _) in enumerate(first):
        assert read(0, place) == first[i:]


def test_tokens_of_a_lane_are_end_to_end(tmp_path: Path) -> None:
    shards = TextShards("x", text_file(tmp_path / "x.txt", "x", 40))
    blocks = TokenBlocks(shards, ids, LENGTH, lane=1, lanes=2)
    stream = [token for _, text in shards.read(ReadingPlace(), 1, 2) for token in ids(text)]
    found = [next(blocks) for _ in range(len(stream) // LENGTH - 1)]
    assert all(len(block) == LENGTH + 1 for block in found)
    assert [token for block in found for token in block[1:]] == stream[1 : len(found) * LENGTH + 1]
    assert all(a[-1] == b[0] for a, b in zip(found, found[1:], strict=False))


def test_a_place_is_kept_until_it_is_read_from(tmp_path: Path) -> None:
    """A source of which nothing was read since a resume keeps its place."""
    shards = TextShards("x", text_file(tmp_path / "x.txt", "x", 40))
    blocks = TokenBlocks(shards, ids, LENGTH)
    assert blocks.state_dict() is None
    next(blocks)
    state = blocks.state_dict()
    again = TokenBlocks(shards, ids, LENGTH, state=state)
    assert again.state_dict() == state
    assert next(again) == next(blocks)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "parquet", "csv", "txt", "txt.gz"])
def test_forms_of_a_shard(tmp_path: Path, kind: str) -> None:
    texts = ["one text", "another, longer one", "ein Wort: Fluß"]
    rows = [{"text": text, "url": "u"} for text in texts]
    path = tmp_path / f"shard.{kind}"
    written = {
        "jsonl": "\n".join(map(json.dumps, rows)),
        "json": json.dumps(rows),
        "csv": "text,url\n" + "".join(f'"{text}",u\n' for text in texts),
        "txt": "\n".join(texts),
    }
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif kind.endswith(".gz"):
        path.write_bytes(gzip.compress(written[kind.removesuffix(".gz")].encode()))
    else:
        path.write_text(written[kind], "utf-8")
    (tmp_path / "README.md").write_text("not a shard")
    for place in (path, tmp_path):
        assert [text for _, text in TextShards("x", str(place)).read(ReadingPlace())] == texts


# -- wrong input -------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [1, 9])
def test_a_damaged_shard(tmp_path: Path, caplog: pytest.LogCaptureFixture, shuffle: int) -> None:
    for i in range(3):
        (tmp_path / f"{i}.jsonl").write_text(json.dumps({"text": f"text {i}"}) + "\n")
    bad = tmp_path / "1.jsonl"
    bad.write_bytes(b'{"text": "fine"}\n{"text": 3}\n\xff\xfe\n{"text": "after"}\n')
    with pytest.raises(Exception, match=r"1\.jsonl:2: field 'text' must be .* data.on_bad: skip"):
        list(TextShards("x", str(tmp_path), shuffle=shuffle).read(ReadingPlace()))
    with caplog.at_level(logging.WARNING):
        shards = TextShards("x", str(tmp_path), shuffle=shuffle, on_bad="skip")
        read = {text for _, text in shards.read(ReadingPlace())}
    assert read == {"text 0", "text 2", "fine"}
    said = [record.message for record in caplog.records]
    assert any("a row is left out" in line and "1.jsonl:2" in line for line in said)
    assert any("a rest of the shard is left out" in line and "1.jsonl:3" in line for line in said)


def test_mixtures_that_are_none(tmp_path: Path, refused: Any) -> None:
    path = text_file(tmp_path / "a.txt", "a", 30)
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    two = {"one": path, "two": path}
    three = {**two, "three": path}
    for options, said in (
        ({"sources": two, "shares": {"two": 1.2}}, "data.shares.two: 1.2 is not in 0..1"),
        ({"sources": two, "shares": {"four": 0.2}}, "data.shares: no source 'four'"),
        ({"sources": two, "shares": {"one": 0.2, "two": 0.2}}, "data.shares: they add up to 0.4"),
        ({"sources": three, "shares": {"one": 0.2}}, "data.shares: name the shares of all"),
        ({"sources": {}}, "data.sources: name at least one source"),
        ({"sources": {"one": str(tmp_path / "none")}}, "no such file or folder"),
        ({"sources": {"one": path}, "order": "exactly"}, "data.order"),
        ({"sources": {"one": path}, "num_tokens": 0}, "data.num_tokens: 0 is not above 0"),
    ):
        refused(lambda given=options: MixtureCorpus(**given), said)
    refused(lambda: MixtureCorpus({"x": path}, held_out=20).records("val"), "data.sources.x")
    refused(lambda: MixtureCorpus({"x": str(empty)}).records("val"), "empty.txt: the file is empty")


def test_a_source_that_is_too_small(
    loader: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is read again, which is said, and not more often than allowed."""
    with caplog.at_level(logging.WARNING):
        list(loader(0.9))
    assert "data.sources.b: read 1 times, now again" in caplog.text
    with pytest.raises(ValueError, match=r"data.sources.b: smaller than its share: .* 1 times"):
        list(loader(0.9, max_epochs=1))


def test_another_mixture_does_not_go_on(loader: Callable[..., Any], tmp_path: Path) -> None:
    state = loader().state_dict()
    for options, said in (
        ({"share": 0.5}, "a = 0.663, now it is 0.5"),
        ({"world_size": 2}, "world_size = 1, now it is 2"),
        ({"batch_size": 4}, "batch_size = 3, now it is 4"),
        ({"order": "random"}, "order = exact, now it is random"),
    ):
        with pytest.raises(ValueError, match=said):
            loader(**options).load_state_dict(state)
    (tmp_path / "b.txt").write_text("b\n")
    with pytest.raises(ValueError, match="files of b"):
        loader().load_state_dict(state)
    with pytest.raises(ValueError, match="data.num_workers: 3"):
        loader(num_workers=3)
    assert LANES == 4


# -- datasets of the hub -----------------------------------------------------------------------


@pytest.mark.parametrize("stop", [3, 11])
def test_a_streamed_dataset_of_the_hub(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    """Nothing is downloaded as a whole; shards are divided, and a place is gone on from."""
    for i in range(5):
        texts = [f"shard {i} text {j} and some more" for j in range(6)]
        parquet.write_table(pa.table({"text": texts}), tmp_path / f"train-{i}.parquet")
    loaded, asked = datasets.load_dataset, []

    def load(name: str, subset: Any, **given: Any) -> Any:
        asked.append((name, subset, given.pop("revision"), given["streaming"]))
        files = {"train": sorted(map(str, tmp_path.glob("*.parquet")))}
        given.pop("trust_remote_code")
        return loaded("parquet", data_files=files, **given)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)

    def shards() -> TextShards:
        return TextShards("hub", "hf://a/b@v1", held_out=2)

    assert len(shards()) == 5
    read = [[text for _, text in shards().read(ReadingPlace(), lane, 4)] for lane in range(4)]
    assert len({text for texts in read for text in texts}) == 5 * 6 - 2
    assert set(asked) == {("a/b", None, "v1", True)}
    blocks = TokenBlocks(shards(), ids, 10, lane=1, lanes=4)
    for _ in range(stop):
        next(blocks)
    again = TokenBlocks(shards(), ids, 10, lane=1, lanes=4, state=blocks.state_dict())
    assert [next(again) for _ in range(9)] == [next(blocks) for _ in range(9)]
    refused(lambda: len(TextShards("hub", "hf://a/b", field="body")), "no column body")

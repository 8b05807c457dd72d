"""Streamed mixtures: shares of tokens in the global order, a place that can be gone on from."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from letter_texts import LENGTH, ids, text_file

from datamodules import MixtureCorpus
from datamodules.mixture_loader import LANES, MixtureLoader
from datamodules.mixture_schedule import MixtureSchedule
from datamodules.text_shards import TextShards

WINDOW, POINT = 200, 0.01


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


@pytest.mark.fidelity("almr", 2)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_every_share_has_the_same_tokens(loader: Callable[..., Any], share: float) -> None:
    """Counted in the blocks of an epoch: `num_tokens` at each ratio, controls included."""
    blocks = [block for batch in loader(share) for block in batch]
    assert sum(len(block) - 1 for block in blocks) == LENGTH * 900
    assert sum(source(block) == "b" for block in blocks) == 900 * share


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


# -- wrong input -------------------------------------------------------------------------------


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
    for reader in range(1, LANES + 1):
        assert (
            f"data.sources.b: read 1 times, now again (reader {reader} of {LANES})" in caplog.text
        )
    with pytest.raises(ValueError, match=r"data.sources.b: smaller than its share: .* 1 times"):
        list(loader(0.9, max_epochs=1))


def test_a_reader_whose_own_part_is_too_small(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last of four files is short: its reader alone says that it reads it again."""
    for i, count in enumerate((300, 300, 300, 9)):
        text_file(tmp_path / f"{i}.txt", "b", count)
    shards = TextShards("b", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        list(
            MixtureLoader(
                {"b": shards},
                {"b": 1.0},
                ids,
                list,
                length=LENGTH,
                batch_size=3,
                num_tokens=LENGTH * 60,
            )
        )
    said = [record.message for record in caplog.records]
    assert len({line.partition("(")[2] for line in said}) == 1
    assert any("data.sources.b: read 1 times, now again (reader " in line for line in said)


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

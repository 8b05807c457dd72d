"""Texts of a streamed source: every one once an epoch, forms of shards, damage, the hub."""

from __future__ import annotations

import gzip
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from letter_texts import LENGTH, ids, text_file
from pyarrow import parquet

from datamodules.text_shards import ReadingPlace, TextShards
from datamodules.token_blocks import TokenBlocks

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


def test_a_damaged_row_among_the_held_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, refused: Any
) -> None:
    """Skipped as in training; it counts as held out, so what is read begins behind it."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "one"}\n{"text": 3}\n{"text": "three"}\n{"text": "four"}\n')
    strict = TextShards("x", str(path), held_out=3)
    refused(lambda: strict.head(0, 3), "x.jsonl:2: field 'text' must be")
    refused(lambda: strict.head(0, 3), "data.on_bad: skip goes on without this row")
    shards = TextShards("x", str(path), held_out=3, on_bad="skip")
    with caplog.at_level(logging.WARNING):
        assert shards.head(0, 3) == [("x:1", "one"), ("x:3", "three")]
    assert "data.sources.x: a row is left out" in caplog.text
    assert [text for _, text in shards.read(ReadingPlace())] == ["four"]


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

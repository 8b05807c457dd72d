"""An index on disk: what it finds, how it resumes, when it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.cache import digest, weights_digest
from zoo.errors import InputError
from zoo.ranking import index as module
from zoo.ranking.index import Index, build
from zoo.ranking.query_file import read_queries
from zoo.records import Document

WORDS = ["tea", "rain on the roof", "a dog", "salt", "ferry to the island", "wool", "ink"]
DOCUMENTS = [Document(f"d{i}", word, title="T" if i == 2 else "") for i, word in enumerate(WORDS)]
QUERIES = ["what to drink", "how to cross the water"]
Make = Callable[..., Any]


@pytest.fixture
def lahore(make: Make) -> Any:
    return make("LaHoRe", "tiny-llama", spread=8.0)


def direct(module: Any, k: int) -> list[list[tuple[str, float]]]:
    """The same search without files: every pair scored at once."""
    scores = module.online(QUERIES, module.offline(DOCUMENTS)).tolist()
    rows = [sorted(zip(row, range(len(row)), strict=True), key=lambda x: -x[0]) for row in scores]
    return [[(DOCUMENTS[i].id, score) for score, i in row[:k]] for row in rows]


def same(found: Any, expected: Any) -> None:
    for ours, row in zip(found, expected, strict=True):
        assert [name for name, _ in ours] == [name for name, _ in row]
        assert [s for _, s in ours] == pytest.approx([s for _, s in row], abs=1e-5)


@pytest.mark.parametrize("shard_size", [1, 3, 100])
def test_search_finds_what_a_direct_search_finds(
    lahore: Any, tmp_path: Path, shard_size: int
) -> None:
    assert build(lahore, DOCUMENTS, tmp_path / "i", shard_size=shard_size) == 7
    opened = Index(lahore, tmp_path / "i")
    same(opened.search(QUERIES, 4), direct(lahore, 4))
    assert len(opened.search(QUERIES[:1], 50)[0]) == 7
    assert build(lahore, DOCUMENTS, tmp_path / "i", shard_size=shard_size) == 0
    kinds = {path.suffix for path in (tmp_path / "i").iterdir()}
    assert kinds == {".json", ".jsonl", ".safetensors"}


def test_a_build_that_is_killed_is_finished_later(
    lahore: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards written before the kill stay; a torn one is not taken; unfinished is not searched."""
    calls = 0
    offline = lahore.offline

    def dies(documents: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            (tmp_path / "i" / ".shard-00002.safetensors.1.part").write_bytes(b"torn")
            raise KeyboardInterrupt
        return offline(documents)

    monkeypatch.setattr(lahore, "offline", dies)
    with pytest.raises(KeyboardInterrupt):
        build(lahore, DOCUMENTS, tmp_path / "i", shard_size=2)
    monkeypatch.setattr(lahore, "offline", offline)
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "i").glob("shard-*")}
    assert sorted(kept) == ["shard-00000.safetensors", "shard-00001.safetensors"]
    with pytest.raises(InputError, match="not finished; run the same index again"):
        Index(lahore, tmp_path / "i")
    assert build(lahore, DOCUMENTS, tmp_path / "i", shard_size=2) == 3
    for name, when in kept.items():
        assert (tmp_path / "i" / name).stat().st_mtime_ns == when
    assert not list((tmp_path / "i").glob(".*"))
    same(Index(lahore, tmp_path / "i").search(QUERIES, 7), direct(lahore, 7))


def test_a_shard_is_whole_or_not_there(
    lahore: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        build(lahore, DOCUMENTS, tmp_path / "i")
    assert {p.name for p in (tmp_path / "i").iterdir()} == {"index.json", "documents.jsonl"}


def test_what_changed_is_named(lahore: Any, make: Make, tmp_path: Path) -> None:
    target = tmp_path / "i"
    build(lahore, DOCUMENTS, target, shard_size=4)
    for options, said in (
        ({"document_tokens": 3}, r"other model\.document_tokens \(512, now 3\)"),
        ({"template": "released"}, r"other model\.template \(paper, now released\)"),
        ({"system": "Hi."}, r"other model\.system"),
    ):
        other = make("LaHoRe", "tiny-llama", spread=8.0, **options)
        with pytest.raises(InputError, match=said):
            Index(other, target)
    Index(make("LaHoRe", "tiny-llama", spread=8.0, labels=["T", "F"]), target)  # not in documents
    with torch.no_grad():
        lahore.lm.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-6
    with pytest.raises(InputError, match=r"i: the index was built with other weights .*new one"):
        Index(lahore, target)
    with pytest.raises(InputError, match="other weights"):
        build(lahore, DOCUMENTS, target, shard_size=4)
    fresh = make("LaHoRe", "tiny-llama", spread=8.0)
    changed = [*DOCUMENTS[:-1], Document("d6", "chalk")]
    with pytest.raises(InputError, match="other documents"):
        build(fresh, changed, target, shard_size=4)
    with pytest.raises(InputError, match=r"other shard_size \(4, now 5\)"):
        build(fresh, DOCUMENTS, target, shard_size=5)


def test_folders_that_are_no_index(lahore: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"no index\.json there; it is no index"):
        Index(lahore, tmp_path)
    with pytest.raises(InputError, match="other files; name a new folder"):
        build(lahore, DOCUMENTS, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    build(lahore, DOCUMENTS, tmp_path / "i", shard_size=4)
    (tmp_path / "i" / "shard-00001.safetensors").unlink()
    with pytest.raises(InputError, match=r"shard-00001\.safetensors: missing or damaged"):
        Index(lahore, tmp_path / "i").search(QUERIES, 1)
    (tmp_path / "i" / "index.json").write_text("{")
    with pytest.raises(InputError, match=r"index\.json: damaged"):
        Index(lahore, tmp_path / "i")


def test_queries_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"_id": "a", "text": " one "}\n\n{"text": "two"}\n{"id": 5, "text": "x"}\n')
    assert read_queries(path) == [("a", "one"), ("3", "two"), ("5", "x")]
    path.write_text('{"text": "one\u2028line"}')
    assert read_queries(path) == [("1", "one\u2028line")]
    table = tmp_path / "q.tsv"
    table.write_text("query-id\ttext\n7\twhat to drink\nq8\ta\tb\n")
    assert read_queries(table) == [("7", "what to drink"), ("q8", "a\tb")]
    for file, line, said in (
        (path, "{", r':1: expected \{"id": "q1", "text": "a query"\}, or a file named \.tsv'),
        (path, '{"id": 1, "text": ' + "[" * 10**5, ":1: expected"),
        (path, '{"id": ' + "9" * 5000 + ', "text": "x"}', ":1: expected"),
        (path, '{"id": 1, "id": 2, "text": "x"}', r":1: expected .* \(a key is there twice\)"),
        (path, '{"id": null, "text": "x"}', ":1: field 'id' must be a string or an integer"),
        (path, '{"text": " "}', ":1: field 'text'"),
        (path, '{"text": "\\ud800"}', ":1: field 'text' .* lone surrogates"),
        (
            path,
            '{"id": 1, "text": "x"}\n{"id": "1", "text": "y"}',
            ":2: query id '1' is there twice",
        ),
        (path, "", "empty"),
        (table, "what to drink", ":1: expected id and text with a tab between"),
    ):
        file.write_text(line)
        with pytest.raises(InputError, match=said):
            read_queries(file)
    with pytest.raises(InputError, match="cannot read"):
        read_queries(tmp_path / "none")


def test_a_score_that_is_no_number_is_refused(
    lahore: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be the first of the ranking."""
    build(lahore, DOCUMENTS, tmp_path / "i", shard_size=4)
    online = lahore.online

    def broken(queries: Any, states: Any) -> Any:
        scores = online(queries, states)
        scores[0, 1] = float("nan")
        return scores

    monkeypatch.setattr(lahore, "online", broken)
    with pytest.raises(InputError, match=r"score of a document is not a number \(NaN\)"):
        Index(lahore, tmp_path / "i").search(QUERIES, 1)


def test_faiss_is_refused_without_vectors(lahore: Any, tmp_path: Path) -> None:
    build(lahore, DOCUMENTS, tmp_path / "i")
    with pytest.raises(InputError, match="scores of LaHoRe are no inner products; use torch"):
        Index(lahore, tmp_path / "i").search(QUERIES, 1, engine="faiss")


def test_names_of_contents() -> None:
    """Another bit, name, shape or type gives another name; the order of tensors does not."""
    x = torch.arange(6.0)
    names = {
        weights_digest([("a", x)]),
        weights_digest([("b", x)]),
        weights_digest([("a", x.view(2, 3))]),
        weights_digest([("a", x.bfloat16())]),
        weights_digest([("a", x + torch.tensor([0, 0, 0, 0, 0, 1e-6]))]),
        weights_digest([("a", x), ("b", x)]),
    }
    assert len(names) == 6
    assert weights_digest([("a", x), ("b", x + 1)]) == weights_digest([("b", x + 1), ("a", x)])
    assert digest({"a": 1, "b": [2]}) == digest(json.loads('{"b": [2], "a": 1}'))

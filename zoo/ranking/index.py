"""Documents encoded once, on disk: built in shards, resumed after a kill, refused when stale.

    index.json            what the documents' states depend on, and whether all are there
    documents.jsonl       id and title of each document, in order
    shard-00000.safetensors ...   what `offline` made of each run of documents

A method that can be indexed has `offline(documents)`, a mapping of tensors whose first dimension
can be concatenated; `online(queries, states)`, the scores of queries with such documents, `(Q, n)`;
and `offline_settings()`, what of its prompt the documents' states depend on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from zoo.cache import digest, weights_digest, whole_file
from zoo.errors import InputError, check_counts
from zoo.ranking.faiss_search import check_vectors, vector_search
from zoo.records import Document

CARD, NAMES = "index.json", "documents.jsonl"
CHUNK = 32  # documents at a time


class Indexed(Protocol):
    """What an index needs of a method."""

    lm: Any
    documents_per_shard: int  # what a kill can lose, and what is in memory at once

    def offline(self, documents: Sequence[Document]) -> dict[str, Tensor]:
        """Return the states of documents."""
        ...

    def online(self, queries: Sequence[str], states: Mapping[str, Tensor]) -> Tensor:
        """Return the score of each query with each document, `(Q, n)`."""
        ...

    def offline_settings(self) -> dict[str, Any]:
        """Return what, beside the weights, the states of documents depend on."""
        ...


def build(
    module: Indexed,
    documents: Sequence[Document],
    folder: str | Path,
    *,
    shard_size: int | None = None,
) -> int:
    """Encode documents into an index, or finish one that was cut off.

    Args:
        module: A built method.
        documents: What to encode, with different ids.
        folder: Where to write; new, or an unfinished index of the same documents and method.
        shard_size: Documents per file; None for the method's own number.

    Returns:
        The number of documents encoded now.

    Raises:
        InputError: The folder holds something else, or an index of other documents or weights.
    """
    target = Path(folder)
    shard_size = module.documents_per_shard if shard_size is None else shard_size
    check_counts("", {"shard_size": shard_size})
    card = {
        **_fingerprint(module),
        "documents": digest([[d.id, d.content] for d in documents]),
        "count": len(documents),
        "shard_size": shard_size,
    }
    if (target / CARD).is_file():
        _same(target, _read_card(target), card)
    elif target.exists() and any(target.iterdir()):
        raise InputError(f"output: {target} holds no {CARD} but other files; name a new folder")
    target.mkdir(parents=True, exist_ok=True)
    for left in target.glob(".*.part"):
        left.unlink()
    if not (target / CARD).is_file():
        lines = [json.dumps({"id": d.id, "title": d.title}) + "\n" for d in documents]
        with whole_file(target / NAMES) as scratch:
            scratch.write_text("".join(lines), "utf-8")
        _write_card(target, {**card, "complete": False})
    starts = range(0, len(documents), shard_size)
    done = [start for start in starts if _shard(target, start // shard_size).is_file()]
    with tqdm(total=len(documents), unit="doc", desc="index") as bar:
        bar.update(sum(min(shard_size, len(documents) - start) for start in done))
        for start in starts:
            if start in done:
                continue
            parts = []
            for first in range(start, min(start + shard_size, len(documents)), CHUNK):
                chunk = documents[first : min(first + CHUNK, start + shard_size)]
                parts.append({n: t.cpu() for n, t in module.offline(chunk).items()})
                bar.update(len(chunk))
            whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            with whole_file(_shard(target, start // shard_size)) as scratch:
                save_file(whole, scratch)
    _write_card(target, {**card, "complete": True})
    return sum(min(shard_size, len(documents) - s) for s in starts if s not in done)


class Index:
    """A finished index, opened for one method.

    Args:
        module: The method that built it, with the same weights and prompt.
        folder: Where it lies.

    Raises:
        InputError: There is no index, it is not finished, or the method has changed since.
    """

    def __init__(self, module: Indexed, folder: str | Path) -> None:
        self.module, self.folder = module, Path(folder)
        card = _read_card(self.folder)
        _same(self.folder, card, _fingerprint(module))
        if not card["complete"]:
            raise InputError(f"{folder}: the index is not finished; run the same index again")
        lines = (self.folder / NAMES).read_text("utf-8").splitlines()
        self.names: list[str] = [json.loads(line)["id"] for line in lines]
        self.shards = [
            _shard(self.folder, i) for i in range(-(-card["count"] // card["shard_size"]))
        ]

    def states(self) -> Iterator[dict[str, Tensor]]:
        """Yield the states of each shard.

        Raises:
            InputError: A file is missing or damaged.
        """
        for path in self.shards:
            try:
                yield load_file(path)
            except (SafetensorError, OSError) as error:
                raise InputError(f"{path}: missing or damaged; build the index anew") from error

    def search(
        self, queries: Sequence[str], k: int, *, engine: Literal["torch", "faiss"] = "torch"
    ) -> list[list[tuple[str, float]]]:
        """Return the k best documents of each query with their scores, best first.

        Args:
            queries: Their texts.
            k: How many documents; equal scores keep the documents' order with `torch`.
            engine: `torch` scores every document; `faiss` searches the vectors of a method whose
                scores are inner products.

        Raises:
            InputError: A score is not a number, or see `check_vectors`.
        """
        if engine == "faiss":
            check_vectors(self.module)
            vectors = torch.cat([states["vectors"] for states in self.states()])
            best, places = vector_search(self.module, queries, vectors, k)
        else:
            best, places = self._all_scores(queries, k)
        if best.isnan().any():
            raise InputError(f"{self.folder}: the score of a document is not a number (NaN)")
        return [
            [(self.names[i], score) for i, score in zip(row, values, strict=True)]
            for row, values in zip(places.tolist(), best.tolist(), strict=True)
        ]

    def _all_scores(self, queries: Sequence[str], k: int) -> tuple[Tensor, Tensor]:
        best = torch.empty(len(queries), 0, dtype=torch.float64)
        places = torch.empty(len(queries), 0, dtype=torch.long)
        first = 0
        for states in self.states():
            scores = self.module.online(queries, states).double().cpu()
            positions = torch.arange(first, first + scores.shape[1]).expand(len(queries), -1)
            first += scores.shape[1]
            best, places = torch.cat([best, scores], 1), torch.cat([places, positions], 1)
            best, order = best.sort(dim=1, descending=True, stable=True)
            best, places = best[:, :k], places.gather(1, order)[:, :k]
        return best, places


def _fingerprint(module: Indexed) -> dict[str, Any]:
    return {
        "method": type(module).__name__,
        "settings": json.loads(json.dumps(module.offline_settings())),
        "weights": weights_digest(module.lm.state_dict().items()),
    }


def _same(folder: Path, card: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise unless an index was made of the same things.

    Raises:
        InputError: It was not; says which one differs.
    """
    for key in ("method", "settings", "documents", "count", "shard_size", "weights"):
        if key not in wanted or card[key] == wanted[key]:
            continue
        old, new, name = card[key], wanted[key], key
        if key == "settings":
            name = next(n for n in {**old, **new} if old.get(n) != new.get(n))
            old, new = old.get(name), new.get(name)
            name = f"model.{name}"
        raise InputError(
            f"{folder}: the index was built with other {name} ({old}, now {new}); build a new one"
        )


def _read_card(folder: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder}: no {CARD} there; it is no index") from error
    except ValueError as error:
        raise InputError(f"{folder / CARD}: damaged; build the index anew") from error
    return card


def _write_card(folder: Path, card: Mapping[str, Any]) -> None:
    with whole_file(folder / CARD) as scratch:
        scratch.write_text(json.dumps(card, indent=2) + "\n", "utf-8")


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05}.safetensors"

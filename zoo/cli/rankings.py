"""Rankings of queries as JSON, an object a query: what `python -m zoo search` prints or writes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.cache import whole_file


def ranked(
    index: Any,
    asked: Sequence[tuple[str, str]],
    excluded: Mapping[str, Collection[str]],
    k: int,
    engine: str,
) -> list[str]:
    """Return a line of JSON for each query: its id, text, and best documents with their scores.

    Args:
        index: An opened index.
        asked: Id and text of each query.
        excluded: Documents that a query does not rank, by its id.
        k: How many documents to keep.
        engine: What searches, see `Index.search`.
    """
    spare = max(map(len, excluded.values()), default=0)
    rankings = index.search([text for _, text in asked], k + spare, engine=engine)
    lines = []
    for (name, text), ranking in zip(asked, rankings, strict=True):
        kept = [pair for pair in ranking if pair[0] not in excluded.get(name, ())][:k]
        row = {"id": name, "query": text, "ranking": kept}
        lines.append(json.dumps(row, ensure_ascii=False))
    return lines


def write_rankings(lines: Sequence[str], output: str | None) -> None:
    """Write the lines to a new file, whole or not at all; without a file print them."""
    if output is None:
        print("\n".join(lines))  # noqa: T201
        return
    with whole_file(Path(output)) as scratch:
        scratch.write_text("\n".join(lines) + "\n", "utf-8")
    print(f"rankings    {output}")  # noqa: T201

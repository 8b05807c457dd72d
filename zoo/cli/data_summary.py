"""What `check` says about the training data: how many, how long, how many left out or shortened."""

from __future__ import annotations

from typing import Any

import numpy as np

HEAD = 1000  # records that are looked at of large data
BINS = 8
WIDTH = 40  # characters of the longest bar


def data_summary(datamodule: Any, split: str, loader: Any, window: int | None) -> list[str]:
    """Return lines on examples and their lengths, with a histogram; on what a stream reads.

    Args:
        datamodule: The data; it knows how many records of the split were encoded or left out.
        split: The split.
        loader: Its loader; one that streams has a `summary`, others know the lengths of all
            examples, in tokens.
        window: Tokens that the method's window holds, None if it has none.
    """
    if hasattr(loader, "summary"):
        streamed: list[str] = loader.summary()
        return streamed
    lengths = loader.sizes.lengths
    records, dropped, shortened = datamodule.encoded_counts[split]
    limit = "" if window is None else f" of a window of {window:,}"
    lines = [
        f"examples    {len(lengths):,} of {records:,} records, {dropped:,} of them left out, "
        f"{shortened:,} prompts shortened; "
        f"{int(lengths.sum()):,} tokens, {int(np.median(lengths)):,} in the middle, "
        f"{int(lengths.max()):,} at most{limit}"
    ]
    counts, edges = np.histogram(lengths, bins=min(BINS, int(np.ptp(lengths)) + 1))
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        bar = "#" * -(-int(count) * WIDTH // int(counts.max()))
        lines.append(f"  {low:7,.0f} to {high:7,.0f}  {count:9,}  {bar}")
    return lines

"""Metrics that need every record: their state is one row per record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat


class RecordMetric(Metric):
    """Base of metrics that are computed from rows, one for each record.

    Few scores of texts and plans are means of batches: a bias, a curve and a bootstrap over
    dialogues need all records at once. The rows are kept as JSON in byte tensors. So torchmetrics'
    own synchronisation takes another number of records from each process (none too), and casting a
    module to half precision rounds nothing. A record whose id comes twice, because a sampler filled
    a batch up or two processes saw it, counts once. Where every process updates once per batch, the
    rows stand in the order in which one process finds them: batches are dealt in turn.

    A subclass calls `keep` in `update` and reads `kept` in `compute`. States are not persistent:
    they are in no checkpoint.
    """

    full_state_update = False
    is_differentiable = False
    rows: list[Tensor] | Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def keep(self, rows: Iterable[Any], ids: Sequence[str] | None = None) -> None:
        """Keep rows that JSON can hold.

        Args:
            rows: One for each record.
            ids: A name for each record; None counts every row.

        Raises:
            ValueError: There are more or fewer ids than rows.
        """
        rows = list(rows)
        names = repeat(None, len(rows)) if ids is None else ids
        pairs = zip(names, rows, strict=True)
        text = "".join(json.dumps([self.update_count, *pair]) + "\n" for pair in pairs)
        data = torch.frombuffer(bytearray(text.encode() or b"\n"), dtype=torch.uint8)
        assert isinstance(self.rows, list)  # a tensor only inside `compute`
        self.rows.append(data.to(self.device))

    def kept(self) -> list[Any]:
        """Return the rows in the order of the updates, each id's first one."""
        if not len(self.rows):
            return []
        text = bytes(dim_zero_cat(self.rows).cpu().numpy()).decode()
        lines = sorted((json.loads(line) for line in text.splitlines() if line), key=itemgetter(0))
        first: dict[Any, Any] = {}
        for i, (_, name, row) in enumerate(lines):
            first.setdefault(i if name is None else name, row)
        return list(first.values())

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the rows of all processes; one without rows takes part with an empty line.

        For an empty list torchmetrics would send floats where the others send bytes.
        """
        if not len(self.rows):
            self.keep([])
        super().sync(*args, **kwargs)


def number(value: float) -> Tensor:
    """Return what `compute` gives for one number: a float64 scalar on the CPU."""
    return torch.tensor(float(value), dtype=torch.float64)


class RecordMean(RecordMetric):
    """Mean of a number of each record.

    Differs from `torchmetrics.MeanMetric` in that a record counts once and sums are exact.

    Example:
        >>> RecordMean()([0.25, 0.75])
        tensor(0.5000, dtype=torch.float64)
    """

    def update(self, values: Sequence[float], ids: Sequence[str] | None = None) -> None:
        """Add numbers; of those with one id the first."""
        self.keep(values, ids)

    def compute(self) -> Tensor:
        """Return the mean; NaN without records."""
        values = self.kept()
        return number(sum(values) / len(values) if values else math.nan)

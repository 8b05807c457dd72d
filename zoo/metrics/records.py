"""Metrics that need every record: their state is one row per record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import repeat
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
    a batch up or two processes saw it, counts once.

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
        pairs = zip(repeat(None, len(rows)) if ids is None else ids, rows, strict=True)
        text = "".join(json.dumps(pair) + "\n" for pair in pairs)
        data = torch.frombuffer(bytearray(text.encode() or b"\n"), dtype=torch.uint8)
        assert isinstance(self.rows, list)  # a tensor only inside `compute`
        self.rows.append(data.to(self.device))

    def kept(self) -> list[Any]:
        """Return the rows in the order in which they came, each id's first one."""
        if not len(self.rows):
            return []
        text = bytes(dim_zero_cat(self.rows).cpu().numpy()).decode()
        pairs = [json.loads(line) for line in text.splitlines() if line]
        first: dict[Any, Any] = {}
        for i, (name, row) in enumerate(pairs):
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

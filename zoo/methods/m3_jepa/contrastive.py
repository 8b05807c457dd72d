"""Symmetric in-batch contrastive loss.

Shapes: B pairs of this process, G pairs of all processes, H width.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional as F


def info_nce(
    source_BH: Tensor,
    target_BH: Tensor,
    temperature: float,
    groups: Sequence[str] | None = None,
    *,
    across_ranks: bool = False,
) -> Tensor:
    """Return -1/2 [log softmax_j(s_i.t_j / tau)[i] + log softmax_j(t_i.s_j / tau)[i]], `(B,)`.

    Vectors are normalised to length one. The negatives of a pair are the other pairs of its batch
    that are not of its group.

    Args:
        source_BH: One vector per pair.
        target_BH: Its partner.
        temperature: tau.
        groups: The group of each pair; pairs of one group match each other. None: none do.
        across_ranks: Take the pairs of every process as negatives, with gradient.

    Example:
        >>> v = torch.eye(2)
        >>> [round(x, 4) for x in info_nce(v, v, 1.0).tolist()]  # ln(e + 1) - 1
        [0.3133, 0.3133]
    """
    source, target = (F.normalize(v.float(), dim=1) for v in (source_BH, target_BH))
    sources, targets, first = source, target, 0
    group = None if groups is None else numbers(groups).to(source.device)
    everyones = group
    if across_ranks and torch.distributed.is_initialized():
        sources, first = gather(source)
        targets, _ = gather(target)
        everyones = None if group is None else gather(group[:, None])[0][:, 0]
    own = torch.arange(first, first + len(source), device=source.device)
    forward, backward = source @ targets.t() / temperature, target @ sources.t() / temperature
    if group is not None and everyones is not None:
        matching = group[:, None] == everyones
        matching[torch.arange(len(own), device=own.device), own] = False  # the pair itself counts
        forward, backward = (s.masked_fill(matching, -torch.inf) for s in (forward, backward))
    costs = [F.cross_entropy(scores, own, reduction="none") for scores in (forward, backward)]
    return (costs[0] + costs[1]) / 2


def numbers(groups: Sequence[str]) -> Tensor:
    """Return a number for each group, `(B,)`: the same one in every process."""
    digests = (blake2b(name.encode(), digest_size=8).digest() for name in groups)
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests])


def gather(rows_BH: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all processes, `(G, H)`, with gradient, and where this one's begin."""
    from torch.distributed.nn.functional import all_gather

    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    mine = torch.tensor(len(rows_BH), device=rows_BH.device)
    sizes = [torch.zeros_like(mine) for _ in range(world)]
    torch.distributed.all_gather(sizes, mine)
    counts = [int(size) for size in sizes]
    padded = F.pad(rows_BH, (0, 0, 0, max(counts) - len(rows_BH)))  # the last batches differ
    parts = [part[:n] for part, n in zip(all_gather(padded), counts, strict=True)]
    return torch.cat(parts), sum(counts[:rank])

"""What is logged of losses: each term per supervised token, and the weighted sum of all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from zoo import parallel
from zoo.losses.cross_entropy import Term

if TYPE_CHECKING:
    from zoo.module import ZooModule


def log_terms(module: ZooModule, stage: str, terms: Mapping[str, Term]) -> None:
    """Log each term's mean in nats per supervised token, weighted by its tokens.

    In training also `train/loss`, their sum, each times its weight in the objective.

    Args:
        module: The method.
        stage: `train`, `val` or `test`.
        terms: Loss terms of a batch, by name.
    """
    training = stage == "train"
    processes = 1 if module._trainer is None else module._trainer.world_size
    means: dict[str, Tensor] = {}
    for name, term in terms.items():
        count = 0.0 if math.isinf(term.normalizer) else float(term.weight)  # inf: a filler
        module.supervised[name] = module.supervised.get(name, 0.0) + count
        if not count and (training or processes == 1):
            continue  # in evaluation all processes log all terms: they are reduced together
        means[name] = term.mean
        module.log(
            f"{stage}/{name}_loss",
            term.mean,
            # Lightning divides the sum over processes by their number, without a remainder.
            batch_size=max(1, round(count)) * processes if count else 0,
            on_step=training,
            on_epoch=not training,
            prog_bar=True,
            sync_dist=not training,
        )
    if training and means:
        module.log("train/loss", weighted_sum(module, means))


def log_total(module: ZooModule, stage: str) -> None:
    """Log the sum of an epoch's terms, each times its weight: `val/loss` or `test/loss`.

    Args:
        module: The method; its terms of the epoch are logged, in all processes.
        stage: `val` or `test`.
    """
    counts = parallel.gathered(module.supervised)
    names = dict.fromkeys(name for count in counts for name, weight in count.items() if weight)
    logged = module.trainer.callback_metrics
    if names:
        means = {name: logged[f"{stage}/{name}_loss"] for name in names}
        module.log(f"{stage}/loss", weighted_sum(module, means))
    module.supervised = {}


def weighted_sum(module: ZooModule, means: Mapping[str, Tensor]) -> Tensor:
    """Return sum_i weight_i * mean_i of loss terms."""
    weights = module.loss_weights
    parts = [mean * (1.0 if weights is None else weights[name]) for name, mean in means.items()]
    return sum(parts[1:], parts[0])

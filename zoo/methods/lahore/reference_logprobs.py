"""Log-probabilities of the reference policy, computed before training, so no second model is kept.

The reference is the policy as it starts. What is computed is written to `$ZOO_CACHE` under a name
made of weights, pairs and precision, and goes into the checkpoints, so that a resumed run has the
same reference although its weights have moved on.

All pairs are computed, not only those that the planned steps reach: a resumed run may have more
steps, and cannot compute them any more. A run of few steps on large data sets `data.max_train`.
"""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from zoo import parallel
from zoo.cache import digest, root, weights_digest, whole_file
from zoo.decoding.batching import chunks, in_step
from zoo.errors import InputError
from zoo.methods.lahore.encoder import Pair
from zoo.module import evaluating

log = logging.getLogger(__name__)
BUDGET = 8192  # tokens at a time


class ReferenceLogProbs:
    """log pi_0 of both answers of every training pair; nothing here is a parameter."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.values = torch.empty(0, 2)
        self.restored: dict[str, Any] | None = None  # from a checkpoint

    def of(self, keys: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return log pi_0(a+ | x) and log pi_0(a- | x) of some pairs.

        Raises:
            KeyError: A pair was not there when the reference was prepared.
        """
        rows = self.values[[self.places[key] for key in keys]].to(device)
        return rows[:, 0], rows[:, 1]

    def prepare(self, module: Any) -> None:
        """Take the reference from the checkpoint or the cache, or compute it.

        Args:
            module: A built module with `log_probs(batch)`, attached to a trainer whose data module
                gives the pairs.

        Raises:
            InputError: There is no data module, or a resumed run has other pairs.
        """
        data = module.trainer.datamodule
        if data is None:
            raise InputError("model.objective: dpo needs a data module, to know its pairs")
        pairs: list[Pair] = data.examples("train", module.encoder())
        self.places = {pair.key: i for i, pair in enumerate(pairs)}
        if len(self.places) < len(pairs):
            raise InputError("data: two training records have the same id, so their pairs mix")
        names = digest(list(self.places))
        if self.restored is not None:
            if self.restored["names"] != names:
                raise InputError("ckpt_path: made with other training pairs; use init_from instead")
            self.values = self.restored["values"].cpu()
            return
        trainer = module.trainer
        path = None if _sharded(trainer) else _path(module, pairs)
        values: Tensor | None = None
        if path is not None and trainer.is_global_zero and path.is_file():
            values = load_file(path)["values"]
        values = trainer.strategy.broadcast(values)
        if values is None:
            log.warning("log-probabilities of the reference for %d pairs (once)", len(pairs))
            values = _compute(module, pairs)
            if path is not None and trainer.is_global_zero:
                with whole_file(path) as scratch:
                    save_file({"values": values}, scratch)
        self.values = values

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"names": digest(list(self.places)), "values": self.values}


@evaluating
def _compute(module: Any, pairs: Sequence[Pair]) -> Tensor:
    """Return the values of all pairs, `(n, 2)`; the processes share the work."""
    trainer, encoder = module.trainer, module.encoder()
    groups = list(chunks(range(len(pairs)), [len(pair) for pair in pairs], BUDGET, padded=False))
    mine = groups[trainer.global_rank :: trainer.world_size] or groups[:1]
    computed: list[tuple[list[int], Tensor]] = []
    total, hidden = sum(map(len, mine)), not trainer.is_global_zero
    with tqdm(total=total, unit="pair", desc="reference", disable=hidden) as bar:
        for group, real in in_step(mine, module.everyone_done):
            batch = encoder.collate([pairs[i] for i in group], {}).to(module.device)
            with trainer.precision_plugin.forward_context():
                values = torch.stack(module.log_probs(batch), 1).float().cpu()
            if real:
                computed.append((group, values))
                bar.update(len(group))
    table = torch.empty(len(pairs), 2)
    for part in parallel.gathered(computed):
        for group, values in part:
            table[group] = values
    return table


def _sharded(trainer: Any) -> bool:
    """Say whether no process has the whole weights, which a name of the cache would need."""
    return isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy)


def _path(module: Any, pairs: Sequence[Pair]) -> Path:
    """Return the cache file, named by everything that the values depend on."""
    contents = hashlib.sha256(repr(module.encoder().option_ids).encode())
    for pair in pairs:
        contents.update(repr((pair.key, pair.relevant, len(pair.head))).encode())
        contents.update(array("q", (*pair.head, *pair.tail)).tobytes())
    weights = weights_digest(module.state_dict().items())
    name = digest([weights, str(module.trainer.precision), contents.hexdigest()])
    return root() / f"reference-{name}.safetensors"

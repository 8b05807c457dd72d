"""Exact resuming: random state, and checkpoints that are taken inside an optimiser step.

Such a checkpoint (validation between two micro-batches of a step, an interval in time, an
exception) would lack the gradients so far. It is written as if it had been taken where the step
began: place in the data, counters and random state are those of that moment, and so the whole step
is done again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.trainer.states import TrainerFn

from zoo import weights
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.module import ZooModule

PROGRESS = "epoch_loop.batch_progress"  # Lightning's counters of micro-batches
RandomState = dict[str, Any]


def random_state() -> RandomState:
    """Return the state of torch's random numbers: of the processor and of every card."""
    state: RandomState = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore what `random_state` returned; that of cards only where there are as many."""
    if "cpu" in state:
        torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def inside_a_step(loop: Mapping[str, Any], accumulate: int) -> bool:
    """Return whether the state of Lightning's fit loop lies between two micro-batches of a step.

    Args:
        loop: `checkpoint["loops"]["fit_loop"]`.
        accumulate: Micro-batches of a step.
    """
    progress = loop[PROGRESS]
    now = progress["current"]
    if now["processed"] != now["ready"]:  # in a micro-batch
        return True
    return now["ready"] % accumulate > 0 and not progress["is_last_batch"]


def rewind(checkpoint: dict[str, Any], accumulate: int, start: RandomState) -> None:
    """Move a checkpoint that was taken inside a step back to where the step began.

    Args:
        checkpoint: As Lightning writes it; changed in place. One whose loader has no place of its
            own (see `StepLoader.state_dict` and `MixtureLoader.state_dict`) stays as it is.
        accumulate: Micro-batches of a step.
        start: Random state at the beginning of the step.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop")
    loaders = (loop or {}).get("state_dict", {}).get("combined_loader", [])
    placed = ({"epoch", "position"}, {"step_start"})
    if not loaders or not all(any(keys <= one.keys() for keys in placed) for one in loaders):
        return
    if not inside_a_step(loop, accumulate):
        return
    now, total = loop[PROGRESS]["current"], loop[PROGRESS]["total"]
    first = now["processed"] // accumulate * accumulate
    earlier = total["processed"] - now["processed"]
    # The state that Lightning saves after the last micro-batch of the step before.
    loop[PROGRESS] = {
        "current": {**dict.fromkeys(now, first), "completed": first - 1},
        "total": {**dict.fromkeys(total, earlier + first), "completed": earlier + first - 1},
        "is_last_batch": False,
    }
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
    loop["state_dict"]["combined_loader"] = [
        loader["step_start"]
        if "step_start" in loader
        else {"epoch": loader["epoch"] - (loader["position"] == 0), "position": first}
        for loader in loaders
    ]
    checkpoint["rng"] = start


def complete(checkpoint: dict[str, Any], trainer: Any, start: RandomState | None) -> None:
    """Add the random state to a checkpoint; move it to the beginning of its optimiser step.

    Args:
        checkpoint: As Lightning writes it; changed in place.
        trainer: The trainer, if there is one.
        start: Random state at the beginning of the step.
    """
    checkpoint["rng"] = random_state()
    if trainer is not None and start is not None:
        rewind(checkpoint, trainer.accumulate_grad_batches, start)


def accept(checkpoint: Mapping[str, Any], module: ZooModule, trainer: Any) -> None:
    """Restore the random state of a checkpoint that fits.

    Args:
        checkpoint: As Lightning reads it.
        module: What it is loaded into.
        trainer: The trainer, if there is one.

    Raises:
        InputError: It has other parameters; to go on with training: it lies inside an optimiser
            step or has no state of the optimiser.
    """
    source = "checkpoint" if trainer is None else trainer.ckpt_path
    if "state_dict" in checkpoint and module.built:  # a sharded one is loaded already
        weights.compare(module, weights.shapes(checkpoint["state_dict"]), source)
    if trainer is not None and trainer.state.fn == TrainerFn.FITTING:
        _check_place(checkpoint, trainer.accumulate_grad_batches, source)
    set_random_state(checkpoint.get("rng", {}))


def _check_place(checkpoint: Mapping[str, Any], accumulate: int, source: Any) -> None:
    from_weights = f"start from its weights with --init_from {source}"
    if "state_dict" in checkpoint and not checkpoint.get("optimizer_states"):
        raise InputError(f"{source}: holds no state of the optimiser; {from_weights}")
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop is not None and inside_a_step(loop, accumulate):
        raise InputError(
            f"{source}: taken inside an optimiser step of {accumulate} micro-batches, so it does "
            f"not resume exactly; take another one, or {from_weights}"
        )

"""Plain Hugging Face, the peer of most claims: its model, its trainer, its greedy decoding."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks.meters import Clock
from zoo.model_files import resolve
from zoo.nn.blocks import CACHE

States = Callable[[Tensor, Any], Tensor]


def hugging_face(name: str, device: str, dtype: torch.dtype = torch.float32) -> Any:
    """Return the model as the library loads it, in evaluation mode."""
    from transformers import AutoModelForCausalLM

    lm: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
        resolve(name), dtype=dtype, trust_remote_code=False
    )
    return lm.to(device).eval()


def trainer_settings(device: str, steps: int, rate: float) -> dict[str, Any]:
    """Return what every trainer of the peers is told: AdamW at one rate, and to keep nothing.

    Args:
        device: `cpu` or `cuda`.
        steps: Optimiser steps.
        rate: Learning rate.
    """
    return {
        "output_dir": tempfile.mkdtemp(),
        "max_steps": steps,
        "learning_rate": rate,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "max_grad_norm": 1.0,
        "use_cpu": device == "cpu",
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def step_marks(clock: Clock) -> Any:
    """Return a callback of a peer's trainer that marks the end of each optimiser step."""
    from transformers import TrainerCallback

    class Mark(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.mark()

    return Mark()


def without(token: int, project: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a projection that never picks a token."""

    def logits(states: Tensor) -> Tensor:
        projected = project(states)
        projected[:, token] = -torch.inf
        return projected

    return logits


class PlainDecoder:
    """Greedy decoding that prefills each text anew; the end-of-turn token is never picked.

    Args:
        lm: The model.
        k: Number of blocks below `state_at_k`.
        stop: The end-of-turn token.
    """

    def __init__(self, lm: Any, k: int, stop: int) -> None:
        self.lm, self.k, self.stop = lm, k, stop

    def state_at_k(self, ids: Tensor, cache: Any) -> Tensor:
        """Run all blocks; return the hidden states after k of them."""
        out = self.lm.model(ids, output_hidden_states=True, **{CACHE: cache})
        states: Tensor = out.hidden_states[self.k]
        return states

    def top(self, ids: Tensor, cache: Any) -> Tensor:
        """Run all blocks; return the last states."""
        states: Tensor = self.lm.model(ids, **{CACHE: cache}).last_hidden_state
        return states

    def decode(self, ids: list[int], states: States, head: Any, count: int) -> list[int]:
        """Return `count` tokens after `ids`, read by `head` from `states`."""
        cache, new = DynamicCache(), list[int]()
        step = torch.tensor([ids], device=self.lm.device)
        for _ in range(count):
            token = without(self.stop, head)(states(step, cache)[:, -1]).argmax(-1)
            new.append(int(token))
            step = token[:, None]
        return new

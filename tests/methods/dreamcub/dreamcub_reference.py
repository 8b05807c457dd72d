"""Independent transcriptions of the equations, and small states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.adapters import using
from zoo.methods.dreamcub.encoder import State
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions
from zoo.support.labels import ACTS

LORA = {"rank": 4, "alpha": 8.0}
TINY = {"max_length": 1500, "reserve": 200, "max_new_tokens": 4, "max_generated": 0}


def dialogue(number: int = 0) -> Dialogue:
    """Return a dialogue with every label of DailyDialog."""
    return Dialogue(
        (
            Turn(SEEKER, f"Who is there {number}?", strategy="question", emotion="fear"),
            Turn(SUPPORTER, "Me.", strategy="inform", emotion="no emotion"),
            Turn(SEEKER, "Oh, how nice!", strategy="inform", emotion="happiness"),
            Turn(SUPPORTER, "Come in.", strategy="directive", emotion="happiness"),
        ),
        id=f"d:{number}",
    )


def states_of(*numbers: int) -> list[State]:
    """Return the second state of some dialogues."""
    return [State(decisions(dialogue(i), ACTS)[1]) for i in numbers]


def module_of(make: Any, *, seed: int = 0, moved: float = 0.05, **options: Any) -> Any:
    """Return a tiny module whose adapters are away from their start."""
    torch.manual_seed(seed)
    options = {"dataset": "daily_dialog", "labels": "acts", "strategy_line": False, **options}
    module = make("DreamCUB", "tiny-llama", backbone={"lora": LORA}, **{**TINY, **options})
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_" in name or name.endswith("_head.weight") and "lm_head" not in name:
                parameter.add_(torch.randn_like(parameter) * moved)
    return module


def letter_logps(module: Any, prompt: list[int], path: Sequence[int]) -> list[Tensor]:
    """Return the log-probabilities of each factor's letters along a path, F tensors `(K,)`."""
    encoder = module.encoder()
    ids, places = encoder.chain(prompt, path)
    with using(module.lm, "world_model"):
        logits = module.lm(input_ids=torch.tensor([ids])).logits[0, places]
    counts = [len(factor.labels) for factor in module.factors]
    rows = zip(logits, counts, strict=True)
    return [row[encoder.letter_ids[:count]].log_softmax(-1) for row, count in rows]


def ppo_losses(
    logp: list[list[float]],
    old: list[list[float]],
    advantages: list[float],
    values: list[float],
    old_values: list[float],
    returns: list[float],
    eps: float,
) -> tuple[float, float]:
    """Return the PPO losses of policy and critic, written with loops from the equations."""
    policy = value = 0.0
    for new_row, old_row, a in zip(logp, old, advantages, strict=True):
        terms = []
        for x, y in zip(new_row, old_row, strict=True):
            rho = math.exp(x - y)
            terms.append(min(rho * a, min(max(rho, 1 - eps), 1 + eps) * a))
        policy -= sum(terms) / len(terms) / len(logp)
    for v, w, g in zip(values, old_values, returns, strict=True):
        near = w + min(max(v - w, -eps), eps)
        value += 0.5 * max((v - g) ** 2, (near - g) ** 2) / len(values)
    return policy, value

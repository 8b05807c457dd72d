"""The PPO losses of TRL's trainer on fixed tensors, for the test that compares ours with them.

    pip install --no-deps --target FOLDER trl==0.27.0      # 1.16 has no PPO
    PYTHONPATH=FOLDER:. python -m benchmarks.dreamcub.trl_ppo

The loss stands inside of the trainer's loop, so its own lines are read from TRL's file and run here
on `tensors`; nothing of TRL is imported. TRL takes the mean over all tokens, and has a value for
each of them; ours takes the mean over the tokens of a reply and then over replies, and has a value
for each reply. On replies of one length both are the same number.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

EPS = 0.2
FIRST, LAST = "vpredclipped = torch.clamp(", "loss = pg_loss + args.vf_coef * vf_loss"


def wave(count: int, step: float, height: float = 1.0) -> Tensor:
    """Return numbers that any machine can make again."""
    return height * torch.sin(step * torch.arange(1, count + 1, dtype=torch.float64))


def tensors(lengths: list[int]) -> dict[str, Tensor]:
    """Return log-probabilities of all tokens end to end, and numbers of each reply."""
    total, count = sum(lengths), len(lengths)
    logp = wave(total, 0.7) - 2
    return {
        "logp": logp,
        "old_logp": logp + wave(total, 1.9, 0.5),
        "advantages": wave(count, 2.3, 1.5),
        "values": wave(count, 1.1),
        "old_values": wave(count, 0.4, 0.8),
        "returns": wave(count, 2.9),
    }


def trl_lines() -> tuple[str, str]:
    """Return TRL's `masked_mean` and its lines from the clipped value to the loss."""
    spec = importlib.util.find_spec("trl")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("no trl: see the docstring")
    path = Path(spec.submodule_search_locations[0]) / "experimental" / "ppo" / "ppo_trainer.py"
    if not path.is_file():
        sys.exit(f"{path.parent.parent.parent}: this version of trl has no experimental/ppo")
    source = path.read_text("utf-8")
    parts = {
        node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)
    }
    mean = ast.get_source_segment(source, parts["masked_mean"]) or ""
    lines = source.splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip() == FIRST)
    last = next(i for i, line in enumerate(lines) if line.strip() == LAST)
    return mean, textwrap.dedent("\n".join(lines[first : last + 1]))


def trl_losses(lengths: list[int]) -> dict[str, float]:
    """Return what TRL's lines make of `tensors`, padded to the longest reply."""
    given, longest = tensors(lengths), max(lengths)
    padding = torch.tensor([[j >= n for j in range(longest)] for n in lengths])

    def padded(values: Tensor) -> Tensor:
        return torch.zeros(padding.shape, dtype=values.dtype).masked_scatter(~padding, values)

    def spread(values: Tensor) -> Tensor:
        return values[:, None].expand(padding.shape)

    mean, body = trl_lines()
    names: dict[str, Any] = {
        "torch": torch,
        "args": SimpleNamespace(cliprange=EPS, cliprange_value=EPS, vf_coef=1.0),
        "micro_batch_inds": slice(None),
        "padding_mask": padding,
        "padding_mask_p1": padding,
        "new_logprobs": padded(given["logp"]),
        "mb_logprobs": padded(given["old_logp"]),
        "mb_advantage": spread(given["advantages"]),
        "vpred": spread(given["values"]),
        "mb_values": spread(given["old_values"]),
        "mb_return": spread(given["returns"]),
    }
    exec(mean, names)
    exec(body, names)
    return {"policy": float(names["pg_loss"]), "value": float(names["vf_loss"])}


if __name__ == "__main__":
    print(json.dumps({str(lengths): trl_losses(lengths) for lengths in ([4, 4, 4], [3, 1, 4])}))

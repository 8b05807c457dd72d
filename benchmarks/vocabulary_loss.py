"""The cross-entropy of a vocabulary head at few tokens, forward and backward, without a model.

Small batches are where losses that save memory lose time: their chunks become small matrix
products. Random states and a random head of Qwen2.5-0.5B's shape (896 x 151,936), every token
supervised, both with gradients, bf16 autocast over float32 weights.

- `full`, the first peer: all logits in float32, `F.cross_entropy`, as Hugging Face does.
- `trl`: the chunked function of TRL's trainers (1.15 or newer), with its own chunk sizes: ours in
  at most 0.9x its time.

Loss and gradients agree in float32 before anything is timed. Memory is above states and head; the
gradients of both, which every side has to write, are part of it. The result's own ratios are those
of the most tokens; the details hold the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.exactness import farthest, gradients, require_equal
from benchmarks.harness import Sample, Setting, interleave, measure
from benchmarks.meters import time_steps
from benchmarks.result import Peer, Result, agree, compare, versus
from zoo.losses.cross_entropy import linear_cross_entropy

CLAIM = "vocabulary loss of 1,000 to 4,000 tokens: as fast as full logits, in half their memory"
NAME = "vocabulary_loss"
WIDTH, VOCABULARY = 896, 151_936
TOKENS = (1024, 2048, 4096)
QUICK = (512, 1024)
STEPS, WARM_UP = 4, 1
TOLERANCE = 1e-5  # float32, relative
SAME_LOSS = {"loss": 1e-2}  # of sums of products in bfloat16

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""States `(N, D)`, head `(V, D)`, labels `(N,)` -> the sum of the losses."""


class Head(nn.Module):
    """States and head as parameters, which start the same on every side."""

    def __init__(self, tokens: int, vocabulary: int, device: str) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.states = nn.Parameter(torch.randn(tokens, WIDTH, generator=draw).to(device))
        weight = torch.randn(vocabulary, WIDTH, generator=draw).div_(WIDTH**0.5)
        self.weight = nn.Parameter(weight.to(device))
        self.labels = torch.randint(vocabulary, (tokens,), generator=draw).to(device)


def full(states: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Return the loss with all logits in float32."""
    return F.cross_entropy(F.linear(states, weight).float(), labels, reduction="sum")


def chunked_by_trl(states: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Return the loss with the function that TRL's trainers call."""
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    size = _CHUNKED_LOGPROB_CHUNK_SIZE
    found = ChunkedLogProbFunction.apply(states, weight, None, labels, 1.0, size, None, 1.0, ())
    loss: Tensor = -found[0].sum()
    return loss


LOSSES: dict[str, Loss] = {"ours": linear_cross_entropy, "full": full, "trl": chunked_by_trl}


def exact(setting: Setting, *, vocabulary: int = 5000, tokens: int = 300) -> Sample:
    """Compare losses and gradients in float32 with those of full logits, in one process."""
    found: dict[str, dict[str, Tensor]] = {}
    in_chunks = partial(linear_cross_entropy, budget=vocabulary * tokens)  # of a quarter each
    compared = {side: LOSSES[side] for side in sides()} | {"ours in chunks": in_chunks}
    for side, loss_of in compared.items():
        head = Head(tokens, vocabulary, setting.device)
        loss = loss_of(head.states, head.weight, head.labels)
        loss.backward()
        found[side] = {"loss": loss.detach(), **gradients(head)}
    others = {side: farthest(found[side], found["full"]) for side in found if side != "full"}
    return Sample([], checks=others)


def timed(loss: Loss, setting: Setting, *, tokens: int) -> Sample:
    """Time the loss of some tokens and its backward."""
    head = Head(tokens, VOCABULARY, setting.device)

    def step(_: int) -> float:
        with torch.autocast(setting.device, torch.bfloat16):
            value = loss(head.states, head.weight, head.labels)
        value.backward()
        head.zero_grad(set_to_none=True)
        return float(value.detach())

    steps = range(STEPS + WARM_UP)
    values, measured = time_steps(step, steps, head, setting.device)
    work = {"tokens": [float(tokens)] * STEPS}
    return Sample(**measured, work=work, checks={"loss": values[-1]})


SIDES: dict[str, Callable[..., Sample]] = {"exact": exact}
SIDES |= {side: partial(timed, loss) for side, loss in LOSSES.items()}


def sides() -> list[str]:
    """Return the sides that can run: TRL where it is installed."""
    return [side for side in LOSSES if side != "trl" or find_spec("trl")]


def run(setting: Setting) -> Result:
    """Compare losses and gradients in float32, then time all sides at each number of tokens."""
    same = measure(NAME, "exact", setting)
    require_equal(same.checks, TOLERANCE)
    sizes, repeats = (QUICK, 1) if setting.quick else (TOKENS, 2)
    checks: dict[str, Any] = {"fp32": {**same.checks, "tolerance": TOLERANCE}}
    by_tokens: dict[str, Any] = {}
    peers = [Peer("all logits in float32", "full", target=1.0, memory_target=0.5)]
    if "trl" in sides():
        peers.append(Peer("TRL's chunked function", "trl", target=1 / 0.9))
    for tokens in sizes:
        samples = interleave(NAME, dict.fromkeys(sides(), {"tokens": tokens}), setting, repeats)
        mine = samples["ours"][0]
        checks[f"{tokens} tokens"] = {
            side: agree(mine, samples[side][0], SAME_LOSS) for side in sides() if side != "ours"
        }
        by_tokens[str(tokens)] = {peer.label: versus(samples, peer) for peer in peers}
    return compare(NAME, CLAIM, peers, samples, checks, by_tokens=by_tokens)

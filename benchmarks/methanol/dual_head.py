"""The dual-head training step of MeTHanol: forward, both losses, backward.

The thinking head reads block K/2, the speaking head block K; ESConv dialogues with a thought before
every supporter turn, SmolLM2-135M, bf16 autocast over fp32 weights, no optimiser step.

- `naive`, the first peer: Hugging Face forward with all hidden states, padded batch, both heads
  over all tokens, logits in fp32, `F.cross_entropy` with `ignore_index`.
- `one_head`: zoo's SFT that learns the same thoughts and answers at the final head. A second head
  is to cost nothing, because a token is projected by the head that learns it and by no other.

Losses and every gradient of ours equal the naive ones in fp32 before anything is timed.

Bounds count matrix products and, for the naive side, the bytes that its logits move at least
(cast, log-softmax, its gradient, cast back), at the rates measured in the same run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.exactness import distance, farthest, fingerprint, gradients, require_equal
from benchmarks.harness import Sample, Setting, interleave, measure
from benchmarks.meters import time_steps
from benchmarks.peers import hugging_face
from benchmarks.result import Peer, Result, agree, compare, summarise
from benchmarks.roofline import Rates, Shape, rates
from benchmarks.workload import BACKBONE, dialogues, thought_batches
from zoo.backbone import Backbone
from zoo.encoding import IGNORE, Batch, Example, collate
from zoo.losses.cross_entropy import total_loss
from zoo.methods.methanol.module import SPEAK, THINK, MeTHanol
from zoo.methods.sft.module import SFT

CLAIM = "dual-head step: time of a one-head step (<= 1.1x), >= 1.25x as fast as two full heads"
NAME = "dual_head"
WARM_UP = 1
NAIVE_BYTES_PER_LOGIT = 28  # fp32 copy 6, log-softmax 8, its gradient 8, cast back 6
OUR_BYTES_PER_LOGIT = 4  # read once, overwritten by the gradient
TOLERANCE = 1e-4
TOLERANCES = {"data": 0.0, "think_loss": 1e-2, "speak_loss": 1e-2}


class Naive:
    """Hugging Face model with a second head, as one writes it first."""

    def __init__(self, setting: Setting) -> None:
        self.lm = hugging_face(BACKBONE, setting.device).train()
        self.thinking_head = copy.deepcopy(self.lm.lm_head)
        self.k = len(self.lm.model.layers) // 2

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the mean loss of each head."""
        out = self.lm(
            batch.input_ids,
            attention_mask=batch.attention_mask,
            output_hidden_states=True,
            use_cache=False,
        )
        heads = {THINK: self.thinking_head(out.hidden_states[self.k]), SPEAK: out.logits}
        return {
            name: F.cross_entropy(
                heads[head].float().flatten(0, 1),
                batch.labels.where(batch.head_ids == head, IGNORE).flatten(),
                ignore_index=IGNORE,
            )
            for name, head in (("think", THINK), ("speak", SPEAK))
        }

    def named_gradients(self) -> dict[str, torch.Tensor]:
        """Return gradients under the names that the zoo module gives them."""
        named = {f"lm.{name}": p.grad for name, p in self.lm.named_parameters()}
        named["thinking_head.weight"] = self.thinking_head.weight.grad
        return {name: grad for name, grad in named.items() if grad is not None}


def exact(setting: Setting, *, window: int = 256) -> Sample:
    """Compare losses and gradients with the naive ones in fp32, in one process."""
    module = _module(MeTHanol, setting, max_length=window)
    (examples,) = thought_batches(module.encoder(), steps=1)
    naive = Naive(setting)
    terms = module.losses(collate(examples).to(setting.device))
    total_loss(terms).backward()
    naive_losses = naive.losses(collate(examples, packed=False).to(setting.device))
    sum(naive_losses.values(), torch.zeros(())).backward()
    checks = {
        f"{name}_loss": distance(terms[name].loss, naive_losses[name]) for name in naive_losses
    }
    mine = gradients(module)
    checks["gradients"] = farthest(mine, naive.named_gradients())
    return Sample([], checks=checks, notes={"parameters": len(mine)})


def naive(setting: Setting, *, steps: int, window: int) -> Sample:
    """Time the naive losses and backward on padded batches."""
    peer = Naive(setting)
    encoder = _module(MeTHanol, None, max_length=window).encoder()
    modules = torch.nn.ModuleList([peer.lm, peer.thinking_head])
    batches = thought_batches(encoder, steps=steps + WARM_UP)
    return _time(peer.losses, modules, batches, setting, packed=False)


def _module(kind: Any, setting: Setting | None, **options: Any) -> Any:
    module = kind(Backbone(BACKBONE), **options)
    if setting is not None:
        module.configure_model()
        module.to(setting.device)
    return module


def timed(kind: Any, setting: Setting, *, steps: int, window: int, **options: Any) -> Sample:
    """Time `losses` of a method of the zoo and backward on packed batches."""
    module = _module(kind, setting, max_length=window, **options)
    batches = thought_batches(module.encoder(), steps=steps + WARM_UP)
    shape = asdict(Shape.of(module.lm))

    def losses(batch: Batch) -> dict[str, torch.Tensor]:
        return {name: term.loss for name, term in module.losses(batch).items()}

    return _time(losses, module, batches, setting, packed=True, shape=shape)


def _time(
    losses: Any,
    model: torch.nn.Module,
    batches: Sequence[Sequence[Example]],
    setting: Setting,
    *,
    packed: bool,
    **notes: Any,
) -> Sample:
    def step(examples: Sequence[Example]) -> dict[str, float]:
        batch = collate(examples, packed=packed).to(setting.device)
        with torch.autocast(setting.device, torch.bfloat16):
            terms = losses(batch)
            loss = sum(terms.values(), torch.zeros((), device=setting.device))
        loss.backward()
        model.zero_grad(set_to_none=True)
        return {name: float(value.detach()) for name, value in terms.items()}

    values, measured = time_steps(step, batches, model, setting.device)
    timed = batches[WARM_UP:]
    ids = [[(e.input_ids, e.labels) for e in batch] for batch in batches]
    tokens = [sum(map(len, batch)) for batch in timed]
    padded = [len(batch) * max(map(len, batch)) for batch in timed]
    return Sample(
        **measured,
        work={
            "tokens": [float(count) for count in tokens],
            "supervised": [sum(sum(e.weights) for e in batch) for batch in timed],
        },
        checks={
            "data": fingerprint(ids),
            **{f"{name}_loss": value for name, value in values[-1].items()},
        },
        notes={"data": dialogues()[1], "rows": tokens if packed else padded, **notes},
    )


def bound(mine: Sample, other: Sample, found: Rates) -> dict[str, float]:
    """Return the ratio of FLOPs, and that of least times with the traffic of the logits."""
    shape = Shape(**mine.notes["shape"])
    body, rows = 6.0 * shape.block * shape.blocks, sum(other.notes["rows"])
    supervised = sum(mine.work["supervised"])
    flops = (
        body * sum(mine.work["tokens"]) + 6 * shape.head * supervised,
        (body + 2 * 6 * shape.head) * rows,
    )
    moved = (
        OUR_BYTES_PER_LOGIT * shape.vocabulary * supervised,
        2 * NAIVE_BYTES_PER_LOGIT * shape.vocabulary * rows,
    )
    least = [found.seconds(f, b) for f, b in zip(flops, moved, strict=True)]
    return {"flop_ratio": flops[1] / flops[0], "bound": least[1] / least[0]}


SIDES: dict[str, Callable[..., Sample]] = {
    "exact": exact,
    "ours": partial(timed, MeTHanol),
    "one_head": partial(timed, SFT, learn_thought=True),  # learns the thoughts too
    "naive": naive,
    "rates": rates,
}


def run(setting: Setting) -> Result:
    """Compare losses and gradients in fp32, then time the three sides in turn."""
    same = measure(NAME, "exact", setting)
    require_equal(same.checks, TOLERANCE)
    checks: dict[str, Any] = {"fp32": {**same.checks, "tolerance": TOLERANCE}}
    steps, repeats = (3, 2) if setting.quick else (6, 3)
    options = {"steps": steps, "window": 768 if setting.quick else 1024}
    sides = dict.fromkeys(("ours", "one_head", "naive"), options)
    samples = interleave(NAME, sides, setting, repeats)
    mine, naive_side = samples["ours"][0], samples["naive"][0]
    checks["bf16-mixed"] = agree(mine, naive_side, TOLERANCES)
    checks["one head"] = agree(mine, samples["one_head"][0], {"data": 0.0})
    machine = Rates(**measure(NAME, "rates", setting, precision="bfloat16").notes)
    limits = bound(mine, naive_side, machine)
    plain = "Hugging Face forward, two full heads, fp32 logits, padded"
    sft = "one-head SFT of zoo, same tokens and labels"
    peers = [
        Peer(plain, "naive", target=1.25, bound=limits["bound"]),
        Peer(sft, "one_head", target=1 / 1.1, bound=1.0),
    ]
    details = {
        "flop_ratio_naive": limits["flop_ratio"],
        "one_head": summarise(samples["one_head"]),
    }
    return compare(NAME, CLAIM, peers, samples, checks, **details)

"""HdLM's training step on coarse labels alone at block K/2: forward, loss, backward.

Texts of 400 tokens with a coarse answer of 2, the released WoS setting's proportions; SmolLM2-135M;
float32 on a CPU, bfloat16 autocast on CUDA; no optimiser step.

- `ours`: `HdLM` with `layers: [K/2]`. A batch that teaches the coarse head only ends at its block.
- `full`, the first peer: the same step with `layers: [K]`: the same tokens and labels, learned at
  the last block by the final head.
- `hidden_states`: Hugging Face forward with all hidden states, the coarse head on entry K/2, as the
  released code has it. Its backward pass ends at block K/2 too, its forward pass does not.

Loss and every gradient of ours equal those of `hidden_states` in fp32 before anything is timed.

Bounds count matrix products: 2 FLOPs per parameter and token forward, 4 backward.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.exactness import distance, farthest, fingerprint, gradients, require_equal
from benchmarks.harness import Sample, Setting, interleave, measure
from benchmarks.meters import time_steps
from benchmarks.peers import hugging_face
from benchmarks.result import Peer, Result, agree, compare, summarise
from benchmarks.roofline import Shape
from benchmarks.workload import BACKBONE, dialogues, shuffled, token_ids
from zoo.backbone import Backbone, read_config, resolve
from zoo.encoding import NO_HEAD, Batch, Example, collate, join
from zoo.losses.cross_entropy import total_loss
from zoo.methods.hdlm.module import HdLM
from zoo.prompts.chat_format import chat_format

CLAIM = "coarse-only step at k = K/2: <= 0.6x the time of the step at full depth"
NAME = "coarse_step"
TEXTS, QUERY = 4, 400  # texts of a step, tokens of each; the answer has 2 more
WARM_UP = 1
TOLERANCE = 1e-4
COARSE = 0


class HiddenStates:
    """Hugging Face model with a coarse head on entry K/2 of the hidden states."""

    def __init__(self, setting: Setting) -> None:
        self.lm = hugging_face(BACKBONE, setting.device).train()
        self.head = copy.deepcopy(self.lm.lm_head)
        self.k = len(self.lm.model.layers) // 2
        self.model = torch.nn.ModuleList([self.lm, self.head])

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of the coarse head; rows are gathered as ours are."""
        out = self.lm.model(batch.input_ids, output_hidden_states=True, use_cache=False)
        rows = batch.head_ids.flatten() == COARSE
        logits = self.head(out.hidden_states[self.k].flatten(0, 1)[rows])
        return F.cross_entropy(logits.float(), batch.labels.flatten()[rows])

    def named_gradients(self) -> dict[str, Tensor]:
        """Return gradients under the names that the zoo module gives them."""
        named = {f"lm.{name}": p.grad for name, p in self.lm.named_parameters()}
        named["heads.0.weight"] = self.head.weight.grad
        return {name: grad for name, grad in named.items() if grad is not None}


def batches(tokenizer: Any, steps: int) -> list[list[Example]]:
    """Return batches of texts of `QUERY` tokens, each with a class number and its end-of-turn."""
    chat = chat_format(tokenizer)
    ids = partial(token_ids, tokenizer)
    opening, header = ids(chat.open("user", first=True)), ids(chat.end + chat.open("thought"))
    examples: list[Example] = []
    for record in shuffled(dialogues()[0]):
        words = ids("\n".join(turn.text for turn in record.turns))[: QUERY - len(opening + header)]
        if len(opening + words + header) == QUERY and len(examples) < steps * TEXTS:
            answer = ids(str(len(examples) % 7) + chat.end)
            pieces = [([*opening, *words, *header], NO_HEAD, 0.0), (answer, COARSE, 1.0)]
            examples.append(join(pieces))
    return [examples[i : i + TEXTS] for i in range(0, len(examples), TEXTS)]


def build(setting: Setting, way: str) -> HdLM:
    """Return the module of ours or of the full step, in training mode."""
    blocks = read_config(BACKBONE).num_hidden_layers
    module = HdLM(Backbone(BACKBONE), layers=[blocks // 2 if way == "ours" else blocks])
    module.configure_model()
    module.to(setting.device).train()
    return module


def exact(setting: Setting) -> Sample:
    """Compare loss and gradients with those through all hidden states in fp32, in one process."""
    module, naive = build(setting, "ours"), HiddenStates(setting)
    (examples,) = batches(module.tokenizer, 1)
    loss = total_loss(module.losses(collate(examples).to(setting.device)))
    loss.backward()
    other = naive.loss(collate(examples, packed=False).to(setting.device))
    other.backward()
    gap = farthest(gradients(module), naive.named_gradients())
    return Sample([], checks={"loss": distance(loss, other), "gradients": gap})


def ours(setting: Setting, *, steps: int, way: str) -> Sample:
    """Time `HdLM.losses` and backward, the coarse level at block K/2 (`ours`) or K (`full`)."""
    module = build(setting, way)
    examples = batches(module.tokenizer, steps + WARM_UP)
    return _time(
        lambda batch: total_loss(module.losses(batch)), module, examples, setting, packed=True
    )


def hidden_states(setting: Setting, *, steps: int) -> Sample:
    """Time the coarse loss on one of all hidden states; texts of one length need no padding."""
    from transformers import AutoTokenizer

    peer = HiddenStates(setting)
    tokenizer = AutoTokenizer.from_pretrained(resolve(BACKBONE), trust_remote_code=False)
    examples = batches(tokenizer, steps + WARM_UP)
    return _time(peer.loss, peer.model, examples, setting, packed=False)


def _time(
    loss_of: Callable[[Batch], Tensor],
    model: Any,
    examples: list[list[Example]],
    setting: Setting,
    *,
    packed: bool,
) -> Sample:
    def step(part: list[Example]) -> float:
        batch = collate(part, packed=packed).to(setting.device)
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.device == "cuda"):
            loss = loss_of(batch)
        loss.backward()
        model.zero_grad(set_to_none=True)
        return float(loss.detach())

    losses, measured = time_steps(step, examples, model, setting.device)
    timed = examples[WARM_UP:]
    lm = model.lm if isinstance(model, HdLM) else model[0]
    return Sample(
        **measured,
        work={
            "tokens": [float(sum(map(len, part))) for part in timed],
            "supervised": [sum(sum(e.weights) for e in part) for part in timed],
        },
        checks={
            "data": fingerprint([[e.input_ids for e in part] for part in examples]),
            "loss": losses[-1],
        },
        notes={"data": dialogues()[1], "shape": asdict(Shape.of(lm))},
    )


def flops(sample: Sample) -> dict[str, float]:
    """Return the FLOPs of matrix products in the timed steps of each side."""
    shape = Shape(**sample.notes["shape"])
    tokens, rows = sum(sample.work["tokens"]), sum(sample.work["supervised"])
    heads, block, half = 6.0 * shape.head * rows, shape.block * tokens, shape.blocks // 2
    return {
        "ours": heads + 6 * block * half,
        "full": heads + 6 * block * shape.blocks,
        "hidden_states": heads + block * (2 * shape.blocks + 4 * half),
    }


SIDES: dict[str, Callable[..., Sample]] = {
    "exact": exact,
    "ours": partial(ours, way="ours"),
    "full": partial(ours, way="full"),
    "hidden_states": hidden_states,
}
PEERS = {
    "full": "the same step of HdLM with the coarse level at block K",
    "hidden_states": "Hugging Face, all hidden states, coarse head on entry K/2",
}


def run(setting: Setting) -> Result:
    """Compare loss and gradients in fp32, then time the three sides in turn."""
    same = measure(NAME, "exact", setting)
    require_equal(same.checks, TOLERANCE)
    steps, repeats = (2, 2) if setting.quick else (6, 3)
    sides = dict.fromkeys(("ours", "full", "hidden_states"), {"steps": steps})
    samples = interleave(NAME, sides, setting, repeats)
    mine, data = samples["ours"][0], {"data": 0.0}
    precise = {**data, "loss": 1e-2 if setting.device == "cuda" else 1e-4}
    checks = {
        "fp32": {**same.checks, "tolerance": TOLERANCE},
        "full": agree(mine, samples["full"][0], data),
        "hidden_states": agree(mine, samples["hidden_states"][0], precise),
    }
    work = flops(mine)
    limits = {side: work[side] / work["ours"] for side in work}
    peers = [
        Peer(PEERS["full"], "full", target=1 / 0.6, bound=limits["full"]),
        Peer(PEERS["hidden_states"], "hidden_states", bound=limits["hidden_states"]),
    ]
    details = {"hidden_states": summarise(samples["hidden_states"]), "design_target": 1 / 0.55}
    return compare(NAME, CLAIM, peers, samples, checks, **details)

"""A training step of M3-JEPA with frozen lower blocks: no graph for them, or no run at all.

Text tower SmolLM2-135M, 30 blocks; vision tower a random ViT of DeiT-Ti's size, 12 blocks; adapters
on the last 3 of each. 16 pairs: 64 text tokens (no padding), pictures of 224 x 224 in 197 tokens.
The predictor is small (width 256, 4 experts, 2 per token), so that the towers dominate. float32,
dropout off, directions in turn, no optimiser step.

- `ours`: the default. Lower blocks run without a graph.
- `tracked`, the first peer: the embedding's output requires a gradient, as PEFT's
  `enable_input_require_grads` has it; every block keeps its activations and is run backwards.
- `cached`: ours with `Tower.cache_gib`, once the states that enter the upper blocks are kept. It is
  compared with `ours`, not with `tracked`.

Loss and every gradient (adapters, predictor) of the three are equal before anything is timed.

Bounds count the FLOPs of the blocks, frozen weights having no gradient of their own: 1 forward, 1
backward of linear maps, 2.5 of attention, which is computed again there. Embedding, norms,
predictor and losses are left out; they are the same work in the three or shrink with the blocks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.exactness import farthest, fingerprint, gradients, require_equal
from benchmarks.harness import Sample, Setting, interleave, measure
from benchmarks.meters import time_steps
from benchmarks.result import Peer, Result, agree, compare, summarise
from benchmarks.workload import BACKBONE, dialogues, shuffled
from zoo.losses.cross_entropy import total_loss
from zoo.methods.m3_jepa.encoder import PairBatch
from zoo.methods.m3_jepa.evaluation import reads
from zoo.methods.m3_jepa.module import M3JEPA
from zoo.methods.m3_jepa.towers import Tower

CLAIM = "M3-JEPA step: <= 0.65x of one that tracks the frozen blocks; cached, >= 2x as fast again"
NAME = "frozen_lower"
PAIRS, TEXT_TOKENS = 16, 64
PREDICTOR: dict[str, Any] = {"hidden": 256, "num_experts": 4, "top_k": 2, "dropout": 0.0}
VISION: dict[str, Any] = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3}
TRACKED = "the same step with every frozen block tracked by autograd"
DEFAULT = "our own default step; measured here: kept states of the lower blocks"
WAYS = ("ours", "tracked", "cached")
ATTENTION_BACKWARD = 2.5  # of the forward: scores again, then four products for two
WARM_UP = 1
TOLERANCE = 1e-5
TOLERANCES = {"data": 0.0, "losses": 1e-4, "adapters": 1e-4, "predictor": 1e-4}


def write_vision(folder: str) -> None:
    """Write the random vision tower."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(**VISION, intermediate_size=4 * VISION["hidden_size"])
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)


def build(setting: Setting, text: str, image: str) -> M3JEPA:
    """Return the module in training mode, with room for all that can be kept."""
    torch.manual_seed(0)
    towers: dict[str, Any] = {
        modality: Tower(name, dropout=0.0, cache_gib=1.0)
        for modality, name in (("text", text), ("image", image))
    }
    module = M3JEPA(**towers, **PREDICTOR, max_text_tokens=TEXT_TOKENS)
    module.configure_model()
    return module.to(setting.device).train()


def pairs(module: M3JEPA, count: int) -> list[PairBatch]:
    """Return batches of dialogues, cut to the same length each, with random pictures."""
    torch.manual_seed(1)
    size = _towers(module)["image"].model.config.image_size
    records = shuffled(dialogues()[0])[: count * PAIRS]
    texts = ["\n".join(turn.text for turn in record.turns) for record in records]
    batches = []
    for start in range(0, len(texts), PAIRS):
        part = texts[start : start + PAIRS]
        names = [str(start + i) for i in range(len(part))]
        words, pixels = module.encoder().text_inputs(part), torch.randn(len(part), 3, size, size)
        inputs = {"text": words, "image": {"pixel_values": pixels}}
        batches.append(PairBatch(inputs, {"text": part, "image": names}, names))
    return batches


def choose(module: M3JEPA, way: str) -> None:
    """Let the module go one of the three ways from now on."""
    for tower in _towers(module).values():
        if way != "cached":
            tower.cache_bytes = 0
        if way == "tracked":  # the weights stay frozen, in evaluation mode and without a gradient
            tower.frozen = False
            tower.model.get_input_embeddings().register_forward_hook(
                lambda _, __, out: out.requires_grad_()
            )


def step(module: M3JEPA, batch: PairBatch, index: int) -> Tensor:
    """Return the loss of a step, with a gradient for all that is trained."""
    direction = module.directions[index % len(module.directions)]
    tokens = {part: module.encode(batch, part) for part in sorted(set(reads(direction)))}
    weights = {"regression": module.alpha, "contrastive": 1 - module.alpha}
    loss = total_loss(module.losses(module(tokens, direction)), weights)
    loss.backward()
    return loss.detach()


def learned(module: M3JEPA) -> dict[str, Tensor]:
    """Return the gradients and forget them."""
    named = gradients(module)
    module.zero_grad(set_to_none=True)
    return named


def exact(setting: Setting, *, text: str, image: str) -> Sample:
    """Compare losses and gradients of the three ways in one process, a step per direction."""
    module = build(setting, text, image)
    (batch,) = (batch.to(setting.device) for batch in pairs(module, 1))
    step_tensors: dict[str, list[dict[str, Tensor]]] = {}
    module.encode(batch, "image")  # one of the two is kept before, the other in the first step
    for way in ("cached", "ours", "tracked"):
        choose(module, way)
        step_tensors[way] = [
            {"loss": step(module, batch, index), **learned(module)}
            for index in range(len(module.directions))
        ]
    checks = {
        way: _farthest(step_tensors["ours"], step_tensors[way]) for way in ("tracked", "cached")
    }
    return Sample(
        [], checks=checks, notes={"gradients": [len(each) - 1 for each in step_tensors["ours"]]}
    )


def timed(setting: Setting, *, way: str, text: str, image: str, steps: int) -> Sample:
    """Time steps of one way; where states are kept, a first pass that keeps them is not timed."""
    module = build(setting, text, image)
    batches = [batch.to(setting.device) for batch in pairs(module, steps + WARM_UP)]
    choose(module, way)
    if way == "cached":
        with torch.no_grad():
            for batch in batches:
                [module.encode(batch, modality) for modality in batch.inputs]
    sums = {"losses": 0.0, "adapters": 0.0, "predictor": 0.0}  # gradients: of their norms

    def add(index: int) -> None:
        sums["losses"] += float(step(module, batches[index], index))
        for name, gradient in learned(module).items():
            part = "predictor" if name.startswith("predictor") else "adapters"
            sums[part] += float(gradient.norm())

    _, measured = time_steps(add, range(len(batches)), module, setting.device)
    ids = [batch.inputs["text"]["input_ids"].tolist() for batch in batches]
    return Sample(
        **measured,
        work={"pairs": [float(PAIRS)] * steps},
        checks={"data": fingerprint(ids), **sums},
        notes={
            "data": dialogues()[1],
            "text_tokens": len(ids[0][0]),
            "cache_bytes": sum(tower.cached_bytes for tower in _towers(module).values()),
            "flops": flops(module, batches[0]),
        },
    )


def flops(module: M3JEPA, batch: PairBatch) -> dict[str, float]:
    """Return the FLOPs of the blocks in a step of each way."""
    total = dict.fromkeys(WAYS, 0.0)
    for modality, tower in _towers(module).items():
        config, count = tower.model.config, len(tower.blocks)
        if modality == "text":
            length = batch.inputs["text"]["input_ids"].shape[1]
        else:
            length = (config.image_size // config.patch_size) ** 2 + 1
        maps = 2 * sum(p.numel() for p in tower.blocks[0].parameters() if p.ndim > 1)
        scores = 4 * length * config.hidden_size
        upper = count - tower.cut
        runs = {"ours": (count, upper), "tracked": (count, count), "cached": (upper, upper)}
        for way, (forward, backward) in runs.items():
            each = maps * (forward + backward) + scores * (forward + ATTENTION_BACKWARD * backward)
            total[way] += len(batch) * length * each
    return total


def _towers(module: M3JEPA) -> dict[str, Any]:
    return dict(module.towers.items())


def _farthest(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]]) -> float:
    """Return the largest relative difference of any loss or gradient of any step."""
    return max(farthest(other, mine) for mine, other in zip(ours, theirs, strict=True))


SIDES: dict[str, Callable[..., Sample]] = {
    "exact": exact,
    **{way: partial(timed, way=way) for way in WAYS},
}


def run(setting: Setting) -> Result:
    """Compare losses and gradients, then time the three ways in turn."""
    with tempfile.TemporaryDirectory() as folder:
        write_vision(folder)
        names = {"text": BACKBONE, "image": folder}
        same = measure(NAME, "exact", setting, **names)
        require_equal(same.checks, TOLERANCE)
        steps, repeats = (2, 2) if setting.quick else (6, 3)
        sides = dict.fromkeys(WAYS, {**names, "steps": steps})
        samples = interleave(NAME, sides, setting, repeats)
    mine = samples["ours"][0]
    checks: dict[str, Any] = {"exact": {**same.checks, **same.notes, "tolerance": TOLERANCE}}
    for way in ("tracked", "cached"):
        checks[way] = agree(mine, samples[way][0], TOLERANCES)
    work = mine.notes["flops"]
    tracked, kept = work["tracked"] / work["ours"], work["ours"] / work["cached"]
    peers = [
        Peer(TRACKED, "tracked", target=1 / 0.65, bound=tracked),
        Peer(DEFAULT, "ours", "cached", target=2.0, bound=kept),
    ]
    return compare(NAME, CLAIM, peers, samples, checks, cached=summarise(samples["cached"]))

"""A training step of MeGan: beta recomputed from the R-wide state, against the formula as it reads.

SmolLM2-135M with a shared hypernetwork, R = 128; ESConv dialogues cut to rows of one length (so no
side pays for padding), the situation of each as its condition; float32 on a CPU, bfloat16 autocast
on CUDA; no optimiser step.

- `eager`, the strict peer: the same step, but each block projects the condition's keys and values
  again (`nn.MultiheadAttention`, as the released code does) and the gate is SiLU(beta g) / beta
  under plain autograd. Everything else (norms, attention, vocabulary loss) is ours on both sides,
  so the ratio is the share of the gate and can be no more than that.
- `hf`: the step as one would write it: Hugging Face's model with its own norms, attention (sdpa)
  and loss over full logits, each MLP's forward replaced by the formula. The ratio is that of the
  whole step; norms and vocabulary loss have a share in it.
- `plain`: the same backbone without gates, all weights trained: what a hypernetwork costs.

`_full` sides train all weights, the others the hypernetwork alone. Loss and every gradient of ours
equal those of `eager` and `hf` in float32, and FLOPs (`torch.utils.flop_counter`) and bytes that
autograd keeps are counted, before anything is timed. Our vocabulary loss makes the head's gradient
in the forward pass; `activation_bytes` leaves that one out, `kept_bytes` does not.

A gate that cost nothing would leave `plain`, so `eager_full` over `plain` is the most that the
strict ratio can be; it is measured beside the claims.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.exactness import farthest, fingerprint, gradients, require_equal
from benchmarks.harness import BenchmarkError, Sample, Setting, interleave, measure
from benchmarks.megan.gate_peers import EagerGating, Transcription
from benchmarks.meters import time_steps
from benchmarks.result import Peer, Result, agree, compare, summarise
from benchmarks.workload import BACKBONE, dialogues, shuffled
from zoo.backbone import Backbone
from zoo.encoding import sum_head_weights
from zoo.losses.cross_entropy import total_loss
from zoo.methods.megan.encoder import ConditionedBatch, ConditionedExample, ConditionEncoder
from zoo.methods.megan.hypernetwork import Hyper
from zoo.methods.megan.module import MeGan
from zoo.records import Conditioned, Dialogue

CLAIM = (
    "MeGan's step: <= 1.15x the FLOPs of no gates; >= 1.3x as fast in <= 0.6x the memory of the "
    "formula by plain autograd, as the gate alone (strict) and as the whole step on Hugging Face"
)
NAME = "megan_gate"
BOTTLENECK = 128
WARM_UP = 1
TOLERANCE = 1e-4
TOLERANCES = {"data": 0.0, "loss": 1e-2, "norm": 5e-2}
FLOP_LIMIT = 1.15
WAYS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("ours", "eager", "hf"), {"gate": "hyper", "train": "hyper"}),
    **dict.fromkeys(("ours_full", "eager_full", "hf_full"), {"gate": "hyper", "train": "full"}),
    "plain": {"gate": "none", "train": "full"},
}
# peer -> which of ours computes the same
PEERS = {"eager": "ours", "hf": "ours", "eager_full": "ours_full", "hf_full": "ours_full"}
PLAIN = "no gates, all weights trained; measured here: all weights and gates"
MOST = "strict gate against no gates, all weights trained: the most that a gate can win"
LABELS = {
    "eager": "strict: the gate by plain autograd, all else ours; hypernetwork trained alone",
    "eager_full": "strict: the gate by plain autograd, all else ours; all weights trained",
    "hf": "the formula on Hugging Face's model and loss; hypernetwork trained alone",
    "hf_full": "the formula on Hugging Face's model and loss; all weights trained",
}


def build(way: str, setting: Setting, *, blocks: int) -> Any:
    """Return the model of a way in training mode, its first `blocks` blocks."""
    torch.manual_seed(0)
    hyper = Hyper(bottleneck=BOTTLENECK)
    module: Any
    if way.startswith("hf"):
        module = Transcription(BACKBONE, hyper, WAYS[way]["train"])
    else:
        options: dict[str, Any] = {**WAYS[way], "hyper": hyper, "padding_free": False}
        module = MeGan(Backbone(BACKBONE), **options)
        module.configure_model()
    module.lm.model.layers = module.lm.model.layers[:blocks]
    if way.startswith("eager"):
        module.gating = lambda told, batch=None: EagerGating(module, batch)
    return module.to(setting.device).train()


def examples(encoder: ConditionEncoder, count: int, tokens: int) -> list[ConditionedExample]:
    """Return dialogues under their situation, each cut to `tokens`; a quarter is supervised."""
    encoded: list[ConditionedExample] = []
    for record in shuffled(dialogues()[0]):
        (example,) = encoder(conditioned(record, encoder, tokens))
        if len(example) >= tokens:
            lists = ("input_ids", "labels", "head_ids", "weights")
            cut: dict[str, Any] = {name: getattr(example, name)[:tokens] for name in lists}
            encoded.append(replace(example, **cut))
        if len(encoded) == count:
            return encoded
    raise BenchmarkError(f"{len(encoded)} of {count} dialogues have {tokens} tokens")


def conditioned(record: Dialogue, encoder: ConditionEncoder, tokens: int) -> Conditioned:
    """Return a dialogue's text under its situation; three quarters of the tokens are the prompt."""
    text = "\n".join(turn.text for turn in record.turns)
    situation, tokenizer = record.situation or record.turns[0].text, encoder.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    around = len(encoder.prompt(Conditioned(situation, "x", "x")))  # system line and headers
    cut = max(1, min(3 * tokens // 4 - around, len(ids) // 2))
    prompt, response = tokenizer.decode(ids[:cut]), tokenizer.decode(ids[cut : 2 * tokens])
    return Conditioned(situation, prompt, response)


def batches(*, steps: int, rows: int, tokens: int) -> list[ConditionedBatch]:
    """Return batches of `rows` rows, the same for all ways."""
    encoder = MeGan(Backbone(BACKBONE), padding_free=False).encoder()
    encoded = examples(encoder, steps * rows, tokens)
    parts = [encoded[i : i + rows] for i in range(0, len(encoded), rows)]
    return [encoder.collate(part, sum_head_weights(part)) for part in parts]


def loss_of(module: nn.Module, batch: ConditionedBatch) -> Tensor:
    """Return the loss of a step."""
    loss: Tensor = total_loss(module.losses(batch)) if isinstance(module, MeGan) else module(batch)
    return loss


def exact(setting: Setting, *, blocks: int, rows: int, tokens: int) -> Sample:
    """Compare loss and gradients in float32; count FLOPs and the bytes that autograd keeps."""
    checks: dict[str, float] = {}
    notes: dict[str, dict[str, float]] = {"flops": {}, "kept_bytes": {}, "activation_bytes": {}}
    reference: dict[str, dict[str, Tensor]] = {}
    batch = batches(steps=1, rows=rows, tokens=tokens)[0].to(setting.device)
    for way in WAYS:
        module = build(way, setting, blocks=blocks)
        kept: dict[int, tuple[int, bool]] = {}  # storage -> bytes, whether it is an activation
        head = module.lm.lm_head.weight.shape
        own = {p.untyped_storage().data_ptr() for p in module.parameters()}

        def pack(tensor: Tensor, own: set[int] = own, kept: Any = kept, head: Any = head) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes(), tensor.shape != head
            return tensor

        with FlopCounterMode(display=False) as counter:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = loss_of(module, batch)
            loss.backward()
        notes["flops"][way] = float(counter.get_total_flops())
        notes["kept_bytes"][way] = float(sum(size for size, _ in kept.values()))
        notes["activation_bytes"][way] = float(
            sum(size for size, active in kept.values() if active)
        )
        own_grads = {"loss": loss.detach(), **gradients(module)}
        if way in PEERS:
            # a key's bias moves all scores of a row alike: its gradient is 0 up to rounding, and
            # the packed bias is compared as a whole
            checks[way] = farthest(reference[PEERS[way]], own_grads, skipped=("hypers.0.key.bias",))
        else:
            reference = {way: own_grads}  # of no further use: those of an earlier way of ours
    return Sample([], checks=checks, notes=notes)


def timed(setting: Setting, *, way: str, blocks: int, steps: int, rows: int, tokens: int) -> Sample:
    """Time forward and backward of one way."""
    module = build(way, setting, blocks=blocks)
    data = batches(steps=steps + WARM_UP, rows=rows, tokens=tokens)

    def step(batch: ConditionedBatch) -> float:
        module.zero_grad(set_to_none=True)
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.device == "cuda"):
            loss = loss_of(module, batch.to(setting.device))
        loss.backward()
        return float(loss.detach())

    losses, measured = time_steps(step, data, module, setting.device)
    norm = torch.stack(
        [g.norm() for n, g in gradients(module).items() if "hypers" in n or way == "plain"]
    ).norm()
    ids = [(batch.input_ids.tolist(), batch.labels.tolist()) for batch in data]
    return Sample(
        **measured,
        work={"tokens": [float(batch.num_tokens) for batch in data[WARM_UP:]]},
        checks={"data": fingerprint(ids), "loss": losses[-1], "norm": float(norm)},
        notes={"data": dialogues()[1], "blocks": blocks, "bottleneck": BOTTLENECK},
    )


SIDES: dict[str, Callable[..., Sample]] = {
    "exact": exact,
    **{way: partial(timed, way=way) for way in WAYS},
}


def run(setting: Setting) -> Result:
    """Compare loss and gradients, count, then time all sides in turn."""
    blocks, tokens = (8, 128) if setting.quick else (30, 256)
    shape = {"blocks": blocks, "rows": 4, "tokens": tokens}
    same = measure(NAME, "exact", setting, **{**shape, "rows": 2})
    require_equal(same.checks, TOLERANCE)
    flops, kept, active = (same.notes[k] for k in ("flops", "kept_bytes", "activation_bytes"))
    share = flops["ours_full"] / flops["plain"]
    if share > FLOP_LIMIT:
        raise BenchmarkError(f"{share:.3f}x the FLOPs of a step without gates")
    steps, repeats = (3, 2) if setting.quick else (4, 3)
    samples = interleave(NAME, dict.fromkeys(WAYS, {**shape, "steps": steps}), setting, repeats)
    checks: dict[str, Any] = {"float32": {**same.checks, "tolerance": TOLERANCE}}
    checks["counted"] = {
        "flops_over_plain": share,
        "kept_over_plain": kept["ours_full"] / kept["plain"],
        **{f"kept_over_{peer}": kept[mine] / kept[peer] for peer, mine in PEERS.items()},
        **{f"activations_over_{peer}": active[mine] / active[peer] for peer, mine in PEERS.items()},
    }
    peers = []
    for side, mine in PEERS.items():
        checks[side] = agree(samples[mine][0], samples[side][0], TOLERANCES)
        peers.append(Peer(LABELS[side], side, mine, target=1.3, memory_target=0.6))
    peers += [
        Peer(PLAIN, "plain", "ours_full", target=1 / FLOP_LIMIT, bound=1 / share),
        Peer(MOST, "eager_full", "plain"),
    ]
    counts = {"labels": LABELS, "flops": flops, "kept_bytes": kept, "activation_bytes": active}
    others = {way: summarise(samples[way]) for way in WAYS if way not in ("ours", "eager")}
    return compare(NAME, CLAIM, peers, samples, checks, **counts, **others)

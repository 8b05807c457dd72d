"""The mean over four roles of each role's loss: one pass against a masked pass for each role.

A scene of four people and 24 turns of about 20 words, SmolLM2-135M, forward and backward; float32
on a CPU, bfloat16 autocast on CUDA; no optimiser step.

- `ours`: `MuPaS`, whose weights of tokens make one cross-entropy the mean over roles.
- `masked`, the peer: Hugging Face, as the equation reads: for each role a pass in which the labels
  of all other roles are masked, and its mean over tokens; gradients add up. The rows that count are
  projected alone, which is more than the plain `labels=` of a trainer does.

Loss and every gradient agree in fp32 before anything is timed. The bound is the ratio of FLOPs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.exactness import distance, farthest, fingerprint, gradients, require_equal
from benchmarks.harness import Sample, Setting, interleave, measure
from benchmarks.meters import time_steps
from benchmarks.peers import hugging_face
from benchmarks.result import Peer, Result, agree, compare
from benchmarks.roofline import Shape
from benchmarks.workload import BACKBONE
from zoo.backbone import Backbone
from zoo.encoding import Batch
from zoo.methods.mupas.encoder import UTTERANCE
from zoo.methods.mupas.module import MuPaS
from zoo.records import Role, Scene, Turn

CLAIM = "the mean over four roles in one pass: <= 0.3x the time of four masked passes"
NAME = "role_mean"
PEOPLE = ("Ada", "Bruno", "Carla", "Dario")
TURNS, WORDS = 24, 20
QUICK = (10, 10)
WARM_UP = 1
TOLERANCE = {"cpu": 1e-4, "cuda": 5e-4}  # of gradients; the loss is held to 1e-6
LOSS_TOLERANCE = 1e-6
TARGET = 1 / 0.3
VOCABULARY = (
    *("the", "kettle", "rain", "letter", "window", "old", "garden", "never", "again", "perhaps"),
    *("quiet", "door", "road"),
)

Item = tuple[Batch, list[Tensor]]
"""A scene, and for each role the slots of its targets."""


def scenes(setting: Setting, count: int) -> list[Scene]:
    """Return scenes of made-up turns; each of the four speaks."""
    turns, words = QUICK if setting.quick else (TURNS, WORDS)
    found = []
    for index in range(count):
        draw = random.Random(index)
        said: list[Turn] = []
        for number in range(turns):
            others = [name for name in PEOPLE if not said or said[-1].speaker != name]
            speaker = PEOPLE[number] if number < len(PEOPLE) else draw.choice(others)
            size = draw.randint(words // 2, words * 3 // 2)
            said.append(Turn(speaker, " ".join(draw.choices(VOCABULARY, k=size))))
        roles = tuple(Role(name, "a neighbour") for name in PEOPLE)
        found.append(Scene(roles, tuple(said), "A street at night.", id=f"scene:{index}"))
    return found


def item(module: MuPaS, scene: Scene, device: str) -> Item:
    """Return a scene as a batch, and whose target is in which slot: turns are runs of targets."""
    encoder = module.encoder()
    batch = encoder.collate(encoder(scene), {})
    learned = (batch.head_ids[0] == UTTERANCE).tolist()
    rows: dict[str, list[int]] = {name: [] for name in PEOPLE}
    turn = -1
    for slot, mine in enumerate(learned):
        turn += mine and not (slot and learned[slot - 1])
        if mine:
            rows[scene.turns[turn].speaker].append(slot)
    if turn + 1 != len(scene.turns):
        raise ValueError(f"{turn + 1} runs of targets for {len(scene.turns)} turns")
    return batch.to(device), [torch.tensor(slots, device=device) for slots in rows.values()]


def masked_losses(lm: Any, one: Item) -> list[Callable[[], Tensor]]:
    """Return a function for each role's part of the loss: a pass with all others masked."""
    batch, rows = one

    def part(slots: Tensor) -> Tensor:
        states = lm.model(batch.input_ids, use_cache=False).last_hidden_state[0, slots]
        return F.cross_entropy(lm.lm_head(states).float(), batch.labels[0, slots]) / len(rows)

    return [partial(part, slots) for slots in rows]


def build(setting: Setting) -> MuPaS:
    """Return the module in evaluation mode: there is no dropout either way."""
    module = MuPaS(Backbone(BACKBONE))
    module.configure_model()
    module.to(setting.device).eval()
    return module


def role_mean(module: MuPaS, one: Item) -> Tensor:
    """Return L_utt of one scene."""
    return module.losses(one[0])["utterance"].loss


def exact(setting: Setting) -> Sample:
    """Compare loss and gradients in fp32, in one process."""
    module, lm = build(setting), hugging_face(BACKBONE, setting.device)
    (scene,) = scenes(setting, 1)
    one = item(module, scene, setting.device)
    loss = role_mean(module, one)
    loss.backward()
    other = torch.zeros((), device=setting.device)
    for part in masked_losses(lm, one):
        value = part()
        value.backward()
        other = other + value.detach()
    named = {f"lm.{name}": p.grad for name, p in lm.named_parameters() if p.grad is not None}
    return Sample(
        [],
        checks={"loss": distance(loss, other), "gradients": farthest(gradients(module), named)},
    )


def ours(setting: Setting, *, steps: int) -> Sample:
    """Time one pass over a scene and its backward."""
    module = build(setting)

    def step(one: Item) -> float:
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.device == "cuda"):
            loss = role_mean(module, one)
        loss.backward()
        module.zero_grad(set_to_none=True)
        return float(loss.detach())

    return _timed(step, module, module.lm, module, setting, steps, passes=1)


def masked(setting: Setting, *, steps: int) -> Sample:
    """Time a pass and its backward for each role."""
    lm = hugging_face(BACKBONE, setting.device)
    encoding = MuPaS(Backbone(BACKBONE))  # its encoder alone: nothing is loaded

    def step(one: Item) -> float:
        total = 0.0
        for part in masked_losses(lm, one):
            with torch.autocast(setting.device, torch.bfloat16, enabled=setting.device == "cuda"):
                loss = part()
            loss.backward()
            total += float(loss.detach())
        lm.zero_grad(set_to_none=True)
        return total

    return _timed(step, lm, lm, encoding, setting, steps, passes=len(PEOPLE))


def _timed(
    step: Callable[[Item], float],
    model: Any,
    lm: Any,
    encoding: MuPaS,
    setting: Setting,
    steps: int,
    *,
    passes: int,
) -> Sample:
    items = [item(encoding, s, setting.device) for s in scenes(setting, steps + WARM_UP)]
    losses, measured = time_steps(step, items, model, setting.device)
    timed = items[WARM_UP:]
    return Sample(
        **measured,
        work={
            "tokens": [float(passes * batch.num_tokens) for batch, _ in timed],
            "supervised": [float(sum(map(len, rows))) for _, rows in timed],
        },
        checks={
            "data": fingerprint([batch.input_ids.tolist() for batch, _ in items]),
            "loss": losses[-1],
        },
        notes={"shape": asdict(Shape.of(lm))},
    )


SIDES: dict[str, Callable[..., Sample]] = {"exact": exact, "ours": ours, "masked": masked}


def flops(sample: Sample) -> float:
    """Return the FLOPs of matrix products in the timed steps of a side: 6 per parameter and row."""
    shape = Shape(**sample.notes["shape"])
    blocks = shape.block * shape.blocks * sum(sample.work["tokens"])
    return 6 * (blocks + shape.head * sum(sample.work["supervised"]))


def run(setting: Setting) -> Result:
    """Compare loss and gradients in fp32, then time both sides in turn."""
    same = measure(NAME, "exact", setting)
    require_equal({"loss": same.checks["loss"]}, LOSS_TOLERANCE)
    tolerance = TOLERANCE[setting.device]
    require_equal(same.checks, tolerance)
    steps, repeats = (2, 2) if setting.quick else (3, 3)
    sides = dict.fromkeys(("ours", "masked"), {"steps": steps})
    samples = interleave(NAME, sides, setting, repeats)
    mine, theirs = samples["ours"][0], samples["masked"][0]
    loss = 1e-2 if setting.device == "cuda" else tolerance
    checks = {"fp32": {**same.checks, "tolerance": tolerance}}
    checks["masked"] = agree(mine, theirs, {"data": 0.0, "loss": loss})
    peers = [
        Peer(
            "Hugging Face, a masked pass for each of four roles",
            "masked",
            target=TARGET,
            bound=flops(theirs) / flops(mine),
        )
    ]
    return compare(NAME, CLAIM, peers, samples, checks)

"""SoVA's choices in dilemmas, both orders of the actions: together, or one prompt at a time.

- `ours`: `SoVA.generate` with instructions, 16 dilemmas at a time; what all dilemmas begin with and
  what both orders share is run once, and both options are read from one state.
- `in_turn`, the first peer: the loop as it reads, with plain Hugging Face: one dilemma, one order,
  one option at a time; the log-probability of the option's tokens after its whole prompt. Logits
  are computed for the option alone.
- `both_options`: the same, one pass an order, from which both options are read.
- `one_row`: ours, a dilemma at a time: what is left is what batching brings.

Float32, three instructions for each dilemma. The choices of all sides are equal and their log-odds
alike, by the mean of their sizes within 1e-3, before a time is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Sample, Setting, interleave
from benchmarks.meters import time_steps
from benchmarks.peers import hugging_face
from benchmarks.result import Peer, Result, agree, compare
from benchmarks.workload import BACKBONE, shuffled
from zoo.backbone import Backbone
from zoo.methods.sova.instruction import Instruction
from zoo.methods.sova.module import SoVA
from zoo.methods.sova.principles import curated
from zoo.methods.sova.prompts import OPTIONS, ORDERS
from zoo.records import TO_DO, Dilemma

CLAIM = "choices in 32 dilemmas, both orders, together: >= 4x as fast as prompt by prompt"
NAME = "dilemma_batch"
WINDOW, ROWS, INSTRUCTIONS = 2048, 16, 3
Odds = list[list[float]]
"""For each dilemma its log-odds of `to do`, in both orders."""


def chooser() -> SoVA:
    """Return an agent; it writes the prompts of all sides."""
    return SoVA(Backbone(BACKBONE), kind="sova", max_length=WINDOW, read_text=False)


def dilemmas(count: int) -> tuple[list[Dilemma], str]:
    """Return dilemmas, of `$ZOO_DATA/daily_dilemmas` or the sample again and again."""
    from datamodules import DailyDilemmas

    folder = Path(os.environ.get("ZOO_DATA", "")) / "daily_dilemmas"
    real = "ZOO_DATA" in os.environ and folder.is_dir()
    read = DailyDilemmas(str(folder) if real else None).records("test")
    records = shuffled([record for record in read if isinstance(record, Dilemma)])
    repeated = (records * (1 + count // len(records)))[:count]
    return repeated, "DailyDilemmas" if real else "the sample of DailyDilemmas"


def instructions(count: int) -> list[list[Instruction]]:
    """Return three instructions for each dilemma, in turn from the curated principles."""
    rules = [principle.rule for principle in curated()]
    return [
        [
            Instruction(rules[(i + k) % len(rules)], 90.0 - k, f"c{k}", ())
            for k in range(INSTRUCTIONS)
        ]
        for i in range(count)
    ]


def ours(setting: Setting, *, count: int, rows: int = ROWS) -> Sample:
    """Decide `rows` dilemmas at a time."""
    module = chooser()
    module.configure_model()
    module.to(setting.device).eval()

    def decide(records: Sequence[Dilemma], given: Sequence[Sequence[Instruction]]) -> Odds:
        return [list(answer.odds) for answer in module.generate(records, given)]

    return _time(decide, module.lm, setting, count, rows)


def in_turn(setting: Setting, *, count: int, options: int = 1) -> Sample:
    """Run one whole prompt at a time with Hugging Face, `options` options a pass."""
    module = chooser()
    encoder = module.encoder()
    lm = hugging_face(BACKBONE, setting.device)

    def log_probs(prompt: list[int], answers: list[list[int]]) -> list[float]:
        """Return the log-probability of each answer, whose last tokens alone differ."""
        ids = torch.tensor([[*prompt, *answers[0][:-1]]], device=lm.device)
        states = lm.model(ids).last_hidden_state[0, len(prompt) - 1 :]
        logps = lm.lm_head(states).float().log_softmax(-1)
        return [float(logps[range(len(ids)), ids].sum()) for ids in answers]

    def decide(records: Sequence[Dilemma], given: Sequence[Sequence[Instruction]]) -> Odds:
        odds = []
        for record, kept in zip(records, given, strict=True):
            head, pair = module.head(record.situation, kept), []
            for order in ORDERS:
                prompt = [*head, *encoder.tail(order)]
                answers = [encoder.ids(option) for option in OPTIONS]
                parts = [answers[i : i + options] for i in range(0, len(answers), options)]
                first, second = (p for part in parts for p in log_probs(prompt, part))
                pair.append(first - second if order[0] == TO_DO else second - first)
            odds.append(pair)
        return odds

    return _time(decide, lm, setting, count, 1)


@torch.no_grad()
def _time(decide: Callable[..., Odds], lm: Any, setting: Setting, count: int, rows: int) -> Sample:
    """Time all dilemmas as one step, after one that warms up."""
    records, source = dilemmas(count + 1)
    given = instructions(count + 1)
    parts = [(records[i : i + rows], given[i : i + rows]) for i in range(1, count + 1, rows)]

    def step(parts: list[Any]) -> Odds:
        return [odds for part in parts for odds in decide(*part)]

    warm = [(records[:1], given[:1])]
    (_, odds), measured = time_steps(step, [warm, parts], lm, setting.device)
    return Sample(
        **measured,
        work={"choices": [2.0 * len(odds)]},
        checks={
            "mean size of the odds": sum(abs(z) for pair in odds for z in pair) / (2 * len(odds)),
            "choices": [[value > 0 for value in pair] for pair in odds],
        },
        notes={"data": source, "dilemmas": count, "instructions": INSTRUCTIONS},
    )


SIDES: dict[str, Callable[..., Sample]] = {
    "ours": ours,
    "in_turn": in_turn,
    "both_options": partial(in_turn, options=len(OPTIONS)),
    "one_row": partial(ours, rows=1),
}
PEERS = {
    "in_turn": "Hugging Face, a pass for each dilemma, order and option",
    "both_options": "Hugging Face, a pass for each dilemma and order",
    "one_row": "ours, a dilemma at a time",
}
TOLERANCES = {"mean size of the odds": 1e-3, "choices": 0.0}


def run(setting: Setting) -> Result:
    """Compare choices, then times."""
    count, repeats = (8, 1) if setting.quick else (32, 1)  # a step takes minutes
    samples = interleave(NAME, dict.fromkeys(SIDES, {"count": count}), setting, repeats)
    mine = samples["ours"][0]
    checks = {peer: agree(mine, samples[peer][0], TOLERANCES) for peer in PEERS}
    target = None if setting.quick else 4.0
    peers = [Peer(PEERS["in_turn"], "in_turn", target=target)]
    peers += [Peer(PEERS[name], name) for name in ("both_options", "one_row")]
    return compare(NAME, CLAIM, peers, samples, checks)

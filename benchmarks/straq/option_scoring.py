"""Eight strategies scored at one decision: one pass over the prompt they share, or eight sequences.

- `ours`: straQ*'s planner: one pass over the prompt, padding-free, then the eight rows of the head
  that are letters.
- `batched`, the first peer: plain Hugging Face on eight full sequences, prompt and answer, in one
  batch of equal lengths; the score is the logit of the answer's token where it is predicted. Only
  the last two positions are projected.
- `in_turn`: the same, a sequence at a time.

Float32, batch of one decision, prompts from ESConv. The scores of all sides agree before a time is
looked at. The bound counts the FLOPs of matrix products with weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from benchmarks.harness import Sample, Setting, interleave
from benchmarks.meters import time_steps
from benchmarks.peers import hugging_face
from benchmarks.result import Peer, Result, agree, compare
from benchmarks.roofline import Shape
from benchmarks.workload import BACKBONE, dialogues, shuffled
from zoo.backbone import Backbone
from zoo.methods.straq.module import StraQ
from zoo.records import Dialogue
from zoo.support.decisions import decisions
from zoo.support.labels import STRATEGIES

CLAIM = "8 strategies scored in one pass over their prompt: >= 5x as fast as 8 full sequences"
NAME = "option_scoring"
LETTERS = len(STRATEGIES)
WINDOW = 1024
Score = Callable[[list[int]], list[float]]


def planner() -> StraQ:
    """Return an untrained planner; its encoder writes the prompts of all sides."""
    return StraQ(Backbone(BACKBONE), max_length=WINDOW)


def prompts(module: StraQ, count: int) -> list[list[int]]:
    """Return the prompts of one decision from each of `count` dialogues."""
    prompt_ids = []
    for i, record in enumerate(shuffled(dialogues()[0])[:count]):
        points = decisions(with_strategies(record))
        prompt_ids.append(module.encoder().state(points[i % len(points)]))
    return prompt_ids


def with_strategies(record: Dialogue) -> Dialogue:
    """Return a dialogue whose supporter turns have strategies; synthetic ones have none."""
    named = (
        turn if turn.strategy else replace(turn, strategy=STRATEGIES[i % LETTERS])
        for i, turn in enumerate(record.turns)
    )
    return replace(record, turns=tuple(named))


def ours(setting: Setting, *, states: int) -> Sample:
    """Score with the planner."""
    module = planner()
    module.configure_model()
    module.to(setting.device).eval()
    encoder = module.encoder()

    def score(ids: list[int]) -> list[float]:
        values: list[float] = module(encoder.prompts([ids]).to(setting.device))[0].tolist()
        return values

    return _time(score, module, module.lm, setting, states)


def batched(setting: Setting, *, states: int, rows: int = LETTERS) -> Sample:
    """Score with Hugging Face, `rows` full sequences at a time."""
    module, lm = planner(), hugging_face(BACKBONE, setting.device)
    letters = module.encoder().letter_ids

    def score(ids: list[int]) -> list[float]:
        scores: list[float] = []
        for start in range(0, LETTERS, rows):
            answers = letters[start : start + rows]
            batch = torch.tensor([[*ids, answer] for answer in answers], device=setting.device)
            logits = lm(batch, use_cache=False, logits_to_keep=2).logits[:, 0]
            scores += logits.gather(1, batch[:, -1:])[:, 0].tolist()
        return scores

    return _time(score, module, lm, setting, states)


@torch.no_grad()
def _time(score: Score, module: StraQ, lm: Any, setting: Setting, states: int) -> Sample:
    """Time one decision after the other; the first one warms up."""
    questions = prompts(module, states + 1)
    answers, measured = time_steps(score, questions, lm, setting.device)
    scores = {
        f"{i} {name}": value
        for i, row in enumerate(answers)
        for name, value in zip(STRATEGIES, row, strict=True)
    }
    lengths = [len(ids) for ids in questions[1:]]
    return Sample(
        **measured,
        work={"decisions": [1.0] * states, "prompt_tokens": [float(n) for n in lengths]},
        checks={"prompts": questions, **scores},
        notes={"data": dialogues()[1], "lengths": lengths, "shape": asdict(Shape.of(lm))},
    )


def bound(sample: Sample) -> float:
    """Return the ratio of the FLOPs of both sides, products with weights only."""
    shape = Shape(**sample.notes["shape"])
    tokens = sum(sample.notes["lengths"])
    count = len(sample.notes["lengths"])
    stack = shape.block * shape.blocks
    width = shape.head // shape.vocabulary
    mine = stack * tokens + count * LETTERS * width
    theirs = LETTERS * (stack * (tokens + count) + 2 * count * shape.head)
    return theirs / mine


SIDES: dict[str, Callable[..., Sample]] = {
    "ours": ours,
    "batched": batched,
    "in_turn": partial(batched, rows=1),
}
PEERS = {
    "batched": "Hugging Face, eight full sequences in one batch",
    "in_turn": "Hugging Face, eight full sequences in turn",
}


def run(setting: Setting) -> Result:
    """Compare scores, then times."""
    states, repeats = (4, 2) if setting.quick else (12, 3)
    samples = interleave(NAME, dict.fromkeys(SIDES, {"states": states}), setting, repeats)
    mine = samples["ours"][0]
    scores = [key for key in mine.checks if key != "prompts"]
    tolerances = {"prompts": 0.0, **dict.fromkeys(scores, 1e-3)}
    checks, limit = {}, bound(mine)
    for peer in PEERS:
        same = agree(mine, samples[peer][0], tolerances)
        worst = max(same[key]["difference"] for key in scores)
        checks[peer] = {"scores": len(scores), "difference": worst, "tolerance": 1e-3}
    peers = [Peer(label, side, target=5.0, bound=limit) for side, label in PEERS.items()]
    return compare(NAME, CLAIM, peers, samples, checks)

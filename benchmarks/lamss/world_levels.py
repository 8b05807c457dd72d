"""How well LaMsS grades answers of the model that made its labels, shown as training shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from zoo.methods.lamss.decoding import expected_level
from zoo.methods.lamss.encoder import LEVEL
from zoo.methods.lamss.metrics import auc

TOLD = "seen_"  # kinds of questions that training has, too


def level_figures(module: Any, data: Any) -> dict[str, float]:
    """Return how well the levels of answers of the model of before are told.

    Args:
        module: The trained module.
        data: What it was trained on; validation holds later questions.
    """
    encoder = module.encoder()
    second = [e for e in data.examples("train", encoder) if LEVEL in e.head_ids]
    answers = {example.record.id: example for example in second}
    later = [e for e in data.examples("val", encoder) if LEVEL in e.head_ids]
    later = [e for e in later if e.record.kind.startswith(TOLD)]
    shown = shown_levels([encoder.studied[e.record] for e in later], len(encoder.level_ids) - 1)
    right, doubts, loss = judged(module, later)
    figures = {
        "answers": len(answers),
        "answers_right": sum(encoder.studied[e.record].level == 0 for e in answers.values()),
        "level_loss": loss,
        "AUC, shown": auc(doubts, right),
        "AUC of the levels shown": auc(shown, right),
    }
    right, doubts, loss = judged(module, list(answers.values()))
    figures |= {"training level_loss": loss, "training AUC, shown": auc(doubts, right)}
    return {name: round(value, 4) for name, value in figures.items()}


@torch.no_grad()
def judged(module: Any, examples: Sequence[Any]) -> tuple[list[bool], list[float], float]:
    """Return of second passes whether the answer shown is right, U, and the level's mean loss."""
    encoder, right, doubts, total = module.encoder(), [], [], 0.0
    for i in range(0, len(examples), 64):
        batch = encoder.collate(examples[i : i + 64], {LEVEL: 1.0}).to(module.device)
        asked = batch.head_ids == LEVEL
        logits = module.last_logits(module(batch)[asked])
        doubts += expected_level(logits, encoder.level_ids)[0].tolist()
        right += [int(label) == encoder.level_ids[0] for label in batch.labels[asked]]
        total += float(cross_entropy(logits, batch.labels[asked], reduction="sum"))
    return right, doubts, total / len(examples)


def shown_levels(studied: Iterable[Any], worst: int) -> list[float]:
    """Return the mean level of each answer's tokens but its stop token, in [0, 1]."""
    rows = [one.response_levels[:-1] for one in studied]
    return [sum(row) / worst / max(1, len(row)) for row in rows]

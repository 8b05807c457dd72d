"""What a model gets right before it is trained: labels that only it can give."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from zoo import parallel
from zoo.errors import TooLongError
from zoo.methods.lamss.evaluation import FILLER
from zoo.methods.lamss.questions import ASKABLE, Askable, key, right


def right_beforehand(
    trainer: Any, texts: Callable[[Sequence[Askable]], Sequence[str]]
) -> dict[str, bool]:
    """Return which training questions are answered rightly, by `key`; processes share the work.

    Call it in a step, where the weights of a sharded model may be used.

    Args:
        trainer: Its data module has the training questions.
        texts: Answers a batch of questions.
    """
    data = trainer.datamodule
    encoder = trainer.lightning_module.encoder()
    questions = (r for r in data.records("train") if isinstance(r, ASKABLE))
    asked = {key(r): r for r in questions if _fits(encoder, r)}
    world, size = trainer.world_size, data.eval_batch_size
    mine = list(asked.values())[trainer.global_rank :: world]
    correct: dict[str, bool] = {}
    for start in range(0, math.ceil(len(asked) / world), size):
        part = mine[start : start + size]
        answers = texts(part or [FILLER])  # every process decodes equally often
        correct |= {key(r): right(r, text) for r, text in zip(part, answers, strict=False)}
    return {name: value for part in parallel.gathered(correct) for name, value in part.items()}


def _fits(encoder: Any, record: Askable) -> bool:
    """Say whether a question fits the window; the data module has left out the others."""
    try:
        encoder.prompt(record)
    except TooLongError:
        return False
    return True

"""A dialogue with strategies, batches of its transitions, and data that repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader

from zoo.encoding import sum_head_weights
from zoo.methods.straq.encoder import Transition
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn

TWO = ("tiny-llama", "tiny-gemma")  # untied and tied
LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear"}


def talk(*turns: tuple[str, str], **known: str) -> Dialogue:
    """Return a dialogue of (strategy, text); an empty strategy is the seeker's turn."""
    made = (Turn(SUPPORTER if s else SEEKER, text, strategy=s) for s, text in turns)
    return Dialogue(tuple(made), id="talk:1", **known)


DIALOGUE = talk(
    ("", "I lost my job."),
    ("Question", "When?"),
    ("", "Last week. I told nobody."),
    ("Reflection of feelings", "That must be lonely."),
    ("Providing Suggestions", "Could you tell your sister?"),
    ("", "Perhaps."),
    ("Others", "Take care."),
    emotion="sadness",
    situation="They let me go.",
)


def batch_of(module: Any, examples: Sequence[Transition]) -> Any:
    return module.encoder().collate(examples, sum_head_weights(examples))


def repeated(batch: Any, times: int) -> DataLoader[Any]:
    return DataLoader([batch] * times, batch_size=None, collate_fn=lambda one: one)

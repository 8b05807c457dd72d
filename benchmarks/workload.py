"""What the claims run on: ESConv dialogues (or synthetic ones of such lengths) as token ids."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.harness import Setting
from zoo.encoding import Example, Segment, encode
from zoo.errors import InputError
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn

T = TypeVar("T")
BACKBONE = "smollm2-135m"
SYNTHETIC = "synthetic dialogues of ESConv-like lengths"
WORDS = "i feel so tired and alone but my friend says that it"
ROLES = {SEEKER: "user", SUPPORTER: "assistant"}


def dialogues() -> tuple[list[Dialogue], str]:
    """Return the training dialogues and where they come from.

    ESConv is read from `$ZOO_DATA/esconv`; without it, random words with ESConv's spread of lengths
    stand in, which changes no time.
    """
    folder = os.environ.get("ZOO_DATA")
    if folder and (Path(folder) / "esconv").is_dir():
        from datamodules.esconv import ESConv

        records = ESConv(str(Path(folder) / "esconv")).records("train")
        return [record for record in records if isinstance(record, Dialogue)], "ESConv train"
    return [_synthetic(random.Random(seed)) for seed in range(910)], SYNTHETIC


def shuffled(items: Sequence[T]) -> list[T]:
    """Return items in an order that is the same in every run."""
    order = list(items)
    random.Random(0).shuffle(order)
    return order


def _synthetic(rng: random.Random) -> Dialogue:
    """Return a dialogue: log-normal turn count about 29, turns of about 20 words."""
    words = WORDS.split()
    turns = []
    for i in range(max(8, round(rng.lognormvariate(3.3, 0.3)))):
        length = max(2, round(rng.lognormvariate(2.75, 0.6)))
        text = " ".join(rng.choice(words) for _ in range(length))
        turns.append(Turn(SUPPORTER if i % 2 else SEEKER, text))
    return Dialogue(tuple(turns))


def render(tokenizer: Any, dialogue: Dialogue, *, window: int, share: float = 1.0) -> Example:
    """Write a dialogue in chat markup; supporter turns and their end marks are supervised.

    Args:
        tokenizer: A tokenizer with `<|im_start|>` and `<|im_end|>`.
        dialogue: What to write.
        window: Tokens; the dialogue ends with its last turn that fits.
        share: Part of its turns to keep, which shortens every dialogue alike.
    """
    keep = max(2, round(len(dialogue.turns) * share))
    turns = list(dialogue.turns[:keep])
    if all(turn.speaker != SUPPORTER for turn in turns):
        turns = list(dialogue.turns[: [t.speaker for t in dialogue.turns].index(SUPPORTER) + 1])
    while True:
        segments = []
        for turn in turns:
            head = 0 if turn.speaker == SUPPORTER else -1
            segments += [
                Segment(f"<|im_start|>{ROLES[turn.speaker]}\n", "system"),
                Segment(f"{turn.text}<|im_end|>", ROLES[turn.speaker], head=head),
                Segment("\n", "system"),
            ]
        example = encode(tokenizer, segments)
        if len(example) <= window:
            return example
        turns.pop()


def batches(
    tokenizer: Any, setting: Setting, *, steps: int, batch_size: int = 8, window: int = 1024
) -> tuple[list[list[Example]], str]:
    """Return `steps` batches in a fixed shuffled order, and a line that says what they are.

    A quick run keeps the first quarter of every dialogue: a quarter of the tokens, and about the
    same spread of lengths, so about the same share of padding.
    """
    records, source = dialogues()
    share = 0.25 if setting.quick else 1.0
    chosen = shuffled(records)[: steps * batch_size]
    examples = [render(tokenizer, record, window=window, share=share) for record in chosen]
    cut = ", first quarter of each dialogue" if setting.quick else ""
    label = f"{source}{cut}, window {window} tokens, {batch_size} dialogues a step"
    return [examples[i : i + batch_size] for i in range(0, len(examples), batch_size)], label


def thought_batches(encoder: Any, *, steps: int, batch_size: int = 2) -> list[list[Example]]:
    """Return batches of dialogues with thoughts, each cut at its last turn that fits the window.

    Args:
        encoder: A method's encoder, whose `max_length` is the window.
        steps: Number of batches.
        batch_size: Dialogues in each.
    """
    examples: list[Example] = []
    for record in shuffled(dialogues()[0]):
        for stop in range(len(record.turns), 1, -1):
            try:
                examples += encoder(replace(record, turns=record.turns[:stop]))
            except InputError:  # too long, or no supporter turn left
                continue
            break
        if len(examples) == steps * batch_size:
            break
    return [examples[i : i + batch_size] for i in range(0, len(examples), batch_size)]


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of a text, no special tokens added."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def fill(batch: Sequence[Example]) -> float:
    """Return the share of a padded batch that is real tokens."""
    return sum(map(len, batch)) / (len(batch) * max(map(len, batch)))

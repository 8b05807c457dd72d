"""A small base for trials on real dialogues: it has read how people talk, and no label of them.

A Llama of four blocks from scratch learns all tokens of what the components read, the reply or the
utterance behind them, with all of its weights. Rows that start from it train full copies of it.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import zoo
from benchmarks.small_models import bpe_tokenizer, write_llama
from zoo.errors import TooLongError
from zoo.methods.dreamcub.belief import LETTERS
from zoo.methods.dreamcub.encoder import BeliefStateEncoder, State
from zoo.records import Dialogue
from zoo.support.decisions import decisions

SIZE = (128, 344)  # width, inner width
VOCABULARY, WINDOW, STEPS, BATCH = 4096, 512, 1000, 8
LETTER_LINES = 300  # so often does the tokenizer see the letters of the options behind blanks


def base_in(
    folder: Path, name: str, method_of: Callable[[str], zoo.DreamCUB], talks: Sequence[Dialogue]
) -> str:
    """Return the base of a data set in a folder; it is trained once, for all rows and seeds."""
    path = folder / f"{name}-{STEPS}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            write_base(Path(scratch) / "base", method_of, talks, STEPS)
            (Path(scratch) / "base").rename(path)
    return str(path)


def write_base(
    folder: Path, method_of: Callable[[str], zoo.DreamCUB], talks: Sequence[Dialogue], steps: int
) -> None:
    """Write a base that has read dialogues.

    Args:
        folder: Where to.
        method_of: Returns the method whose components will read, over a named backbone.
        talks: The dialogues.
        steps: Optimiser steps, of `BATCH` replies or utterances each.
    """
    encoder = method_of("tiny-llama").encoder()
    encoder.max_length = 100_000  # its tokens are bytes
    prompts = [encoder.tokenizer.decode(row) for row in spoken(encoder, talks)]
    asked = [encoder.tokenizer.decode(encoder.posterior(s)) for s in states(encoder, talks[:200])]
    letters = [" " + " ".join(LETTERS[:26])] * LETTER_LINES
    tokenizer = bpe_tokenizer([*prompts, *asked, *letters], VOCABULARY)
    write_llama(folder, tokenizer, *SIZE, window=WINDOW)
    rows = spoken(method_of(str(folder)).encoder(), talks)
    learn_language(folder, rows, steps, BATCH, random.Random(0))


def states(encoder: BeliefStateEncoder, talks: Sequence[Dialogue]) -> list[State]:
    """Return the states of dialogues, with no belief."""
    found = [d for t in talks for d in decisions(t, encoder.labels, need_strategies=False)]
    return [State(decision) for decision in found]


def spoken(encoder: BeliefStateEncoder, talks: Sequence[Dialogue]) -> list[list[int]]:
    """Return the reply and the utterance of each state, behind what is read before them.

    States that do not fit the window are left out, as they are by the rows that are compared.
    """
    rows = []
    for state in states(encoder, talks):
        said = encoder.said(encoder.reply_text(state.decision.target))
        try:
            pair = (encoder.reply(state) + said, encoder.observation(state))
        except TooLongError:
            continue
        rows += [pair[0], pair[1] + encoder.said(state.decision.query)]
    return [row for row in rows if len(row) <= encoder.max_length]


def learn_language(
    folder: Path | str,
    rows: Sequence[list[int]],
    steps: int,
    batch_size: int,
    draw: random.Random,
    rate: float = 3e-3,
) -> None:
    """Train all weights of a model in a folder on all tokens of rows that are drawn.

    Args:
        folder: Holds the model; it is replaced by the trained one.
        rows: Token ids.
        steps: Optimiser steps; the rate rises for 50 of them and then falls to nearly 0.
        batch_size: Rows of a step.
        draw: Draws them.
        rate: Highest learning rate.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, step / 50, 1.05 - step / steps)
        ids = [torch.tensor(row) for row in draw.sample(rows, batch_size)]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-100)
        found = model(padded.clamp_min(0), attention_mask=padded >= 0, labels=padded)
        found.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)

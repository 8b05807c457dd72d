"""A small base model of the world with two moves: it can tell what happened, and no belief.

A Llama of four blocks is trained from scratch to go on from stories of `datamodules/two_moves.py`
with three true sentences about each: the way of the object (or its first, or its last place), and
who was there at each move. Only those sentences are learned, not the stories, which are chance.

No text has a question, a turn, an answer or the words of a belief. What is trained later, by any
method, starts from this one model, as the paper's rows start from one Llama.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.small_models import bpe_tokenizer, write_llama
from datamodules.false_belief import KINDS as ONE_MOVE
from datamodules.false_belief import WORDS, Words, make_harder, make_triple
from datamodules.two_moves import KINDS as TWO_MOVES
from datamodules.two_moves import tell
from zoo.encoding import IGNORE
from zoo.optimizer import Optimizer
from zoo.prompts.thoughts import SYSTEM
from zoo.records import Triple

ALL = WORDS["train"]
WORLD = Words(ALL.names[:5], ALL.objects[:4], ALL.places[:6], ALL.rooms[:3])
"""Few words, so that a small model meets each of them often."""
SIZE = (64, 128)  # width, inner width
WINDOW = 256
VOCABULARY = 640
ROUNDS, BATCH = (1800, 1400), 16  # steps of each round of the rate, stories a step
PEAK = 4e-3
Report = Callable[[random.Random], tuple[str, str]]
"""Draws a story and true sentences about it."""
BLOCKS_TIMES, WORDS_TIMES = 6, 8
"""The usual first weights (deviation 0.02) are too small at this width: with them nothing was
copied from the story after 400 steps of 32, with these times as large ones after 200 of 16."""


def stories(name: str, count: int, moves: int = 2) -> list[Triple]:
    """Return questions of a world, kinds in turn; equal names, equal questions.

    Args:
        name: What the questions are for.
        count: How many.
        moves: How often the object is moved, 1 or 2; see `datamodules.FalseBelief`.
    """
    rng = random.Random(name)
    make, kinds = (make_triple, ONE_MOVE) if moves == 1 else (make_harder, TWO_MOVES)
    turns = [kinds[i % len(kinds)] for i in range(count)]
    return [make(rng, WORLD, kind, f"{name}:{i}") for i, kind in enumerate(turns)]


def report(rng: random.Random) -> tuple[str, str]:
    """Return a story and three true sentences about it."""
    people, places = rng.sample(WORLD.names, 3), rng.sample(WORLD.places, 3)
    story = tell(rng, people, rng.choice(WORLD.objects), places, rng.choice(WORLD.rooms))
    first, second, third = places
    ways = (
        f" From the {first} it went to the {second}, then to the {third}.",
        f" It was in the {first} at first.",
        f" It is in the {third} now.",
    )
    facts = [rng.choice(ways)]
    for place, seen in zip(places[1:], story.seen, strict=True):
        where = [f"{name} was {'there' if name in seen else 'away'}" for name in people]
        facts.append(f" When it went to the {place}, {', '.join(where)}.")
    return " ".join(story.sentences), "".join(rng.sample(facts, 3))


def tokenizer() -> Any:
    """Return a tokenizer that has every word of the world, of thoughts and of turn headers."""
    rng = random.Random("tokenizer")
    read = [part for each in stories("words", 3000) for part in (each.query, each.thought)]
    headers = ["system\nuser\nthought\nassistant\n", SYSTEM, "the box"] * 50
    told = [part for _ in range(3000) for part in report(rng)]
    return bpe_tokenizer([*read, *headers, *told], VOCABULARY)


def train_base(folder: Path, seed: int = 0, rounds: Sequence[int] = ROUNDS) -> None:
    """Train the base model of stories of two moves; see `train_on`."""
    train_on(report, tokenizer(), folder, seed, rounds)


def train_on(
    told: Report, words: Any, folder: Path, seed: int = 0, rounds: Sequence[int] = ROUNDS
) -> None:
    """Train a base model and write it as a folder to load; every 100 steps its loss is printed.

    Args:
        told: What it learns.
        words: Its tokenizer.
        folder: Where to.
        seed: Of its first weights and of its stories.
        rounds: Steps of `BATCH` stories each; in a round the rate rises, then falls.
    """
    from transformers import LlamaForCausalLM

    write_llama(folder, words, *SIZE, window=WINDOW)
    lm = LlamaForCausalLM.from_pretrained(folder, trust_remote_code=False)
    first_weights(lm, seed)
    for number, steps in enumerate(rounds):
        name = f"base {seed}" + f" {number}" * (number > 0)
        train_round(lm, words, told, random.Random(name), steps)
    lm.save_pretrained(folder)


def train_round(lm: Any, words: Any, told: Report, rng: random.Random, steps: int) -> None:
    """Train the model on so many steps of new stories."""
    rates = Optimizer(warmup_ratio=0.03, final_ratio=0.02)
    adamw = torch.optim.AdamW(lm.parameters(), lr=PEAK, betas=(0.9, 0.99), weight_decay=0.01)
    for step in range(steps):
        for group in adamw.param_groups:
            group["lr"] = PEAK * rates.factor(step, steps)
        loss = report_loss(lm, words, [told(rng) for _ in range(BATCH)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()
        if step % 100 == 99:
            print("base", step + 1, round(loss.item(), 3), flush=True)


@torch.no_grad()
def first_weights(lm: Any, seed: int) -> None:
    """Draw the weights anew, larger than usual: `BLOCKS_TIMES` and `WORDS_TIMES`."""
    torch.manual_seed(seed)
    lm.apply(lm._init_weights)
    lm.model.embed_tokens.weight.mul_(WORDS_TIMES)
    for weight in lm.model.layers.parameters():
        weight.mul_(BLOCKS_TIMES if weight.ndim > 1 else 1)


def report_loss(lm: Any, words: Any, reports: Sequence[tuple[str, str]]) -> torch.Tensor:
    """Return the mean cross-entropy of the tokens of the sentences about the stories."""
    rows = [[words(text)["input_ids"] for text in pair] for pair in reports]
    inputs = [torch.tensor(story + told) for story, told in rows]
    labels = [torch.tensor([IGNORE] * len(story) + told) for story, told in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    wanted = pad(labels, batch_first=True, padding_value=IGNORE)[:, 1:]
    states = lm.model(pad(inputs, batch_first=True)).last_hidden_state[:, :-1]
    learned = wanted != IGNORE
    return F.cross_entropy(lm.lm_head(states[learned]), wanted[learned])

"""A small Llama that has read the prompts of ranked pairs, and does not know what an answer means.

It is a language model of the training prompts of right pairs, each with an answer by the dice: it
knows the words, which queries stand after which documents and what an answer looks like.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

import zoo
from benchmarks.small_models import bpe_tokenizer, write_llama
from benchmarks.training import DEVICE
from zoo.export import save
from zoo.methods.lahore.encoder import RelevanceEncoder
from zoo.records import Ranking

FIXED = ("user\ndocument:", "\nquery:", "assistant\n")  # what every prompt holds beside its texts
TEXTS_PER_STEP, RATE = 32, 3e-3  # of the language model


class SmallModel(NamedTuple):
    """A model from scratch and what it reads.

    Attributes:
        prompt: Settings of LaHoRe's prompt.
        size: Width, inner width.
        vocabulary: Tokens of its tokenizer.
        steps: Of the language model.
        pool: Documents of a query, of which one is right.
    """

    prompt: dict[str, Any]
    size: tuple[int, int]
    vocabulary: int
    steps: int
    pool: int


def right_of(record: Ranking) -> str:
    """Return the name of a query's one right document."""
    return record.relevant[0][0]


def write_backbone(folder: Path, train: Sequence[Ranking], model: SmallModel) -> None:
    """Write a small Llama that was trained on prompts of right pairs; the folder must not exist.

    Args:
        folder: Where to.
        train: Queries, whose prompts and tokenizer it learns, in whatever order.
        model: Its size and prompt.
    """
    train = sorted(train, key=lambda record: record.id)
    texts = [record.query for record in train]
    documents = [document.content for document in train[0].corpus.documents.values()]
    tokenizer = bpe_tokenizer([*texts, *documents, *(len(texts) * FIXED)], model.vocabulary)
    with tempfile.TemporaryDirectory() as start:
        write_llama(Path(start), tokenizer, *model.size, window=model.prompt["max_length"])
        module = zoo.LaHoRe(backbone={"name": start}, **model.prompt)
        module.configure_model()
    torch.manual_seed(0)
    for weight in module.lm.parameters():
        if weight.ndim > 1:  # transformers' 0.02 is far too small for this width
            torch.nn.init.normal_(weight, std=model.size[0] ** -0.5)
    draws = random.Random(0)
    read = texts_to_read(module.encoder(), train, model.pool, draws)
    learn(module.to(DEVICE).lm, read, model.steps, draws)
    save(module, folder)


def texts_to_read(
    encoder: RelevanceEncoder, train: Sequence[Ranking], pool: int, draws: random.Random
) -> list[torch.Tensor]:
    """Return the token ids of each right pair's prompt, `(L,)`, and of an answer by the dice.

    "True" is drawn as often as one of `pool` is right: what an answer looks like is known to the
    backbone, and that the answer has to do with the prompt is not.
    """
    texts = []
    for record in train:
        head, tail = encoder.halves(record.query, record.corpus.documents[right_of(record)])
        true, false = encoder.option_ids
        answer = true if draws.random() < 1 / pool else false
        texts.append(torch.tensor([*head, *tail, answer, *encoder.end_ids]))
    return texts


def learn(lm: Any, texts: Sequence[torch.Tensor], steps: int, draws: random.Random) -> None:
    """Train a language model on all tokens of texts, `(L,)` each."""
    optimizer = torch.optim.AdamW(lm.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.05)
    lm.train()
    for _ in range(steps):
        rows = draws.choices(texts, k=TEXTS_PER_STEP)
        ids, labels = (pad_sequence(rows, True, value).to(DEVICE) for value in (0, -100))
        lm(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

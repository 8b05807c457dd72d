"""CLINC150 intents as documents, a small Llama that has read them, and a rule that counts words.

A query is a text of CLINC150, its documents are the names of its intent and of nine others of the
same domain. The backbone is a language model of the training prompts of right pairs, each with an
answer by the dice: it knows the words, which texts stand after which names and what an answer looks
like; what the answer means it does not know.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

import datamodules
import zoo
from benchmarks import trials
from benchmarks.ranking.simple_rankers import Scores
from benchmarks.small_models import bpe_tokenizer, write_llama
from benchmarks.training import DEVICE
from datamodules.judged_queries import names_corpus, ranking
from zoo.export import save
from zoo.methods.lahore.encoder import RelevanceEncoder
from zoo.records import Ranking

DOMAINS = 2  # of ten, the first ones of the file: 30 intents, 3,000 training texts
CANDIDATES = 10
# No system line and no question: constant texts say nothing to a model from scratch.
PROMPT: dict[str, Any] = {
    "template": "paper",
    "system": "",
    "relevance": False,
    "choice": False,
    "document_tokens": 12,
    "max_length": 96,
}
SIZE = (96, 256)  # width, inner width
VOCABULARY = 2048
FIXED = ("user\ndocument:", "\nquery:", "assistant\n")  # what every prompt holds beside its texts
STEPS, TEXTS_PER_STEP, RATE = 600, 32, 3e-3  # of the language model


def read(split: str, seed: int, labelled: Any = None) -> list[Ranking]:
    """Return the queries of a split in a random order.

    Args:
        split: `train`, `val` or `test`.
        seed: Of the order and of each query's candidates; the same for all rows.
        labelled: CLINC150's data module; by default that of `$ZOO_DATA`.
    """
    labelled = labelled or datamodules.CLINC150(trials.data_path("clinc150"))
    records = labelled.records(split)
    taxonomy = records[0].taxonomy
    domains = {domain: taxonomy.below((domain,)) for domain in taxonomy.below(())[:DOMAINS]}
    corpus = names_corpus([name for names in domains.values() for name in names])
    found = []
    for record in records:
        domain, intent = record.labels
        if domain in domains:
            names = candidates(intent, domains[domain], f"{seed} {record.id}")
            grades = {intent: 1}
            found.append(
                ranking(record.id, record.text, corpus, grades, candidates=names, id=record.id)
            )
    random.Random(seed).shuffle(found)
    return found


def candidates(right: str, names: Sequence[str], seed: str) -> tuple[str, ...]:
    """Return the right name and others, `CANDIDATES` in all or as many as there are, sorted."""
    others = [name for name in names if name != right]
    drawn = random.Random(seed).sample(others, min(CANDIDATES - 1, len(others)))
    return tuple(sorted([right, *drawn]))


def right_of(record: Ranking) -> str:
    """Return the name of a query's intent."""
    return record.relevant[0][0]


def naive_bayes(records: Sequence[Ranking], train: Sequence[Ranking]) -> Scores:
    """Return log p(words | intent), words counted in training queries, one added to each count."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in train:
        counts[right_of(record)].update(words(record))
    known = len({word for each in counts.values() for word in each})
    totals = {name: counts[name].total() + known for name in records[0].corpus.documents}
    return [
        [
            sum(math.log((counts[name][word] + 1) / totals[name]) for word in words(record))
            for name in record.pool
        ]
        for record in records
    ]


def words(record: Ranking) -> list[str]:
    """Return the words of a query."""
    return record.query.lower().split()


def write_backbone(folder: Path, train: Sequence[Ranking]) -> None:
    """Write a small Llama that was trained on prompts of right pairs; the folder must not exist.

    Args:
        folder: Where to.
        train: Queries, whose prompts and tokenizer it learns, in whatever order.
    """
    train = sorted(train, key=lambda record: record.id)
    texts = [record.query for record in train]
    tokenizer = bpe_tokenizer(
        [*texts, *train[0].corpus.documents, *(len(texts) * FIXED)], VOCABULARY
    )
    with tempfile.TemporaryDirectory() as start:
        write_llama(Path(start), tokenizer, *SIZE, window=PROMPT["max_length"])
        module = zoo.LaHoRe(backbone={"name": start}, **PROMPT)
        module.configure_model()
    torch.manual_seed(0)
    for weight in module.lm.parameters():
        if weight.ndim > 1:  # transformers' 0.02 is far too small for this width
            torch.nn.init.normal_(weight, std=SIZE[0] ** -0.5)
    draws = random.Random(0)
    learn(module.to(DEVICE).lm, texts_to_read(module.encoder(), train, draws), draws)
    save(module, folder)


def texts_to_read(
    encoder: RelevanceEncoder, train: Sequence[Ranking], draws: random.Random
) -> list[torch.Tensor]:
    """Return the token ids of each right pair's prompt, `(L,)`, and of an answer by the dice.

    "True" is drawn as often as one of `CANDIDATES` is right: what an answer looks like is known to
    the backbone, and that the answer has to do with the prompt is not.
    """
    texts = []
    for record in train:
        head, tail = encoder.halves(record.query, record.corpus.documents[right_of(record)])
        true, false = encoder.option_ids
        answer = true if draws.random() < 1 / CANDIDATES else false
        texts.append(torch.tensor([*head, *tail, answer, *encoder.end_ids]))
    return texts


def learn(lm: Any, texts: Sequence[torch.Tensor], draws: random.Random) -> None:
    """Train a language model on all tokens of texts, `(L,)` each."""
    optimizer = torch.optim.AdamW(lm.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.05)
    lm.train()
    for _ in range(STEPS):
        rows = draws.choices(texts, k=TEXTS_PER_STEP)
        ids, labels = (pad_sequence(rows, True, value).to(DEVICE) for value in (0, -100))
        lm(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

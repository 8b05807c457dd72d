"""CLINC150 intents as documents, and the size of the small Llama that ranks them.

A query is a text of CLINC150, its documents are the names of its intent and of nine others of the
same domain.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import datamodules
from benchmarks import trials
from benchmarks.ranking.small_backbone import SmallModel
from datamodules.clinc150 import in_file_order
from datamodules.judged_queries import names_corpus, ranking
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
MODEL = SmallModel(PROMPT, size=(96, 256), vocabulary=2048, steps=600, pool=CANDIDATES)


def read(split: str, seed: int, labelled: Any = None) -> list[Ranking]:
    """Return the queries of a split in a random order.

    Args:
        split: `train`, `val` or `test`.
        seed: Of the order and of each query's candidates; the same for all rows.
        labelled: CLINC150's data module; by default that of `$ZOO_DATA`.
    """
    labelled = labelled or datamodules.CLINC150(trials.data_path("clinc150"))
    records = in_file_order(labelled.records(split))
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

"""Rankers to compare with: random, frequency, words, BM25, a sentence encoder, a model's states.

Each takes ranking records of one corpus and returns a score for each document of each record's
pool, as `RankingModule.scores` does, so that all go through the same measures.
"""

from __future__ import annotations

import importlib
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.records import Ranking

Scores = list[list[float]]
Kept = dict[tuple[str, str], Tensor]  # (role, text) -> its vector
Embed = Callable[[list[str], str], Tensor]  # texts, role -> unit vectors
MAX_TOKENS = {"query": 128, "document": 256}  # all-MiniLM-L6-v2: trained with 128, made for 256


_KEPT: dict[str, Kept] = {}  # sentence encoder -> what it has embedded


def random_scores(records: Sequence[Ranking], seed: int = 0) -> Scores:
    """Return uniform random scores; they depend on the seed and the record's id."""
    rows = []
    for record in records:
        draw = random.Random(f"{seed} {record.id}")
        rows.append([draw.random() for _ in record.pool])
    return rows


def frequency_scores(records: Sequence[Ranking], train: Sequence[Ranking]) -> Scores:
    """Return how many training queries each document is relevant for, whatever the query says.

    Args:
        records: What to rank.
        train: Records with the same documents.
    """
    counts = Counter(name for record in train for name, grade in record.relevant if grade > 0)
    return [[float(counts[name]) for name in record.pool] for record in records]


def naive_bayes(records: Sequence[Ranking], train: Sequence[Ranking]) -> Scores:
    """Return log p(words | document), words counted in training queries, one added to each count.

    Args:
        records: What to rank.
        train: Queries with one right document each, the first of the relevant ones.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in train:
        counts[record.relevant[0][0]].update(record.query.lower().split())
    known = len({word for each in counts.values() for word in each})
    totals = {name: counts[name].total() + known for name in records[0].corpus.documents}
    return [
        [
            sum(
                math.log((counts[name][word] + 1) / totals[name])
                for word in record.query.lower().split()
            )
            for name in record.pool
        ]
        for record in records
    ]


def bm25_scores(records: Sequence[Ranking]) -> Scores:
    """Return BM25 scores (bm25s: Lucene's form, k1 1.5, b 0.75, English stop words, no stemming).

    Document frequencies are those of the corpus, whatever the pools.
    """
    bm25s = _needed("bm25s")
    names, texts = _corpus(records)
    options = {"stopwords": "en", "show_progress": False, "return_ids": False}
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, **options), show_progress=False)
    asked = bm25s.tokenize([record.query for record in records], **options)
    place = {name: i for i, name in enumerate(names)}
    rows = []
    for record, words in zip(records, asked, strict=True):
        known = index.get_tokens_ids(words)
        scores = index.get_scores_from_ids(known) if known else [0.0] * len(names)
        rows.append([float(scores[place[name]]) for name in record.pool])
    return rows


def sentence_scores(records: Sequence[Ranking], model: str = "minilm") -> Scores:
    """Return cosines of sentence embeddings (sentence-transformers).

    A query that is too long loses its beginning, because what is asked stands at the end; a
    document loses its end. Embeddings are kept: tasks that share texts encode them once.

    Args:
        records: What to rank.
        model: Preset, folder or hub id.
    """
    from zoo.model_files import resolve

    _needed("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(resolve(model, "--model"), device="cpu", local_files_only=True)

    def embed(texts: list[str], role: str) -> Tensor:
        encoder.max_seq_length = MAX_TOKENS[role]
        encoder.tokenizer.truncation_side = "left" if role == "query" else "right"
        return encoder.encode(
            texts, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )

    return _cosines(records, embed, _KEPT.setdefault(model, {}))


def state_scores(
    records: Sequence[Ranking], model: str = "smollm2-135m", batch_size: int = 16
) -> Scores:
    """Return cosines of a language model's last state (after its final norm) at the last token.

    Args:
        records: What to rank.
        model: Preset, folder, hub id or tiny backbone.
        batch_size: Texts at a time.
    """
    from zoo.backbone import Backbone, load

    lm, tokenizer = load(Backbone(name=model))
    lm.eval()

    def embed(texts: list[str], role: str) -> Tensor:
        limit = MAX_TOKENS[role]
        rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        rows = [row[-limit:] if role == "query" else row[:limit] for row in rows]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        states = torch.empty(len(rows), lm.config.hidden_size)
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            states[part] = _last_states(lm, [rows[i] for i in part])
        return torch.nn.functional.normalize(states, dim=1)

    return _cosines(records, embed, {})


RANKERS: dict[str, Callable[..., Scores]] = {
    "random": random_scores,
    "frequency": frequency_scores,
    "bm25": bm25_scores,
    "sentence": sentence_scores,
    "states": state_scores,
}


@torch.inference_mode()
def _last_states(lm: Any, rows: list[list[int]]) -> Tensor:
    """Return the state of each row's last token; rows are padded at the right."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    top = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return top[torch.arange(len(rows)), lengths - 1].float()


def _cosines(records: Sequence[Ranking], embed: Embed, kept: Kept) -> Scores:
    """Return inner products of unit vectors; a text that is not among the kept is embedded once."""
    names, texts = _corpus(records)
    for role, given in (("query", [record.query for record in records]), ("document", texts)):
        new = [text for text in dict.fromkeys(given) if (role, text) not in kept]
        if new:
            vectors = embed(new, role)
            kept |= {(role, text): vector for text, vector in zip(new, vectors, strict=True)}
    documents = torch.stack([kept["document", text] for text in texts])
    place = {name: i for i, name in enumerate(names)}
    rows = []
    for record in records:
        scores = documents @ kept["query", record.query]
        rows.append(scores[[place[name] for name in record.pool]].tolist())
    return rows


def _corpus(records: Sequence[Ranking]) -> tuple[list[str], list[str]]:
    """Return ids and contents of the one corpus of all records."""
    corpus = records[0].corpus
    if any(record.corpus is not corpus for record in records):
        raise ValueError("the records have several corpora; rank those of one at a time")
    return list(corpus.documents), [document.content for document in corpus.documents.values()]


def _needed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"this ranker needs {package}: pip install -e '.[retrieval]'") from error

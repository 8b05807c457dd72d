"""Rankers that learn nothing here: random, BM25, a sentence encoder, a language model's states.

Each takes ranking records of one corpus and returns a score for each document of each record's
pool, as `RankingModule.scores` does, so that all go through the same measures.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.records import Ranking

Scores = list[list[float]]
MAX_TOKENS = 256  # of a text that is encoded; what all-MiniLM-L6-v2 was made for


def random_scores(records: Sequence[Ranking], seed: int = 0) -> Scores:
    """Return uniform random scores; they depend on the seed and the record's id."""
    rows = []
    for record in records:
        draw = random.Random(f"{seed} {record.id}")
        rows.append([draw.random() for _ in record.pool])
    return rows


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
    document loses its end.

    Args:
        records: What to rank.
        model: Preset, folder or hub id.
    """
    from zoo.sources import resolve

    _needed("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(resolve(model, "--model"), device="cpu", local_files_only=True)
    encoder.max_seq_length = min(encoder.max_seq_length or MAX_TOKENS, MAX_TOKENS)

    def embed(texts: list[str], side: str) -> Tensor:
        encoder.tokenizer.truncation_side = side
        return encoder.encode(
            texts, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )

    return _cosines(records, embed)


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

    def embed(texts: list[str], side: str) -> Tensor:
        rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        rows = [row[-MAX_TOKENS:] if side == "left" else row[:MAX_TOKENS] for row in rows]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        states = torch.empty(len(rows), lm.config.hidden_size)
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            states[part] = _last_states(lm, [rows[i] for i in part])
        return torch.nn.functional.normalize(states, dim=1)

    return _cosines(records, embed)


RANKERS: dict[str, Callable[..., Scores]] = {
    "random": random_scores,
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


def _cosines(records: Sequence[Ranking], embed: Callable[[list[str], str], Tensor]) -> Scores:
    """Return inner products of unit vectors; each distinct text is embedded once."""
    names, texts = _corpus(records)
    asked = list(dict.fromkeys(record.query for record in records))
    scores = embed(asked, "left") @ embed(texts, "right").t()
    place = {name: i for i, name in enumerate(names)}
    row = {query: i for i, query in enumerate(asked)}
    return [
        scores[row[record.query], [place[name] for name in record.pool]].tolist()
        for record in records
    ]


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

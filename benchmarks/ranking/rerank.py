"""Reranking with documents that are kept: 300 document tokens, 60 query tokens, fp32.

Every step scores one document for all queries of the step; its keys and values are there already,
as in an index.

- `ours`: `read_pairs` over a store: the queries' tokens run over a view of the document, two rows
  of the head are read.
- `full`, the first peer: Hugging Face runs every pair whole, `logits_to_keep=1`.
- `repeat`: Hugging Face continues from a cache that `batch_repeat_interleave` copies for every row
  of a batch, `logits_to_keep=1`: what is left to win is the copy and the head.

No row is padded on any side, so the peers lose nothing there. Scores agree and every query ranks
the documents alike before a time is looked at. The bound counts FLOPs of blocks and head alone.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks.harness import BenchmarkError, Sample, Setting, interleave
from benchmarks.meters import time_steps
from benchmarks.peers import hugging_face
from benchmarks.result import Peer, Result, agree, compare, summarise
from benchmarks.workload import BACKBONE, dialogues, shuffled
from zoo.backbone import Backbone
from zoo.decoding.option_logits import relevance_score
from zoo.decoding.prefix_cache import Prefixes, prefill
from zoo.methods.lahore.module import LaHoRe
from zoo.nn.blocks import CACHE
from zoo.ranking.pair_scoring import Store, read_pairs

CLAIM = "reranking 64 queries with a kept document, 300/60 tokens: >= 3.5x as fast as whole pairs"
NAME = "rerank"
DOCUMENT, QUERY = 300, 60  # tokens of the two halves of a prompt
BATCH = 16  # rows at a time on all sides
TOLERANCE = 1e-3  # of log-odds, in fp32
Ids = tuple[int, ...]


def halves(encoder: Any, documents: int, queries: int) -> tuple[list[Ids], list[Ids]]:
    """Return heads of 300 tokens and tails of 60, cut from dialogues."""
    records = shuffled(dialogues()[0])
    texts = ["\n".join(turn.text for turn in record.turns) for record in records]
    kept = [ids for text in texts for ids in [encoder.ids(text)] if len(ids) >= DOCUMENT]
    room = DOCUMENT - len(encoder.opening)
    heads = [(*encoder.opening, *ids[:room]) for ids in kept[:documents]]
    room = QUERY - len(encoder.middle) - len(encoder.closing)
    asked = random.Random(0).sample(kept, queries)
    tails = [(*encoder.middle, *ids[-room:], *encoder.closing) for ids in asked]
    return heads, tails


def ours(setting: Setting, *, documents: int, queries: int) -> Sample:
    """Score with kept documents."""
    module = LaHoRe(Backbone(BACKBONE))
    module.configure_model()
    module.to(setting.device).eval()
    encoder, lm = module.encoder(), module.lm
    heads, tails = halves(encoder, documents, queries)
    store: Store[Prefixes] = Store()
    with torch.inference_mode():
        for head, prefix in zip(heads, prefill(lm, heads).split(), strict=True):
            store.add(head, prefix, prefix.num_bytes)

    def score(head: Ids) -> Tensor:
        pairs = [(head, i) for i in range(len(tails))]
        budget = BATCH * QUERY
        return read_pairs(lm, {}, tails, pairs, module.read, store=store, budget=budget)

    body = sum(p.numel() for p in lm.model.layers.parameters() if p.ndim > 1)
    sizes = {"body": body, "head": lm.lm_head.weight.numel(), "width": lm.config.hidden_size}
    return _time(score, heads, len(tails), module, setting, sizes=sizes)


def full(setting: Setting, *, documents: int, queries: int) -> Sample:
    """Score whole pairs with Hugging Face."""
    lm, encoder = hugging_face(BACKBONE, setting.device), LaHoRe(Backbone(BACKBONE)).encoder()
    heads, tails = halves(encoder, documents, queries)

    def score(head: Ids) -> Tensor:
        scores = []
        for rows in batches(tails):
            ids = torch.tensor([[*head, *tail] for tail in rows], device=setting.device)
            logits = lm(ids, use_cache=False, logits_to_keep=1).logits[:, -1]
            scores.append(relevance_score(logits[:, encoder.option_ids].float()))
        return torch.cat(scores)

    return _time(score, heads, len(tails), lm, setting)


def repeat(setting: Setting, *, documents: int, queries: int) -> Sample:
    """Score from a cache that is copied for every row."""
    lm, encoder = hugging_face(BACKBONE, setting.device), LaHoRe(Backbone(BACKBONE)).encoder()
    heads, tails = halves(encoder, documents, queries)
    caches = {}
    with torch.inference_mode():
        for head in heads:
            caches[head] = DynamicCache()
            ids = torch.tensor([head], device=setting.device)
            lm(ids, logits_to_keep=1, **{CACHE: caches[head]})

    def score(head: Ids) -> Tensor:
        scores = []
        for rows in batches(tails):
            cache = copy.deepcopy(caches[head])
            cache.batch_repeat_interleave(len(rows))
            ids = torch.tensor(rows, device=setting.device)
            logits = lm(ids, logits_to_keep=1, **{CACHE: cache}).logits[:, -1]
            scores.append(relevance_score(logits[:, encoder.option_ids].float()))
        return torch.cat(scores)

    return _time(score, heads, len(tails), lm, setting)


def batches(tails: Sequence[Ids]) -> list[Sequence[Ids]]:
    """Return the tails in batches."""
    return [tails[i : i + BATCH] for i in range(0, len(tails), BATCH)]


@torch.inference_mode()
def _time(
    score: Callable[[Ids], Tensor],
    heads: Sequence[Ids],
    queries: int,
    model: torch.nn.Module,
    setting: Setting,
    **notes: Any,
) -> Sample:
    """Time one document per step; the first one warms up."""
    scores, measured = time_steps(lambda head: score(head).tolist(), heads, model, setting.device)
    by_query = torch.tensor(scores).t()
    ranking = by_query.argsort(dim=1, descending=True, stable=True).tolist()
    return Sample(
        **measured,
        work={"pairs": [float(queries)] * (len(heads) - 1)},
        checks={"ranking": ranking, "scores": scores},
        notes={"data": dialogues()[1], **notes},
    )


def bound(notes: dict[str, Any]) -> float:
    """Return the highest ratio that FLOPs of blocks and head allow."""
    whole = (DOCUMENT + QUERY) * notes["body"] + notes["head"]
    return float(whole / (QUERY * notes["body"] + 2 * notes["width"]))


def closest(ours: Sample, theirs: Sample) -> float:
    """Return the largest difference of a score.

    Raises:
        BenchmarkError: It is above the tolerance.
    """
    a, b = (torch.tensor(sample.checks["scores"]) for sample in (ours, theirs))
    difference = (a - b).abs().max().item()
    if not difference <= TOLERANCE:
        raise BenchmarkError(f"scores differ by {difference}, tolerance {TOLERANCE}")
    return difference


SIDES = {"ours": ours, "full": full, "repeat": repeat}
PEERS = {
    "full": "Hugging Face, every pair whole",
    "repeat": "Hugging Face, the document's cache copied for every row",
}


def run(setting: Setting) -> Result:
    """Score some documents for 64 queries (quick: 16) in turn."""
    options = {"documents": 3, "queries": 16 if setting.quick else 64}
    samples = interleave(NAME, dict.fromkeys(SIDES, options), setting, 1)
    mine = samples["ours"][0]
    checks: dict[str, Any] = {}
    for peer in PEERS:
        same = agree(mine, samples[peer][0], {"ranking": 0.0})
        checks[peer] = {**same, "scores": closest(mine, samples[peer][0])}
    limit = bound(mine.notes["sizes"])
    peers = [
        Peer(PEERS["full"], "full", target=3.5, bound=limit),
        Peer(PEERS["repeat"], "repeat"),
    ]
    repeated = summarise(samples["repeat"])
    return compare(NAME, CLAIM, peers, samples, checks, repeat=repeated, **options)

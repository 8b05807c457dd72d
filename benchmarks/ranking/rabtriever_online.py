"""Rabtriever online: the time of a query does not depend on the documents, but for one product.

A step is one query, all of which is timed: one LLM pass over its tokens and the predictor, then one
matrix product with the documents' vectors and the ten best (noted by itself too).

- `few`, `many`, `long`: 10 documents of 16 tokens, 10,000 of 16, 10 of 64. Document vectors are
  random there: their values change no time. Before that, eight real documents are ranked by the
  product and document by document, and have to come out alike.
- `teacher`: the reranker over 10 documents whose keys and values are kept, a pass for each.
- `faiss`: 100,000 vectors in a FAISS index of inner products; its ten best are those of brute
  force. Its step is a search.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import BenchmarkError, Sample, Setting, interleave, measure
from benchmarks.meters import Clock, time_steps
from benchmarks.result import Peer, Result, compare, quantiles, summarise, versus
from benchmarks.workload import BACKBONE, dialogues, shuffled
from zoo.backbone import Backbone
from zoo.methods.lahore.module import LaHoRe
from zoo.methods.m3_jepa.metrics import search
from zoo.methods.rabtriever.module import Rabtriever
from zoo.ranking.faiss_search import vector_search
from zoo.records import Corpus, Document, Ranking

CLAIM = "Rabtriever: a query costs the same for 10 or 10,000 documents, of 16 or 64 tokens"
NAME = "rabtriever_online"
FLAT = 0.1  # how far apart the times may be
K = 10


def build(setting: Setting, document_tokens: int) -> Any:
    """Return a module with an untrained predictor; nothing is kept, so every query is run."""
    module = Rabtriever(Backbone(BACKBONE), document_tokens=document_tokens, cache_gib=0.0)
    module.configure_model()
    return module.to(setting.device).eval()


def queries(count: int) -> list[str]:
    """Return queries of about 60 tokens: the last words of dialogues."""
    records = shuffled(dialogues()[0])[:count]
    words = [" ".join(turn.text for turn in record.turns).split() for record in records]
    return [" ".join(part[-24:]) for part in words]


def some_documents(count: int) -> Corpus:
    """Return documents that differ in their first words."""
    records = shuffled(dialogues()[0])[:count]
    texts = [" ".join(turn.text for turn in record.turns) for record in records]
    return Corpus({str(i): Document(str(i), text) for i, text in enumerate(texts)})


@torch.inference_mode()
def online(setting: Setting, *, documents: int, document_tokens: int, steps: int) -> Sample:
    """Time queries over random vectors; the first one warms up."""
    module = build(setting, document_tokens)
    same = alike(module)
    vectors = torch.randn(documents, module.lm.config.hidden_size, device=setting.device)

    def rank(query: str) -> Tensor:
        vector = module.search_vectors([query])
        search(vector, vectors, K)[1].tolist()
        return vector

    asked, measured = time_steps(rank, queries(steps + 1), module, setting.device)
    products = Clock("cpu")  # the result is on the CPU, so its time is the device's too
    for vector in asked:
        search(vector, vectors, K)[1].tolist()
        products.mark()
    return Sample(
        **measured,
        work={"queries": [1.0] * steps},
        checks={"alike": same},
        notes={
            "product_seconds": quantiles(products.steps()["seconds"])[1],
            "data": dialogues()[1],
        },
    )


def alike(module: Any) -> bool:
    """Say whether one product ranks as W (u * z), document by document."""
    corpus, (query,) = some_documents(8), queries(1)
    record = Ranking(query, corpus, (), id="q")
    tail = module.encoder().half("tail", "query", query)
    last = module.frozen.alone(module.lm, [tail])[tail][-1]
    u, head = module.predictor(module.lm.model.norm(last)), module.lm.lm_head.weight
    true, false = module.encoder().option_ids
    one_by_one = []
    for document in corpus.documents.values():
        z = module.document_vectors([module.encoder().half("head", "document", document.content)])
        h = u * z[0]
        one_by_one.append((head[true] @ h - head[false] @ h).item())
    ours = module.scores([record])[0]
    order = [sorted(range(8), key=values.__getitem__) for values in (ours, one_by_one)]
    return order[0] == order[1]


@torch.inference_mode()
def teacher(setting: Setting, *, documents: int, document_tokens: int, steps: int) -> Sample:
    """Time the reranker over the same number of documents, their keys and values kept."""
    module = LaHoRe(Backbone(BACKBONE), template="followup", document_tokens=document_tokens)
    module.configure_model()
    module.to(setting.device).eval()
    module.store = module.new_store()
    corpus = some_documents(documents)
    records = [Ranking(query, corpus, (), id=query) for query in queries(steps + 1)]
    # the first one fills the store and warms up
    _, measured = time_steps(lambda r: module.scores([r]), records, module, setting.device)
    return Sample(**measured, work={"queries": [1.0] * steps})


@torch.inference_mode()
def faiss(setting: Setting, *, documents: int, steps: int) -> Sample:
    """Search many vectors by FAISS; compare its ten best with brute force."""
    module = build(setting, 16)
    vectors = torch.randn(documents, module.lm.config.hidden_size)
    asked = queries(steps)
    clock = Clock("cpu")
    clock.mark()
    _, places = vector_search(module, asked, vectors, K)
    clock.mark()
    brute = search(module.search_vectors(asked).cpu(), vectors, K)[1]
    taken: dict[str, Any] = clock.steps()
    return Sample(**taken, checks={"equal": bool(torch.equal(places, brute))})


SIDES = {"few": online, "many": online, "long": online, "teacher": teacher, "faiss": faiss}


def run(setting: Setting) -> Result:
    """Time all sides in turn; compare `few` with the teacher, and with `many` and `long`."""
    steps, repeats = (5, 2) if setting.quick else (20, 3)
    sides = {
        "few": {"documents": 10, "document_tokens": 16, "steps": steps},
        "many": {"documents": 10_000, "document_tokens": 16, "steps": steps},
        "long": {"documents": 10, "document_tokens": 64, "steps": steps},
        "teacher": {"documents": 10, "document_tokens": 16, "steps": min(steps, 5)},
    }
    samples = interleave(NAME, sides, setting, repeats)
    checks: dict[str, Any] = {}
    for side in ("few", "many", "long"):
        if not samples[side][0].checks["alike"]:
            raise BenchmarkError(f"{side}: the product ranks otherwise than document by document")
        checks[side] = {"alike": True}
    faiss_sample = measure(NAME, "faiss", setting, documents=100_000, steps=4)
    if not faiss_sample.checks["equal"]:
        raise BenchmarkError("faiss: its ten best are not those of brute force")
    checks["faiss"] = {"ten best of 100,000 equal": True}
    flat = [
        Peer("10,000 documents instead of 10", "many", "few"),
        Peer("64 document tokens instead of 16", "long", "few"),
    ]
    level = {peer.side: versus(samples, peer) for peer in flat}
    apart = {side: (part["cpu_ratio"] or part["ratio"]) - 1 for side, part in level.items()}
    count = len(samples["teacher"][0].seconds)
    few = [
        dataclasses.replace(s, seconds=s.seconds[:count], cpu_seconds=s.cpu_seconds[:count])
        for s in samples["few"]
    ]
    peers = [Peer("the reranker over 10 documents with kept states", "teacher"), *flat]
    details = {
        "flat": {side: abs(ratio) <= FLAT for side, ratio in apart.items()},
        "faiss_seconds": faiss_sample.seconds[0],
        **{side: summarise(taken) for side, taken in samples.items()},
    }
    return compare(NAME, CLAIM, peers, {**samples, "ours": few}, checks, **details)

"""Rabtriever's ranking online: one pass per query, one matrix product over kept states."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.rabtriever.rabtriever_samples import (
    RECORDS,
    batch_of,
    padded,
    pairs_of,
    student,
    teacher_scores,
)

from zoo.ranking.index import Index, build
from zoo.ranking.metrics import ranked
from zoo.records import Corpus, Document, Ranking

# -- 5: cost -----------------------------------------------------------------------------------


class Passes:
    """Counts tokens that the blocks run, and how often."""

    def __init__(self, module: Any) -> None:
        self.tokens: list[int] = []
        self.hook = module.lm.model.layers[0].register_forward_hook(
            lambda _, inputs, __: self.tokens.append(inputs[0].shape[0] * inputs[0].shape[1])
        )

    def of(self, run: Any) -> list[int]:
        self.tokens = []
        run()
        return self.tokens


def pool(size: int, text: str = "skill") -> Corpus:
    return Corpus({str(i): Document(str(i), f"{text} {i}") for i in range(size)})


@pytest.mark.fidelity("rabtriever", 5)
def test_online_is_one_pass_per_query_and_none_per_document(make: Any, shape: str) -> None:
    """Tokens online: the query's, for 3 or 60 documents, short or long; the teacher's grow."""
    module = student(make, shape, cache_gib=0.0)  # nothing is kept
    counted = Passes(module)
    query = "which skill?"
    size = len(module.encoder().half("tail", "query", query))
    for documents in (pool(3), pool(60), pool(3, "a longer name of a skill")):
        states = module.offline(list(documents.documents.values()))
        ran = counted.of(lambda states=states: module.online([query], states))
        assert ran == [size]
    ran = counted.of(lambda: module.search_vectors([query, "x"]))
    assert len(ran) == 1  # both queries in one pass, end to end
    costs = []
    for count, text in ((3, "s"), (30, "s"), (3, "a longer name")):
        record = Ranking(query, pool(count, text), (("0", 1),), id="r")
        costs.append(sum(counted.of(lambda record=record: teacher_scores(module, [record]))))
    assert costs[1] > 8 * costs[0]
    assert costs[2] > costs[0]


@pytest.mark.fidelity("rabtriever", 5)
def test_kept_states_are_not_run_again(make: Any) -> None:
    module = student(make, "tiny-llama")
    counted = Passes(module)
    first = module.losses(batch_of(module))
    sizes = counted.of(lambda: None)
    sizes = counted.of(lambda: module.losses(batch_of(module)))
    tails = [len(pair.tail) for pair in pairs_of(module)]
    assert sizes == [len(tails) * max(tails)]  # the teacher's pass alone
    for name, term in module.losses(batch_of(module)).items():
        assert torch.equal(term.sum, first[name].sum)


def test_states_of_another_teacher_are_not_kept(make: Any) -> None:
    module, other = student(make, "tiny-llama"), student(make, "tiny-llama")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += torch.randn_like(parameter) / 10
    before = module.scores(RECORDS)
    module.load_state_dict(other.state_dict())
    assert before != module.scores(RECORDS) == other.scores(RECORDS)


# -- 6: one matrix product ---------------------------------------------------------------------


@pytest.mark.fidelity("rabtriever", 6)
@torch.no_grad()
def test_a_loop_and_a_product_rank_alike(make: Any, shape: str, tmp_path: Path) -> None:
    """h = u * z, l = W h document by document; one product; an index on disk; FAISS."""
    module = student(make, shape)
    documents = pool(40, "skill number")
    records = [Ranking(q, documents, (("0", 1),), id=q) for q in ("open the door", "be kind")]
    encoder, head = module.encoder(), module.lm.lm_head.weight
    true, false = encoder.option_ids
    loops = []
    for record in records:
        tail = encoder.half("tail", "query", record.query)
        places = torch.arange(encoder.slot, encoder.slot + len(tail))[None]
        blind = module.lm.model(torch.tensor([tail]), position_ids=places).last_hidden_state
        u = module.predictor(blind[0, -1])
        found = {}
        for name, document in documents.documents.items():
            pair = SimpleNamespace(head=encoder.half("head", "document", document.content), tail=())
            h = u * padded(module, pair)[encoder.slot - 1]
            found[name] = (head[true] @ h - head[false] @ h).item()
        loops.append(found)
    for record, row, found in zip(records, module.scores(records), loops, strict=True):
        ours = dict(zip(record.pool, row, strict=True))
        assert ours == pytest.approx(found, abs=1e-5)
        assert ranked(ours) == ranked(found)
        assert max(row) - min(row) > 1e-3
    build(module, list(documents.documents.values()), tmp_path / "i", shard_size=16)
    opened = Index(module, tmp_path / "i")
    for engine in ("torch", "faiss"):
        if engine == "faiss":
            pytest.importorskip("faiss")
        rows = opened.search([record.query for record in records], 10, engine=engine)
        for row, found in zip(rows, loops, strict=True):
            assert [name for name, _ in row] == ranked(found)[:10]
            assert [s for _, s in row] == pytest.approx([found[n] for n, _ in row], abs=1e-5)


# -- 7: without the product --------------------------------------------------------------------


@pytest.mark.fidelity("rabtriever", 7)
def test_without_the_product_all_documents_tie(make: Any, shape: str) -> None:
    for row in student(make, shape, product=False).scores(RECORDS):
        assert len(set(row)) == 1
    for row in student(make, shape).scores(RECORDS):
        assert len(set(row)) == len(row)

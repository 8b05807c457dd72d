from __future__ import annotations

import time

import pytest

from benchmarks.harness import BenchmarkError, Sample, Setting
from benchmarks.ranking import rabtriever_online, rerank

TINY = Setting("cpu", quick=True)


@pytest.fixture
def tiny(monkeypatch, save_tiny):
    folder = save_tiny(20)
    for module in (rerank, rabtriever_online):
        monkeypatch.setattr(module, "BACKBONE", folder)
    monkeypatch.setattr(rerank, "QUERY", 230)  # byte tokens: the question alone takes 180


def test_three_sides_score_alike(tiny):
    options = {"documents": 4, "queries": 8}
    sides = [rerank.SIDES[name](TINY, **options) for name in ("ours", "full", "repeat")]
    for sample in sides[1:]:
        assert rerank.closest(sides[0], sample) < 1e-5
        assert sample.checks["ranking"] == sides[0].checks["ranking"]
    assert [len(sample.seconds) for sample in sides] == [3, 3, 3]
    assert len({tuple(row) for row in sides[0].checks["ranking"]}) > 1
    moved = Sample(
        [], checks={"scores": [[x + 0.01 for x in r] for r in sides[0].checks["scores"]]}
    )
    with pytest.raises(BenchmarkError, match="scores differ by 0.01"):
        rerank.closest(sides[0], moved)


def test_halves_have_the_claimed_lengths(tiny):
    from zoo.backbone import Backbone
    from zoo.methods.lahore.module import LaHoRe

    encoder = LaHoRe(Backbone(rerank.BACKBONE)).encoder()
    heads, tails = rerank.halves(encoder, 2, 4)
    assert {len(head) for head in heads} == {rerank.DOCUMENT}
    assert {len(tail) for tail in tails} == {rerank.QUERY}
    assert (len(set(heads)), len(set(tails))) == (2, 4)


def test_bound_of_an_8b_shape(monkeypatch):
    monkeypatch.setattr(rerank, "QUERY", 60)
    sizes = {"body": 6.98e9, "head": 0.525e9, "width": 4096}
    assert rerank.bound(sizes) == pytest.approx(6.0, abs=0.01)


def test_online_sides(tiny):
    few, many = (
        rabtriever_online.online(TINY, documents=n, document_tokens=16, steps=2) for n in (10, 500)
    )
    assert few.checks["alike"]
    assert len(few.seconds) == len(many.seconds) == 2
    assert many.notes["product_seconds"] > 0
    teacher = rabtriever_online.teacher(TINY, documents=4, document_tokens=16, steps=2)
    assert len(teacher.seconds) == 2


def test_a_query_is_timed_with_its_search(tiny, monkeypatch):
    """What the documents cost is in the time that is compared, not beside it alone."""
    plain = rabtriever_online.search

    def slow(*args):
        time.sleep(0.2)
        return plain(*args)

    monkeypatch.setattr(rabtriever_online, "search", slow)
    many = rabtriever_online.online(TINY, documents=500, document_tokens=16, steps=2)
    assert min(many.seconds) > 0.2
    assert many.notes["product_seconds"] > 0.2


def test_faiss_side(tiny):
    pytest.importorskip("faiss")
    assert rabtriever_online.faiss(TINY, documents=2000, steps=3).checks["equal"]

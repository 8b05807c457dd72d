"""Ranking scores beside trec_eval and ir-measures, on one fixed run with every awkward case."""

from __future__ import annotations

import math
import random

import ir_measures as measures
import pytest
import pytrec_eval

from zoo.ranking.metrics import (
    bootstrap,
    mean_scores,
    query_scores,
    ranked,
    recall_curve,
)

Table = dict[str, dict[str, float]]


def fixture() -> tuple[dict[str, dict[str, int]], Table]:
    """Return judgements and a run: grades 0 to 3, unjudged documents, ties, missing documents."""
    draw = random.Random(3)
    qrels: dict[str, dict[str, int]] = {}
    run: Table = {}
    for q in range(40):
        names = [f"d{n}" for n in draw.sample(range(200), 60)]
        qrels[f"q{q}"] = {name: draw.choice([0, 0, 0, 1, 2, 3, -1]) for name in names[:30]}
        # Few distinct scores: many ties. Half of the ranked documents were never judged, and a
        # third of the judged ones are not ranked.
        run[f"q{q}"] = {name: draw.randrange(12) / 4 for name in names[10:50]}
    qrels["single"] = {"d7": 1}
    run["single"] = {f"d{n}": 1.0 for n in range(12)}  # nothing but ties
    qrels["none relevant"] = {"d1": 0, "d2": 0}
    run["none relevant"] = {"d1": 2.0, "d3": 1.0}
    qrels["short"] = {"d1": 1, "d2": 3}
    run["short"] = {"d2": 0.5}
    run["not judged"] = {"d1": 1.0}
    return qrels, run


def ours(qrels: dict[str, dict[str, int]], run: Table) -> dict[str, dict[str, float]]:
    return {q: query_scores(run[q], qrels[q], (1, 3, 5, 100)) for q in run if q in qrels}


def test_agrees_with_trec_eval() -> None:
    qrels, run = fixture()
    measures = {"recall_1", "recall_3", "recall_5", "recall_100", "ndcg_cut_10", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    found = ours(qrels, run)
    assert set(found) == set(theirs)  # a query that nobody judged has no scores in both
    for query, scores in found.items():
        for k in (1, 3, 5, 100):
            assert scores[f"R@{k}"] == pytest.approx(theirs[query][f"recall_{k}"]), (query, k)
        assert scores["nDCG@10"] == pytest.approx(theirs[query]["ndcg_cut_10"]), query
        whole = theirs[query]["recip_rank"]  # over all documents
        assert scores["MRR@10"] == pytest.approx(whole if whole > 1 / 11 else 0), query
    assert len({round(scores["nDCG@10"], 3) for scores in found.values()}) > 20  # no trivial run


def test_agrees_with_ir_measures() -> None:
    """RR@10 is computed by MS MARCO's script there, which breaks ties another way: none for it."""
    qrels, run = fixture()
    untied = {
        query: {name: -float(place) for place, name in enumerate(ranked(scores))}
        for query, scores in run.items()
    }
    wanted = {
        "R@1": (measures.R @ 1, run),
        "R@3": (measures.R @ 3, run),
        "nDCG@10": (measures.nDCG @ 10, run),
        "MRR@10": (measures.RR @ 10, untied),
    }
    found = ours(qrels, run)
    total = mean_scores(list(found.values()))
    for name, (measure, given) in wanted.items():
        theirs = {x.query_id: x.value for x in measures.iter_calc([measure], qrels, given)}
        assert {q: scores[name] for q, scores in found.items()} == pytest.approx(
            {q: theirs[q] for q in found}
        ), name
        mean = measures.calc_aggregate([measure], qrels, given)[measure]
        # The mean there is over judged queries, as ours.
        assert total[name] == pytest.approx(mean), name


def test_ties_depend_on_ids_alone() -> None:
    scores = {"b": 1.0, "c": 0.0, "a": 1.0, "d": 2.0}
    assert ranked(scores) == ["d", "b", "a", "c"]
    assert ranked(dict(reversed(scores.items()))) == ["d", "b", "a", "c"]
    assert ranked({"a": 1.0, "b": 1.0 + 1e-12}) == ["b", "a"]
    assert ranked({"a": 1.0 + 1e-12, "b": 1.0}) == ["a", "b"]
    assert ranked({"a": -math.inf, "b": 0.0}) == ["b", "a"]
    with pytest.raises(ValueError, match="'x' is not a number"):
        ranked({"y": 1.0, "x": math.nan})


def test_by_hand() -> None:
    """Two relevant documents, one of them at rank 2, the other not ranked."""
    grades = {"b": 2, "z": 3, "a": 0, "c": -1}
    found = query_scores({"a": 3.0, "b": 2.0, "c": 1.0}, grades, (1, 2, 9))
    assert found["R@1"] == 0
    assert found["R@2"] == found["R@9"] == 0.5
    assert found["MRR@10"] == 0.5
    behind = query_scores({f"x{i}": 1.0 for i in range(10)} | {"b": 0.0}, grades)
    assert behind["MRR@10"] == behind["nDCG@10"] == 0
    # DCG 2 / log2(3); best 3 / log2(2) + 2 / log2(3)
    assert found["nDCG@10"] == pytest.approx((2 / math.log2(3)) / (3 + 2 / math.log2(3)))
    assert query_scores({"z": 2.0, "b": 1.0}, grades)["nDCG@10"] == 1
    assert query_scores({"a": 1.0}, {"a": 0}) == {"R@1": 0, "R@3": 0, "MRR@10": 0, "nDCG@10": 0}


def test_random_scores_reach_the_computed_floor() -> None:
    """8 documents, one relevant: R@1 12.5, R@3 37.5, MRR 34.0 percent."""
    draw, rows = random.Random(0), []
    for _ in range(4_000):
        rows.append(query_scores({str(d): draw.random() for d in range(8)}, {"3": 1}))
    means = mean_scores(rows)
    floor = sum(1 / rank for rank in range(1, 9)) / 8
    assert means["R@1"] == pytest.approx(1 / 8, abs=0.01)
    assert means["R@3"] == pytest.approx(3 / 8, abs=0.01)
    assert means["MRR@10"] == pytest.approx(floor, abs=0.01)
    assert round(floor, 3) == 0.34


def test_recall_curve_is_mean_recall_at_every_k() -> None:
    qrels, run = fixture()
    queries = [q for q in run if q in qrels and q != "none relevant"]
    curve = recall_curve([ranked(run[q]) for q in queries], [qrels[q] for q in queries])
    assert len(curve) == 40
    for k in (1, 2, 7, 40):
        each = [query_scores(run[q], qrels[q], (k,))[f"R@{k}"] for q in queries]
        assert curve[k - 1] == pytest.approx(sum(each) / len(each))


def test_bootstrap_is_the_interval_of_the_mean() -> None:
    draw = random.Random(1)
    values = [draw.gauss(0.4, 0.2) for _ in range(400)]
    mean = sum(values) / 400
    low, high = bootstrap(values)
    expected = 1.96 * math.sqrt(sum((v - mean) ** 2 for v in values) / 400) / math.sqrt(400)
    assert high - mean == pytest.approx(expected, rel=0.1)
    assert mean - low == pytest.approx(expected, rel=0.1)
    assert bootstrap(values) == (low, high)  # the seed decides
    assert bootstrap(values, seed=1) != (low, high)
    narrow = bootstrap(values, level=0.5)
    assert low < narrow[0] < mean < narrow[1] < high
    assert bootstrap([0.25]) == (0.25, 0.25)

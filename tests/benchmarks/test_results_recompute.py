"""The committed results, computed again by the metrics of today from what their JSON keeps.

Not possible for the pages of M3-JEPA, MeGan and ToMi, nor for the trained rankers: their JSON holds
the scores of a row and no answers. The other pages are about speed and hold no scores.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

import zoo.metrics
from benchmarks.alpo.quality import table as alpo_table
from benchmarks.alpo.scores import corpus_scores, line_reference, of_lines
from benchmarks.hdlm import from_scratch, wos_folds
from benchmarks.lamss import table as lamss_table
from benchmarks.methanol import tomi_small
from benchmarks.mupas.quality import table as scenes_table
from benchmarks.ranking import baselines
from benchmarks.ranking.simple_rankers import RANKERS
from benchmarks.sova import dilemma_table, dilemmas, learned
from benchmarks.straq import planner_scores, planners
from benchmarks.support import data as support_data
from benchmarks.support import lookup
from benchmarks.support.reread import reread
from benchmarks.support.table import LOOKUP, table
from datamodules import Subtitles
from zoo.methods.sova.expected import RULES
from zoo.support.metrics import SupportAnswer
from zoo.support.strategy_metrics import count_pairs, strategy_scores

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks/results"


def entries(name: str) -> list[dict[str, Any]]:
    """Return the entries of a JSON of results."""
    found: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found


@pytest.fixture
def needs_data() -> None:
    if "ZOO_DATA" not in os.environ:
        pytest.skip("ZOO_DATA is not set: the real datasets are not part of the project")


def test_hdlm() -> None:
    for entry in entries("hdlm-2026-11-24"):
        paths = [[path.split("/") for path in entry[key]] for key in ("found", "gold")]
        scores = zoo.metrics.PathScores()(*paths)
        stored = entry["metrics"]  # older than F1 of each level
        assert {name: round(scores[name], 4) for name in stored} == stored
        assert "joint_macro_f1" in stored


def test_hdlm_from_scratch() -> None:
    """The lines of the page, and scores as means of what was right text by text."""
    page = (RESULTS / "2026-11-30-hdlm.md").read_text("utf-8").splitlines()
    passes = [*entries("hdlm-small-2026-11-29"), *entries("hdlm-small-3-2026-11-30")]
    folds = entries("hdlm-wos-2026-11-30")
    assert set(from_scratch.table(passes)) | set(wos_folds.table(folds)) <= {*page}
    for entry in passes + folds:
        for name, right in entry["items"].items():
            hits = right.values() if isinstance(right, dict) else right
            assert round(mean(hits), 4) == entry["metrics"][wos_folds.LEVELS[name]]
    tested = [name for e in folds if e["row"] == "HdLM" for name in e["items"]["joint"]]
    assert len(tested) == len({*tested})


@pytest.mark.parametrize(
    ("data", "row"),
    [
        ("facts", "SFT, token entropy"),
        ("commonsense_qa", "LaMsS"),
        ("commonsense_qa", "SFT, P(True)"),
    ],
)
def test_lamss(data: str, row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the page, intervals of 1,000 draws included."""
    page = (RESULTS / "2026-11-24-lamss.md").read_text("utf-8")
    monkeypatch.setattr(lamss_table, "ROWS", {row: lamss_table.ROWS[row]})
    lines = lamss_table.table(entries(f"lamss-{data}-2026-11-24"))
    rows = [line for line in lines if line.startswith(f"| {row} ")]
    assert rows
    assert [line for line in rows if line not in page] == []


@pytest.mark.usefixtures("needs_data")
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("support-2026-11-28", "CoCT"),
        ("support-90-2026-11-28", "FiSMiness, mt, annotated history"),
        ("support-90-plans-2026-11-28", "straQ*, imit"),
    ],
)
def test_support(name: str, row: str) -> None:
    """All scores and intervals of the replies; likelihoods and calls are not kept."""
    entry = next(e for e in entries(name) if (e["row"], e["set"]) == (row, "esconv"))
    decisions = support_data.tested("esconv", argparse.Namespace(**entry["settings"]))
    assert [decision.id for decision in decisions] == list(entry["replies"])
    score = zoo.metrics.SupportScores(draws=1000)
    for decision in decisions:
        strategy, reply, *_ = entry["replies"][decision.id]
        gold = decision.target.strategy, decision.target.text
        answer = SupportAnswer(decision.dialogue, decision.depth, *gold, strategy, reply)
        score.update([answer], [decision.id])
    scores = {k: round(v, 3) for k, v in score.compute().items()}
    shared = set(scores) & set(entry["scores"])
    assert {k: scores[k] for k in shared} == {k: entry["scores"][k] for k in shared}
    assert {"accuracy", "bias/high", "bleu_2/low", "distinct_2", "cider_d/high"} <= shared


@pytest.mark.usefixtures("needs_data")
@pytest.mark.parametrize(
    "row", ["CoCT", "CoCT, emotions alone", "FiSMiness, mt, annotated history"]
)
def test_support_as_it_is_read_today(row: str) -> None:
    """What models wrote gives the page's rows, and no score of what the history shows."""
    page = (RESULTS / "2026-11-28-support.md").read_text("utf-8")
    kept = [e for e in entries("support-2026-11-28") if e["set"] == "esconv"]
    entry = next(e for e in kept if e["row"] == row)
    seen = {**entry["scores"], "emotion_accuracy": 93.0}
    assert reread({**entry, "scores": seen}) == entry
    (line,) = (line for line in table(kept) if line.startswith(f"| {row} "))
    assert line in page


@pytest.mark.usefixtures("needs_data")
def test_lookup_table_of_the_page() -> None:
    """Last strategy x turn depth, counted on the training dialogues, on 90 decisions and on all."""
    page = (RESULTS / "2026-11-28-support.md").read_text("utf-8")
    asked = support_data.tested("esconv", argparse.Namespace(dialogues=90, decisions=1))
    taught, everything = lookup.points("train"), lookup.points("test")
    cells = lookup.scores(asked, lookup.look_up(LOOKUP, taught, asked))
    assert f"| {LOOKUP} | {' | '.join(cells)} |" in page
    gold = [decision.target.strategy for decision in everything]
    counts = count_pairs(gold, lookup.look_up(LOOKUP, taught, everything))
    best = {name: float(value) for name, value in strategy_scores(counts).items()}
    starts = f"{best['accuracy']:.1f} (", f"{best['proficiency']:.1f} (", f"{best['bias']:.2f} ("
    (line,) = (row for row in page.splitlines() if f"| {LOOKUP} | {starts[0]}" in row)
    assert all(start in line for start in starts)


@pytest.mark.usefixtures("needs_data")
def test_straq_planners() -> None:
    """Scores and pseudo-values from the planned strategies, rules from the data, and the page."""
    kept = entries("straq-planners-2026-11-30")
    page = (RESULTS / "2026-11-30-straq.md").read_text("utf-8")
    assert [line for line in planners.tables(kept) if line not in page] == []
    for split in ("val", "test"):
        asked = planners.points(split)
        gold = planner_scores.by_dialogue(asked, [point.target.strategy for point in asked])
        for entry in (entry for entry in kept if entry["split"] == split):
            scores = planner_scores.of_plans(entry["found"], gold)
            assert scores == {"metrics": entry["metrics"], "items": entry["items"]}
            if entry["row"] not in planners.TRAINED:
                plans = planners.by_rule(entry["row"], asked, entry["seed"])
                assert planner_scores.by_dialogue(asked, plans) == entry["found"]


@pytest.mark.parametrize(
    ("name", "data"),
    [("mupas-small-2026-11-30", "meld"), ("mupas-small-emorynlp-2026-11-30", "emorynlp")],
)
def test_scenes(name: str, data: str) -> None:
    """The page's tables, and scores as means of those of the scenes over turns or tokens."""
    kept = entries(name)
    page = (RESULTS / "2026-11-30-mupas.md").read_text("utf-8")
    assert [line for line in scenes_table(kept, data) if line not in page] == []
    for entry in kept:
        for score, items in entry["items"].items():
            sizes = [entry["sizes"][score][name] for name in items]
            total = sum(size * value for size, value in zip(sizes, items.values(), strict=True))
            assert entry["metrics"][score] == pytest.approx(total / sum(sizes), abs=1e-3)


@pytest.mark.usefixtures("needs_data")
@pytest.mark.parametrize("name", ["sova-learned-2026-11-30", "sova-learned-3-passes-2026-11-30"])
def test_learned_dilemmas(name: str) -> None:
    page = (RESULTS / "2026-11-30-sova.md").read_text("utf-8").splitlines()
    assert set(learned.table(entries(name))) <= set(page)


@pytest.mark.usefixtures("needs_data")
@pytest.mark.parametrize("name", ["sova-dilemmas-2026-11-30", "sova-dilemmas-1.5b-2026-11-30"])
def test_dilemmas(name: str) -> None:
    """All tables of choices in dilemmas, their bootstrap intervals included."""
    page = (RESULTS / "2026-11-30-sova.md").read_text("utf-8")
    kept = entries(name)
    lines = dilemma_table.tables(kept, dilemmas.in_order(), list(dilemmas.ROWS))
    assert len(lines) > 20
    assert [line for line in lines if line not in page] == []
    for entry in kept:
        found = {r: dilemmas.items(entry["odds"], dilemmas.in_order(), r) for r in RULES}
        assert found == entry["items"]


def test_longer_reasoning() -> None:
    """How many rows of each limit were cut, and how many decisions the longer limit turns."""
    page = (RESULTS / "2026-11-30-sova.md").read_text("utf-8").splitlines()
    short = {entry["row"]: entry for entry in entries("sova-dilemmas-2026-11-30")}
    for entry in entries("sova-reasoning-512-2026-12-01"):
        row, cut, ours = entry["row"], entry["cut"], entry["items"]["maslow_growth"]
        before, theirs = short[row]["cut"], short[row]["items"]["maslow_growth"]
        cells = [
            f"{sum(before[dilemma] for dilemma in cut)} of {len(cut)}",
            f"{sum(cut.values())} of {len(cut)}",
            f"{sum(ours[dilemma] != theirs[dilemma] for dilemma in ours)} of {len(ours)}",
        ]
        assert f"| {' | '.join((row, *cells))} |" in page


@pytest.mark.usefixtures("needs_data")
def test_rankers() -> None:
    """A ranker that is drawn by a seed: Cranfield's 225 queries, 1,400 documents each."""
    entry = next(
        e
        for e in entries("rankers-2026-11-24")
        if (e["task"], e["ranker"]) == ("cranfield", "random")
    )
    records = baselines.read("cranfield")
    score = zoo.metrics.RankingScores()
    for record, row in zip(records, RANKERS["random"](records), strict=True):
        ranking = dict(zip(record.pool, row, strict=True))
        score.update([ranking], [dict(record.relevant)], ids=[record.id])
    assert {name: round(value, 4) for name, value in score.compute().items()} == entry["scores"]


@pytest.mark.parametrize(
    ("row", "margin"),
    [("MeTHanol (k = 26)", 22.1), ("SFT(Q -> A)", 16.2), ("SFT(Q -> T, A)", 6.8)],
)
def test_tomi_interval_over_seeds(row, margin):
    """The page's interval: t with 2 degrees of freedom (4.303) times the standard error."""
    page = RESULTS / "2026-11-23-tomi.md"
    runs = json.loads((RESULTS / "tomi-2026-11-23.json").read_text(encoding="utf-8"))
    scores = [100 * run["metrics"]["test/accuracy"] for run in runs if run["row"] == row]
    assert len(scores) == 3
    assert 4.303 * stdev(scores) / 3**0.5 == pytest.approx(margin, abs=0.06)
    line = f"| {row} | {mean(scores):.1f} | +-{margin} |"
    assert line in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("moves", ["one_move", "two_moves"])
def test_small_worlds_scores_are_means_of_their_hits(moves):
    tested = [e for e in entries(f"methanol-{moves}-2026-11-30") if e["part"] == "test"]
    assert tested
    for entry in tested:
        shares = {name: round(mean(hits), 4) for name, hits in entry["hits"].items()}
        assert shares.pop("all") == entry["metrics"]["accuracy"]
        assert shares == {name: entry["metrics"][name] for name in shares}
        assert {"belief", "false_belief", "true_belief"} <= shares.keys()


def test_scores_on_tomi_are_means_of_their_hits():
    tested = entries("methanol-tomi-2026-11-30")
    names = {"belief", "false_belief", "true_belief", "memory", "reality"}
    for entry in tested:
        hits = entry["hits"]
        assert {name: entry["metrics"][name] for name in names} == {
            name: round(mean(found.values()), 4) for name, found in hits.items()
        }
        assert hits["belief"] == {**hits["false_belief"], **hits["true_belief"]}
        assert len(hits["false_belief"]) == 300
    assert len({tuple(sorted(entry["hits"]["belief"])) for entry in tested}) == 1
    page = (RESULTS / "2026-11-30-methanol.md").read_text(encoding="utf-8").splitlines()
    assert set(tomi_small.table(tested)) <= set(page)


@pytest.mark.usefixtures("needs_data")
@pytest.mark.parametrize("name", ["alpo-tvsub-2026-11-30", "alpo-tvsub-once-2026-11-30"])
def test_translations_of_tvsub(name: str) -> None:
    path = f"{os.environ['ZOO_DATA']}/tvsub"
    blocks: Any = Subtitles(path, moses=True, core=3, context=0, max_test=104).records("test")
    found = entries(name)
    for entry in found:
        lines = [tuple(block) for block in entry["lines"]]
        scores = corpus_scores(blocks, lines)
        assert scores == {name: entry["metrics"][name] for name in scores}
        assert of_lines(blocks, lines, line_reference) == entry["of_block"]["reference"]
    page = (RESULTS / "2026-11-30-alpo.md").read_text(encoding="utf-8").splitlines()
    assert set(alpo_table(found)) <= set(page)

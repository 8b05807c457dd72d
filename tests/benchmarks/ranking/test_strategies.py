"""Rankers on ESConv's strategies: names of decisions, the lookup as a ranker, rows end to end."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.ranking import strategies
from benchmarks.ranking.small_backbone import right_of
from benchmarks.support.lookup import look_up
from datamodules import ESConv, ESConvStrategies
from zoo.support.decisions import decisions

SAMPLE = ESConvStrategies(definitions=True, max_turns=strategies.TURNS)


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The five dialogues of the package as all splits."""
    strategies.by_id.cache_clear()
    monkeypatch.setattr(strategies, "read", lambda split: list(SAMPLE.records(split)))
    monkeypatch.setattr(strategies.datamodules, "ESConv", lambda _: ESConv())
    monkeypatch.setattr(strategies.trials, "data_path", lambda name: name)
    yield
    strategies.by_id.cache_clear()


def test_items_are_named_by_dialogue_and_turn() -> None:
    record = SAMPLE.records("test")[0]
    assert (
        strategies.item_name(type(record)("q", record.corpus, (), id="a:b.txt:7:dialog[12]"))
        == "7:12"
    )
    names = [strategies.item_name(record) for record in SAMPLE.records("test")]
    assert len(set(names)) == len(names)


@pytest.mark.usefixtures("sample")
def test_each_query_has_the_decision_of_its_turn() -> None:
    places = strategies.by_id("test")
    for record in SAMPLE.records("test"):
        assert places[record.id].target.strategy == right_of(record)
        last = places[record.id].turns[-1]
        assert record.query.endswith(f"{last.speaker}: {last.text}".strip())


@pytest.mark.usefixtures("sample")
def test_the_lookup_puts_first_what_the_planners_lookup_says() -> None:
    """But for strategies that were used equally often, which have orders of their own."""
    records = list(SAMPLE.records("test"))
    points = [point for dialogue in ESConv().records("train") for point in decisions(dialogue)]
    asked = [strategies.by_id("test")[record.id] for record in records]
    planned = look_up(strategies.LOOKUP, points, asked)
    scores = strategies.lookup(records)
    assert all(sorted(row) == list(range(8)) for row in scores)
    found = [record.pool[row.index(max(row))] for record, row in zip(records, scores, strict=True)]
    at = strategies.KEYS[strategies.LOOKUP][0]
    for decision, plan, name in zip(asked, planned, found, strict=True):
        same = [p.target.strategy for p in points if at(p) == at(decision)]
        assert same.count(name) == same.count(plan) == max(map(same.count, same))


def test_what_no_seed_changes_runs_once() -> None:
    rows = ["random", strategies.SAME_WORDS, "LaHoRe, zero-shot", strategies.TEACHER]
    options = argparse.Namespace(rows=rows, seeds=[3, 4], lr=None)
    rate = strategies.ROWS[strategies.TEACHER].lr
    assert list(strategies.jobs(options)) == [
        *(("random", 3, 0.0), (strategies.SAME_WORDS, 3, 0.0), ("LaHoRe, zero-shot", 3, 0.0)),
        *((strategies.TEACHER, 3, rate), (strategies.SAME_WORDS, 4, 0.0)),
        (strategies.TEACHER, 4, rate),
    ]


def test_first_and_further_decisions_are_apart() -> None:
    places = range(20000)
    first, further = (set(places[strategies.PARTS[part]]) for part in ("first", "further"))
    assert not first & further
    assert set(places[strategies.PARTS["student"]]) <= first


@pytest.mark.usefixtures("sample")
def test_rows_begin_with_the_right_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rules, teacher, its student and what goes on from it, end to end, in a few steps."""
    small = strategies.MODEL._replace(steps=2, size=(16, 32))
    monkeypatch.setattr(strategies, "MODEL", small)
    parts = {"first": slice(0, 6), "further": slice(6, 8), "student": slice(0, 4)}
    monkeypatch.setattr(strategies, "PARTS", parts)
    for name, count in {"TEST": 5, "SEEN": 2, "QUERIES_PER_STEP": 2}.items():
        monkeypatch.setattr(strategies, name, count)
    rows = [
        *("frequency", strategies.LOOKUP, "naive Bayes", "LaHoRe, zero-shot"),
        *(strategies.TEACHER, "LaHoRe, SFT, then DPO", "Rabtriever"),
    ]
    asked = ["--json", str(tmp_path / "rows.json"), "--seeds", "0", "--rows", *rows]
    asked += ["--folder", str(tmp_path / "weights")]
    strategies.main(asked)
    entries = {entry["row"]: entry for entry in json.loads((tmp_path / "rows.json").read_text())}
    assert list(entries) == rows
    assert [entry["steps"] for entry in entries.values()] == [0, 0, 0, 0, 3, 1, 12]
    assert all(len(entry["items"]["rr"]) == 5 for entry in entries.values())
    for entry in entries.values():
        mean = sum(entry["items"]["rr"].values()) / 5
        assert entry["metrics"]["MRR@10"] == pytest.approx(mean, abs=2e-3)
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {"backbone", "LaHoRe-SFT-0"}
    assert "| Rabtriever | 0.01 | 1 |" in capsys.readouterr().out
    monkeypatch.setattr(strategies, "run_row", lambda *_, **__: pytest.fail("it was there"))
    strategies.main(asked)

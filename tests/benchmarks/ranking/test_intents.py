"""Rankers on intents: what a query is ranked against, the rule of words, rows end to end."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.ranking import intent_queries, intents
from benchmarks.ranking.simple_rankers import naive_bayes
from benchmarks.ranking.small_backbone import right_of
from datamodules import CLINC150

SAMPLE = CLINC150()


def test_candidates_are_the_right_name_and_others_of_its_domain() -> None:
    names = [f"name {i}" for i in range(15)]
    drawn = intent_queries.candidates("name 3", names, "0 a")
    assert "name 3" in drawn
    assert len(set(drawn)) == 10
    assert set(drawn) <= set(names)
    assert drawn == intent_queries.candidates("name 3", names, "0 a")
    assert {intent_queries.candidates("name 3", names, f"0 {i}") for i in range(9)} != {drawn}
    places = {intent_queries.candidates("name 3", names, f"{i}").index("name 3") for i in range(9)}
    assert len(places) > 1  # the right one has no place of its own


def test_queries_are_a_draw_from_the_first_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another seed is another order and the same queries; the other domains are left out."""
    monkeypatch.setattr(intent_queries, "DOMAINS", 1)
    given = [r for r in SAMPLE.records("train") if r.labels[0] == "garden"]
    intents_below = given[0].taxonomy.below(("garden",))
    draws = []
    for seed in range(4):
        found = intent_queries.read("train", seed, SAMPLE)
        assert {(r.id, right_of(r)) for r in found} == {(r.id, r.labels[1]) for r in given}
        assert {name for record in found for name in record.pool} == set(intents_below)
        draws.append([record.id for record in found])
        assert draws[-1] == [r.id for r in intent_queries.read("train", seed, SAMPLE)]
    assert len({tuple(draw) for draw in draws}) > 1


def test_naive_bayes_finds_the_intent_of_known_words() -> None:
    train = intent_queries.read("train", 0, SAMPLE)
    scores = naive_bayes(train, train)
    best = [record.pool[row.index(max(row))] for record, row in zip(train, scores, strict=True)]
    right = [right_of(record) for record in train]
    assert sum(a == b for a, b in zip(best, right, strict=True)) > 0.8 * len(train)


def test_every_row_of_a_seed_comes_before_the_next_seed() -> None:
    rows = ["random", intents.TEACHER, "Rabtriever"]
    options = argparse.Namespace(rows=rows, seeds=[3, 4], lr=None)
    wanted = [(row, seed) for seed in (3, 4) for row in rows]
    assert [job[:2] for job in intents.jobs(options)] == wanted
    options.lr = [1.0, 2.0]
    assert [lr for _, _, lr in intents.jobs(options)] == [0.0, 1.0, 2.0, 1.0, 2.0] * 2


def test_rows_begin_with_the_right_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Teacher, its students and what goes on from it, end to end, in a few steps."""
    given = intent_queries.read
    monkeypatch.setattr(intents, "read", lambda split, seed: given(split, seed, SAMPLE))
    monkeypatch.setattr(intents, "MODEL", intents.MODEL._replace(steps=2, size=(16, 32)))
    for name, count in {"FIRST": 6, "FURTHER": 2, "TEST": 3, "QUERIES_PER_STEP": 2}.items():
        monkeypatch.setattr(intents, name, count)
    rows = [
        *("naive Bayes", "LaHoRe, zero-shot", intents.TEACHER, "Rabtriever"),
        *("Rabtriever, no product", "LaHoRe, SFT, then DPO"),
    ]
    asked = ["--json", str(tmp_path / "rows.json"), "--seeds", "0", "--rows", *rows]
    asked += ["--folder", str(tmp_path / "weights")]
    intents.main(asked)
    entries = {entry["row"]: entry for entry in json.loads((tmp_path / "rows.json").read_text())}
    assert list(entries) == rows
    assert [entry["steps"] for entry in entries.values()] == [0, 0, 3, 9, 9, 1]
    assert entries["Rabtriever"]["trained_parameters"] == 2 * (16 * 16 + 16)
    assert all(len(entry["items"]["rr"]) == 3 for entry in entries.values())
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {
        "backbone",
        "LaHoRe-SFT-0",
    }
    rate = intents.ROWS["Rabtriever, no product"].lr
    assert f"| Rabtriever, no product | {rate:g} | 1 |" in capsys.readouterr().out
    monkeypatch.setattr(intents, "run_row", lambda *_, **__: pytest.fail("it was there"))
    intents.main(asked)

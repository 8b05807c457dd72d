"""Reports scored for situations: prefixes that are kept, instructions that are counted."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from typing import Any

import pytest
import torch
from methods.sova.graph_parts import SITUATIONS, reports
from tqdm import tqdm

from zoo.methods.sova.instruct import MapScore
from zoo.methods.sova.instruction import advice
from zoo.methods.sova.reports import Report


def short_reports(count: int) -> list[Report]:
    """Return reports of one rule each."""
    return [dataclasses.replace(r, findings=r.findings[:1]) for r in reports()[:count]]


def test_prefixes_of_reports_are_kept_while_there_is_room(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room they are made again, and the scores are the same."""
    module = make("SoVA", "tiny-llama", kind="sova")
    mapper = MapScore(module.lm, module.tokenizer, short_reports(3), tau=-1)
    pairs = [(r, 0) for r in range(3)]
    first = mapper.scores(pairs, SITUATIONS)
    assert len(mapper.prefixes) == 3
    monkeypatch.setattr("zoo.methods.sova.instruct.KEPT_BYTES", 0)
    mapper.prefixes.clear()
    torch.testing.assert_close(mapper.scores(pairs, SITUATIONS), first)
    assert len(mapper.prefixes) == 1


def test_reports_are_scored_in_mixed_precision_too(make: Any) -> None:
    """As `precision: bf16-mixed` scores them; the scores themselves stay float32."""
    module = make("SoVA", "tiny-llama", kind="sova")
    scores = []
    for mixed in (False, True):
        mapper = MapScore(module.lm, module.tokenizer, short_reports(3), tau=-1)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            scores.append(mapper.scores([(r, 0) for r in range(3)], SITUATIONS))
    assert scores[1].dtype == torch.float32
    torch.testing.assert_close(scores[1], scores[0], rtol=0.02, atol=0.5)


def test_what_became_of_instructions_is_counted(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a bar says how many reports are scored, of how many, until all are."""
    bars: list[tqdm] = []

    def shown(**options: Any) -> tqdm:
        bars.append(tqdm(**options, file=io.StringIO()))
        return bars[-1]

    monkeypatch.setattr("zoo.methods.sova.instruct.tqdm", shown)
    module = make("SoVA", "tiny-llama", kind="sova")
    mapper = MapScore(module.lm, module.tokenizer, short_reports(3), tau=-1, top=1)
    found = mapper(SITUATIONS[:1])
    assert [len(items) for items in found.kept] == [1]
    assert found.counts == {"kept": 1, "not kept": 2}
    assert [(bar.n, bar.total, bar.disable) for bar in bars] == [(3, 3, True)]


def test_the_best_report_chooses_first_and_no_principle_is_told_twice() -> None:
    """Each report tells the closest of its findings that advise and that no better one has told."""
    (report, *_) = reports()
    findings = tuple(
        dataclasses.replace(report.findings[0], rule=x, principle_ids=(x,), advises=x != "x")
        for x in ("p", "q", "x")
    )
    three = [dataclasses.replace(report, id=name, findings=findings) for name in ("a", "b", "c")]
    scored, counts = list(zip(three, (60.0, 70.0, 65.0), strict=True)), Counter[str]()
    told = advice(scored, {"p": 0.1, "q": 0.4, "x": 0.9}, counts)
    assert [(i.report_id, i.text, i.score) for i in told] == [("b", "q", 70.0), ("c", "p", 65.0)]
    assert counts == {"says what a better one says": 1}
    assert [i.text for i in advice(scored, {}, counts)] == ["p", "q"]

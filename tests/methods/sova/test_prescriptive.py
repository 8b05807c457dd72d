"""Instructions tell the person who decides what to do and what to avoid, in every report."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

import pytest
from methods.sova.graph_parts import SITUATIONS, WordCounts, reports

from zoo.backbone import Backbone, load
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.instruct import MapScore
from zoo.methods.sova.principles import STEERING
from zoo.methods.sova.tagging import tag


@pytest.fixture(scope="module")
def model() -> tuple[Any, Any]:
    lm, tokenizer = load(Backbone("tiny-llama"))
    return lm.eval(), tokenizer


def check_instructions(mapper: MapScore) -> None:
    """Every report's instruction tells a person what to do and what to avoid; none names an action.

    None of them quotes a rule that somebody published for assistants.
    """
    found = mapper(SITUATIONS[:1])
    assert len(found.kept[0]) == len({item.principle_ids for item in found.kept[0]})
    assert len(found.kept[0]) + found.counts["says what a better one says"] == len(mapper.reports)
    rules = {f.rule for report in mapper.reports for f in report.findings if f.advises}
    assert {item.text for item in found.kept[0]} <= rules
    for text in rules:
        assert re.fullmatch(r"When .+, .+; avoid .+\.", text)
        assert re.search(r"\byou", text, re.IGNORECASE)
        assert not re.search(r"action\s*[12]|assistant|response|\"", text, re.IGNORECASE)


@pytest.mark.fidelity("sova", 4)
@pytest.mark.parametrize("theory", STEERING)
def test_instructions_tell_you_what_to_do_and_name_no_action(
    theory: str, model: tuple[Any, Any]
) -> None:
    check_instructions(MapScore(*model, reports(theory), tau=-1))
    rules = [item for report in reports(theory) for item in report.findings]
    assert all(re.match(r"When .+, .+", item.rule) for item in rules)


@pytest.mark.fidelity("sova", 4)
def test_instructions_of_the_whole_corpus_tell_you_what_to_do(
    model: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the real table and both files, every published rule with a label of each theory."""
    if "ZOO_DATA" not in os.environ:
        pytest.skip("ZOO_DATA names no folder with daily_dilemmas")
    from datamodules.daily_dilemmas_rows import read_principles, read_values

    data = Path(os.environ["ZOO_DATA"]) / "daily_dilemmas"
    files = (data / "principle_openai.csv", data / "principle_claude.csv")
    texts = [text for file in files for text in read_principles(file)]
    monkeypatch.setattr("zoo.methods.sova.index.tag", functools.partial(tag, tau=0, tau_similar=-1))
    table = read_values(data / "values.csv")
    index = ValueIndex.build(tmp_path, table, texts, encoder=WordCounts())
    weak = {item.id for item in index.principles if item.label and not item.curated}
    assert len(weak) > len(texts)
    for theory in STEERING:
        found = index.reports_of(theory)
        assert any(weak & set(report.principle_ids) for report in found)  # they are still material
        check_instructions(MapScore(*model, found, tau=-1, window=10**5))

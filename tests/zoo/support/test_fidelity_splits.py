"""Splits of ESConv: their sizes, by whole dialogues, from its folder or one file."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from datamodules import ESConv
from zoo.records import SUPPORTER
from zoo.support.decisions import decisions
from zoo.support.labels import EMOTIONS, STRATEGIES


@pytest.fixture
def esconv() -> ESConv:
    """The real dataset, in the authors' own split."""
    folder = os.environ.get("ZOO_DATA")
    if not folder:
        pytest.skip("ZOO_DATA is not set: the real datasets are not part of the project")
    return ESConv(str(Path(folder) / "esconv"))


@pytest.mark.fidelity("esc_metrics", 6)
def test_splits_of_the_real_data(esconv: ESConv) -> None:
    """910 / 195 / 195 dialogues, none in two splits; every decision has a known strategy."""
    splits = {name: esconv.records(name) for name in ("train", "val", "test")}
    assert [len(records) for records in splits.values()] == [910, 195, 195]
    said = [
        Counter(tuple((turn.speaker, turn.text) for turn in record.turns) for record in records)
        for records in splits.values()
    ]
    assert sum(len(texts) for texts in said) == 1300  # no dialogue twice, within or across
    found = [d for records in splits.values() for record in records for d in decisions(record)]
    turns = [t for records in splits.values() for record in records for t in record.turns]
    opened = sum(r.turns[0].speaker == SUPPORTER for rs in splits.values() for r in rs)
    assert len(found) == sum(turn.speaker == SUPPORTER for turn in turns) - opened == 17693
    assert {d.target.strategy for d in found} == set(STRATEGIES)
    assert {d.emotion for d in found} == set(EMOTIONS)


@pytest.mark.fidelity("esc_metrics", 6)
def test_splits_of_the_single_file(tmp_path: Path) -> None:
    """1,300 dialogues in one file: the same sizes, by whole dialogues."""
    import json

    turns = [
        {"speaker": "seeker", "annotation": {}, "content": "Hi"},
        {"speaker": "supporter", "annotation": {"strategy": "Question"}, "content": "Hi?"},
    ]
    items = [
        {"emotion_type": "fear", "problem_type": "p", "situation": str(i), "dialog": turns}
        for i in range(1300)
    ]
    (tmp_path / "ESConv.json").write_text(json.dumps(items))
    data = ESConv(str(tmp_path))
    splits = [{r.situation for r in data.records(name)} for name in ("train", "val", "test")]
    assert [len(split) for split in splits] == [910, 195, 195]
    assert len(set.union(*splits)) == 1300
    order = list(range(1300))
    random.Random(13).shuffle(order)
    assert splits[1] == {str(i) for i in order[:195]}
    assert splits[2] == {str(i) for i in order[195:390]}

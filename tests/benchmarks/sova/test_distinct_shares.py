"""The shares of different instructions, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from methods.sova.graph_parts import SITUATIONS, TABLE, TEXTS, Letters

from benchmarks.sova.distinct import distinct
from zoo.methods.sova.index import ValueIndex


def test_dilemmas_of_the_same_words_get_the_same(tmp_path: Path) -> None:
    """Of four dilemmas two are one: at most three sets of instructions differ."""
    index = ValueIndex.build(tmp_path / "i", TABLE, TEXTS, encoder=Letters(), max_size=4)
    some = [SITUATIONS[0], SITUATIONS[0], "aaaa", "bbbb dddd"]
    texts, principles, used = distinct(index, "maslow", some, Letters(), 2)
    assert 0.25 < float(texts) <= 0.75
    assert 0.25 < float(principles) <= float(texts)
    assert 2 <= int(used) <= 2 * 3
    alone = distinct(index, "maslow", some[:2], Letters(), 1)
    assert alone == ["0.50", "0.50", "1"]


@pytest.mark.parametrize("k", [1, 2])
def test_a_dilemma_gets_a_principle_for_each_report(tmp_path: Path, k: int) -> None:
    index = ValueIndex.build(tmp_path / "i", TABLE, TEXTS, encoder=Letters(), max_size=4)
    assert distinct(index, "maslow", SITUATIONS[:1], Letters(), k)[2] == str(k)

"""The trial on TVsub: its candidates, intervals and table; training is tested with the method."""

import pytest

from benchmarks.alpo.quality import ROWS, Candidates, table
from benchmarks.alpo.scores import (
    corpus_scores,
    difference,
    line_chrf,
    line_reference,
    of_lines,
)
from datamodules.files import SAMPLES
from zoo.records import SubtitleBlock

BLOCK = SubtitleBlock(("甲", "乙"), ("I see you now.", "Come on, let us go!"), id="b")


def test_the_first_candidates_are_kept():
    path = str(SAMPLES / "scored_blocks.jsonl")
    whole, few = (Candidates(path, n).records("train") for n in (None, 2))
    for block, cut in zip(whole, few, strict=True):
        for segment, kept in zip(block.segments, cut.segments, strict=True):
            assert kept.candidates == segment.candidates[:2]
            assert kept.scores == (segment.scores and segment.scores[:2])


def test_scores_of_translations():
    exact, other = [BLOCK.target], [("I see you now.", "Qqq")]
    assert corpus_scores([BLOCK], exact) == {"chrf": 100, "bleu": pytest.approx(100)}
    for score in (line_chrf, line_reference):
        assert of_lines([BLOCK], exact, score) == [pytest.approx(100)]
    assert of_lines([BLOCK], other, line_chrf)[0] == pytest.approx(50, abs=1)
    # the second line: no chrF, and 3 of 20 characters of its length, at 30 %
    assert of_lines([BLOCK], other, line_reference)[0] == pytest.approx(50 + 0.15 * 15, abs=1)


def test_paired_differences():
    middle, low, high = difference([2.0, 3.0, 4.0, 7.0], [1.0, 2.0, 3.0, 4.0])
    assert middle == 1.5
    assert 1 <= low < middle < high <= 3
    assert difference([5.0, 1.0], [4.0, 0.0]) == (1, 1, 1)


def test_table_compares_with_the_same_seed():
    def entry(row, seed, chrf):
        metrics = {"chrf": chrf, "bleu": 10.0, "valid": 0.5}
        return {"row": row, "seed": seed, "metrics": metrics, "of_block": {"chrf": [chrf, chrf]}}

    entries = [entry("SFT", 0, 20.0), entry("ALPO", 0, 22.0), entry("SFT", 1, 30.0)]
    lines = table(entries)
    assert lines[2:] == [
        "| SFT | 2 | 25.0 | 10.0 | 50.0 | - |",
        "| ALPO | 1 | 22.0 | 10.0 | 50.0 | +2.00 (+2.00 to +2.00) |",
    ]
    assert table([entry("ALPO", 3, 1.0)])[2].endswith("| - |")
    assert list(ROWS)[0] == "SFT"

"""The trial on TVsub: its candidates, intervals and table; training is tested with the method."""

import argparse
import json

import pytest
import torch

import zoo
from benchmarks.alpo import quality
from benchmarks.alpo.quality import main, rewards, table
from benchmarks.alpo.scores import (
    corpus_scores,
    difference,
    line_chrf,
    line_reference,
    of_lines,
)
from benchmarks.alpo.stages import ROWS, Candidates, learner
from datamodules.files import SAMPLES
from zoo.methods.alpo.figures import Margins
from zoo.methods.alpo.rubric import GRADES
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
    assert list(ROWS)[:2] == ["zero-shot", "SFT"]


def test_table_averages_seeds_before_it_draws_blocks():
    def entry(row, seed, blocks):
        metrics = {"chrf": 20.0, "bleu": 10.0, "valid": 0.5}
        return {"row": row, "seed": seed, "metrics": metrics, "of_block": {"chrf": blocks}}

    ours = [entry("ALPO", 0, [22.0, 20.0]), entry("ALPO", 1, [20.0, 22.0])]
    lines = table([entry("SFT", seed, [20.0, 20.0]) for seed in (0, 1)] + ours)
    assert lines[-1] == "| ALPO | 2 | 20.0 | 10.0 | 50.0 | +1.00 (+1.00 to +1.00) |"


def options(tmp_path, *more):
    given = ["--json", str(tmp_path / "rows.json"), "--folder", str(tmp_path / "stages")]
    given += ["--data", str(SAMPLES / "subtitles"), "--backbone", "tiny-llama", "--core", "2"]
    given += ["--context", "0", "--batch_size", "1", "--sft_steps", "1"]
    return [*given, "--tests", "2", "--max_new_tokens", "8", "--greedy", *more]


def test_rows_with_adapters_and_greedy_translations(tmp_path, capsys):
    more = ("--lora", r"model\.layers\.1\..*_proj", "--dtype", "bfloat16")
    main(options(tmp_path, *more, "--rows", "zero-shot", "SFT"))
    entries = json.loads((tmp_path / "rows.json").read_text())
    assert [entry["row"] for entry in entries] == ["zero-shot", "SFT"]
    for entry in entries:
        assert [len(lines) for lines in entry["lines"]] == [2, 2]
        assert entry["metrics"]["valid"] == entry["counts"].get("at once", 0) / 2
        assert entry["rewards"] == {"margin": [], "accuracy": []}
    assert "step 1: loss" in capsys.readouterr().out


def test_rewards_of_passes():
    sides = [torch.tensor([0.5, 0.25]), torch.tensor([0.0, 0.5])]
    none = [torch.zeros(0)] * 2
    steps = [Margins(torch.ones(2), torch.ones(2), *sides), Margins(*none, *none)]
    assert rewards(steps) == {"margin": [0.125], "accuracy": [0.5]}


def test_only_the_named_layers_learn():
    given = argparse.Namespace(lora=r"model\.layers\.1\..*_proj", dtype="bfloat16")
    model = zoo.ALPO(backbone=learner("tiny-llama", given))
    model.configure_model()
    learned = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learned
    assert all(".layers.1." in name for name in learned)
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_lines_are_graded_by_each_rubric_alone(monkeypatch):
    """By that of training and by the three of the evaluation, each in prompts of its own."""
    worth = {"accuracy (30 %)": 0, "accuracy (100 %)": 1, "naturalness (100 %)": 2}

    class Judge:
        def fits(self, messages):
            return True

        def score(self, messages, letters):
            text = messages[-1][1]
            found = [place for name, place in worth.items() if f"- {name}" in text] or [3]
            grade = GRADES[found[0]]
            return [float(f"{letter}: {grade}\n" in f"{text}\n") for letter in letters]

    monkeypatch.setattr(quality, "local_judge", lambda *given: Judge())
    given = argparse.Namespace(judge="one")
    found = quality.judged([BLOCK, BLOCK], [BLOCK.target] * 2, given)
    assert found == {
        "judge": [100, 100],
        "accuracy": [75, 75],
        "naturalness": [50, 50],
        "vividness": [25, 25],
    }
    assert quality.judged([BLOCK], [BLOCK.target], argparse.Namespace(judge=None)) == {}

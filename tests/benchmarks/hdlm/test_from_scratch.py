"""The trial of HdLM from scratch: which jobs, what counts as a class, whole rows, resumed."""

import json
from argparse import Namespace

import pytest
from safetensors.torch import load_file

import datamodules
from benchmarks.hdlm import from_scratch
from benchmarks.hdlm.quality import ONE_DEPTH, ROWS, settings
from zoo.methods.hdlm.metrics import FAILED

SAMPLE = datamodules.CLINC150()
TRAIN = SAMPLE.records("train")
TAXONOMY = TRAIN[0].taxonomy


def sample(path):
    """Return the sample of CLINC150, whatever the path."""
    return SAMPLE


def test_only_the_controls_speak_at_the_last_block():
    assert {row for row in ROWS if settings(row, "tiny-llama").get("layers") == [4]} == {*ONE_DEPTH}
    assert [row for row in ROWS if settings(row, "tiny-llama").get("separate")] == ["two-call SFT"]


def test_all_rows_of_a_seed_come_before_the_next():
    asked = Namespace(held="val", rows=["HdLM", "flat SFT"], seeds=[0, 1], lr=[1.0, 2.0], epochs=3)
    found = from_scratch.jobs(asked)
    assert found[:2] == [("val", "HdLM", 0, 1.0, 3), ("val", "flat SFT", 0, 1.0, 3)]
    assert [seed for _, _, seed, _, _ in found] == [0] * 4 + [1] * 4


def test_only_names_of_their_level_are_classes():
    domain, other = TAXONOMY.below(())[:2]
    intent, foreign = TAXONOMY.below((domain,))[0], TAXONOMY.below((other,))[0]
    assert from_scratch.known_names([domain, intent], TAXONOMY) == [domain, intent]
    assert from_scratch.known_names([domain, foreign], TAXONOMY) == [domain, foreign]
    assert from_scratch.known_names([intent, domain], TAXONOMY) == [FAILED, FAILED]


def test_losses_are_means_of_equal_parts():
    losses = [[float(i), 0.5] for i in range(6)]
    assert from_scratch.thinned(losses, 3) == [[0.5, 0.5], [2.5, 0.5], [4.5, 0.5]]
    assert from_scratch.thinned(losses[:2], 3) == [[0.0, 0.5], [1.0, 0.5]]


def test_the_seed_decides_the_first_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(from_scratch, "WIDTH", 16)
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        from_scratch.write_small(tmp_path / name, TRAIN, seed, from_scratch.INTENTS)
        weights.append(
            load_file(tmp_path / name / "model.safetensors")["model.embed_tokens.weight"]
        )
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_rows_are_run_once_and_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(datamodules, "CLINC150", sample)
    monkeypatch.setattr(from_scratch, "WIDTH", 16)
    path = tmp_path / "rows.json"
    asked = ["--json", str(path), "--epochs", "1", "--seeds", "0", "1"]
    asked += ["--rows", "HdLM", "two-call SFT"]
    from_scratch.main(asked)
    one, two, *others = json.loads(path.read_text())
    assert len(others) == 2
    assert ([one["k"], two["k"]], one["steps"]) == ([[3, 4], [4, 4]], two["steps"])
    assert one["tokens"] < two["tokens"] < 2 * one["tokens"]
    assert len(one["items"]["joint"]) == one["texts"]["test"]
    assert all(value > 0 for part in one["losses"] for value in part)
    assert one["stream"] > 0
    joint = one["metrics"]["joint_accuracy"]
    assert joint == pytest.approx(sum(one["items"]["joint"]) / one["texts"]["test"], abs=1e-4)
    assert "| two-call SFT | 2 | 1 | 0.003 | " in capsys.readouterr().out
    monkeypatch.setattr(from_scratch, "run_row", lambda *_, **__: pytest.fail("it was there"))
    from_scratch.main(asked)

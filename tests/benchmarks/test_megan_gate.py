import dataclasses

import pytest
import torch

from benchmarks import megan_gate
from benchmarks.harness import BenchmarkError, Sample, Setting
from zoo.nn import bent

TINY = Setting("cpu", quick=True)
SHAPE = {"blocks": 3, "rows": 2, "tokens": 192}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(megan_gate, "BACKBONE", "tiny-llama")
    monkeypatch.setattr(megan_gate, "BOTTLENECK", 8)
    monkeypatch.delenv("ZOO_DATA", raising=False)


def test_loss_and_gradients_equal_the_eager_ones():
    sample = megan_gate.exact(TINY, **SHAPE)
    assert set(sample.checks) == {"ours", "ours_full"}
    assert max(sample.checks.values()) < megan_gate.TOLERANCE
    flops, kept = sample.notes["flops"], sample.notes["kept_bytes"]
    assert flops["plain"] < flops["ours_full"] < 1.25 * flops["plain"]  # tiny: R is a quarter of D
    assert flops["ours"] < flops["ours_full"]
    assert kept["ours"] < 0.6 * kept["eager"]
    assert kept["ours_full"] < 0.8 * kept["eager_full"]


def test_a_wrong_gate_is_seen(monkeypatch):
    original = bent.make_delta
    monkeypatch.setattr(bent, "make_delta", lambda *args: original(*args) + 2e-2)
    sample = megan_gate.exact(TINY, **SHAPE)
    assert max(sample.checks.values()) > megan_gate.TOLERANCE


def test_all_sides_time_the_same_tokens():
    samples = {way: megan_gate.SIDES[way](TINY, steps=1, **SHAPE) for way in megan_gate.WAYS}
    assert len({sample.checks["data"] for sample in samples.values()}) == 1
    assert {sample.work["tokens"][0] for sample in samples.values()} == {2 * 192.0}
    for way in ("ours", "ours_full"):
        ours, eager = samples[way], samples[way.replace("ours", "eager")]
        for key in ("loss", "norm"):
            assert ours.checks[key] == pytest.approx(eager.checks[key], rel=1e-4)


def test_rows_have_one_length_and_a_condition():
    module = megan_gate.build("ours", TINY, blocks=3)
    (batch,) = megan_gate.batches(module, steps=1, rows=3, tokens=192)
    assert batch.lengths == [192] * 3
    assert batch.told == [True] * 3
    assert 30 < batch.num_supervised / 3 < 60
    assert len(module.lm.model.layers) == 3
    assert torch.equal(batch.attention_mask, torch.ones(3, 192, dtype=torch.long))


def test_a_difference_stops_the_run(monkeypatch):
    same = Sample([], checks={"ours": 2e-4})
    monkeypatch.setattr(megan_gate, "measure", lambda *args, **options: same)
    with pytest.raises(BenchmarkError, match="ours: differs"):
        megan_gate.run(TINY)


def test_too_many_flops_stop_the_run(monkeypatch):
    counted = {"flops": {"ours_full": 1.2, "plain": 1.0}, "kept_bytes": {}}
    same = dataclasses.replace(Sample([], checks={"ours": 0.0}), notes=counted)
    monkeypatch.setattr(megan_gate, "measure", lambda *args, **options: same)
    with pytest.raises(BenchmarkError, match="1.200x the FLOPs"):
        megan_gate.run(TINY)

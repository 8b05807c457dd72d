import dataclasses

import pytest
import torch

from benchmarks.harness import BenchmarkError, Sample, Setting
from benchmarks.megan import gate as megan_gate
from zoo.methods.megan import gate_function as bent

TINY = Setting("cpu", quick=True)
SHAPE = {"blocks": 3, "rows": 2, "tokens": 192}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(megan_gate, "BACKBONE", "tiny-llama")
    monkeypatch.setattr(megan_gate, "BOTTLENECK", 8)
    monkeypatch.delenv("ZOO_DATA", raising=False)


def test_loss_and_gradients_equal_those_of_both_peers():
    sample = megan_gate.exact(TINY, **SHAPE)
    assert set(sample.checks) == {"eager", "hf", "eager_full", "hf_full"}
    assert max(sample.checks.values()) < megan_gate.TOLERANCE
    flops, kept = sample.notes["flops"], sample.notes["kept_bytes"]
    assert flops["plain"] < flops["ours_full"] < 1.25 * flops["plain"]  # tiny: R is a quarter of D
    assert flops["ours"] < flops["ours_full"]
    assert kept["ours"] < 0.6 * kept["eager"]
    assert kept["ours_full"] < 0.8 * kept["eager_full"]
    active = sample.notes["activation_bytes"]
    assert all(active[way] == kept[way] for way in ("ours", "eager", "hf", "hf_full"))
    assert kept["ours_full"] - active["ours_full"] == 259 * 32 * 4  # gradient of the head
    assert kept["eager"] < kept["hf"]
    assert kept["eager_full"] < kept["hf_full"]


def test_a_wrong_gate_is_seen_by_both_peers(monkeypatch):
    original = bent.make_delta
    monkeypatch.setattr(bent, "make_delta", lambda *args: original(*args) + 2e-2)
    sample = megan_gate.exact(TINY, **SHAPE)
    assert min(sample.checks.values()) > megan_gate.TOLERANCE


def test_all_sides_time_the_same_tokens():
    samples = {way: megan_gate.SIDES[way](TINY, steps=1, **SHAPE) for way in megan_gate.WAYS}
    assert len({sample.checks["data"] for sample in samples.values()}) == 1
    assert {sample.work["tokens"][0] for sample in samples.values()} == {2 * 192.0}
    for peer, mine in megan_gate.PEERS.items():
        for key in ("loss", "norm"):
            expected = pytest.approx(samples[peer].checks[key], rel=1e-4)
            assert samples[mine].checks[key] == expected


def test_rows_have_one_length_and_a_condition():
    (batch,) = megan_gate.batches(steps=1, rows=3, tokens=192)
    assert batch.lengths == [192] * 3
    assert batch.told == [True] * 3
    assert 30 < batch.num_supervised / 3 < 60
    assert torch.equal(batch.attention_mask, torch.ones(3, 192, dtype=torch.long))


@pytest.mark.parametrize("way", ["ours", "hf"])
def test_only_the_first_blocks_run(way):
    module = megan_gate.build(way, TINY, blocks=3)
    assert len(module.lm.model.layers) == 3
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert all(name.startswith("hypers.0.") for name in trained)


def test_no_part_of_ours_is_in_the_transcription():
    """Its model is the library's own, and the condition reaches its gates."""
    module = megan_gate.build("hf_full", TINY, blocks=3)
    kinds = {type(part) for part in module.lm.modules()}
    assert not [kind for kind in kinds if kind.__module__.startswith("zoo.")]
    assert module.lm.config._attn_implementation == "sdpa"
    for weight in module.hypers.parameters():
        weight.data.mul_(20)  # at the start beta is 1 within rounding
    (batch,) = megan_gate.batches(steps=1, rows=2, tokens=192)
    other = dataclasses.replace(batch, condition_ids=batch.condition_ids.flip(0))
    losses = [megan_gate.loss_of(module, one) for one in (batch, other)]
    assert not torch.equal(*losses)


def test_a_difference_stops_the_run(monkeypatch):
    same = Sample([], checks={"hf": 2e-4})
    monkeypatch.setattr(megan_gate, "measure", lambda *args, **options: same)
    with pytest.raises(BenchmarkError, match="hf: ours differs"):
        megan_gate.run(TINY)


def test_too_many_flops_stop_the_run(monkeypatch):
    counted = {"flops": {"ours_full": 1.2, "plain": 1.0}, "kept_bytes": {}, "activation_bytes": {}}
    same = dataclasses.replace(Sample([], checks={"eager": 0.0}), notes=counted)
    monkeypatch.setattr(megan_gate, "measure", lambda *args, **options: same)
    with pytest.raises(BenchmarkError, match="1.200x the FLOPs"):
        megan_gate.run(TINY)

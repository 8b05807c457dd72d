import dataclasses

import pytest

from benchmarks.harness import BenchmarkError, Sample, Setting
from benchmarks.hdlm import coarse_step
from benchmarks.roofline import Shape

TINY = Setting("cpu", quick=True)


@pytest.fixture(autouse=True)
def tiny(monkeypatch, save_tiny):
    monkeypatch.setattr(coarse_step, "BACKBONE", save_tiny())


def test_loss_and_gradients_equal_those_on_hidden_states():
    sample = coarse_step.exact(TINY)
    assert set(sample.checks) == {"loss", "gradients"}
    assert max(sample.checks.values()) < coarse_step.TOLERANCE


def test_another_depth_is_seen(monkeypatch):
    build = coarse_step.build
    monkeypatch.setattr(coarse_step, "build", lambda setting, way: build(setting, "full"))
    with pytest.raises(BenchmarkError, match="on one side only"):
        coarse_step.exact(TINY)


def test_three_sides_see_the_same_tokens_and_labels():
    sides = [coarse_step.SIDES[side](TINY, steps=1) for side in ("ours", "full", "hidden_states")]
    assert len({sample.checks["data"] for sample in sides}) == 1
    for sample in sides:
        assert sample.work["tokens"] == [coarse_step.TEXTS * (coarse_step.QUERY + 2)]
        assert sample.work["supervised"] == [coarse_step.TEXTS * 2]
        assert len(sample.seconds) == 1
    assert sides[0].checks["loss"] == pytest.approx(sides[2].checks["loss"], rel=1e-4)


@pytest.mark.parametrize(("way", "blocks"), [("ours", {0, 1}), ("full", {0, 1, 2, 3})])
def test_blocks_above_k_do_not_run(way, blocks):
    module = coarse_step.build(TINY, way)
    (examples,) = coarse_step.batches(module.tokenizer, 1)
    seen = set()
    for j, block in enumerate(module.lm.model.layers):
        block.register_forward_hook(lambda *_, j=j: seen.add(j))
    terms = module.losses(coarse_step.collate(examples))
    assert seen == blocks
    assert list(terms) == ["level_1"]


def test_a_difference_stops_the_run(monkeypatch):
    monkeypatch.setattr(
        coarse_step, "measure", lambda *args, **options: Sample([], checks={"gradients": 2e-4})
    )
    with pytest.raises(BenchmarkError, match="gradients"):
        coarse_step.run(TINY)


def test_flops_of_the_sides():
    shape = Shape(block=100, head=50, vocabulary=10, blocks=4, bytes=4)
    sample = Sample(
        [], work={"tokens": [8.0], "supervised": [2.0]}, notes={"shape": dataclasses.asdict(shape)}
    )
    heads = 6 * 50 * 2
    assert coarse_step.flops(sample) == {
        "ours": heads + 6 * 100 * 8 * 2,
        "full": heads + 6 * 100 * 8 * 4,
        "hidden_states": heads + 100 * 8 * (2 * 4 + 4 * 2),
    }

import pytest
import torch

from benchmarks.harness import BenchmarkError, Sample, Setting
from benchmarks.m3_jepa import frozen_lower

TINY = Setting("cpu", quick=True)
TOWERS = {"text": "tiny-llama", "image": "tiny-vit"}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(frozen_lower, "PAIRS", 3)
    monkeypatch.setattr(frozen_lower, "TEXT_TOKENS", 12)
    monkeypatch.setitem(frozen_lower.PREDICTOR, "hidden", 16)
    monkeypatch.delenv("ZOO_DATA", raising=False)


def test_losses_and_gradients_of_the_three_ways_are_equal():
    sample = frozen_lower.exact(TINY, **TOWERS)
    assert set(sample.checks) == {"tracked", "cached"}
    assert max(sample.checks.values()) < frozen_lower.TOLERANCE
    assert min(sample.notes["gradients"]) > 20


def test_kept_states_of_other_items_are_seen(monkeypatch):
    choose = frozen_lower.choose

    def stale(module, way):
        choose(module, way)
        if way == "cached":
            for state in module.towers["image"].cache.values():
                state += 1e-3 * torch.randn_like(state)

    monkeypatch.setattr(frozen_lower, "choose", stale)
    checks = frozen_lower.exact(TINY, **TOWERS).checks
    assert checks["cached"] > 10 * frozen_lower.TOLERANCE
    assert checks["tracked"] < frozen_lower.TOLERANCE


def test_a_gradient_of_one_side_only_is_an_error():
    one = {"loss": torch.ones(1)}
    with pytest.raises(BenchmarkError, match="adapter"):
        frozen_lower._farthest([one], [{**one, "adapter": torch.ones(1)}])


def test_a_difference_stops_the_run(monkeypatch):
    monkeypatch.setattr(
        frozen_lower, "measure", lambda *args, **options: Sample([], checks={"cached": 2e-5})
    )
    with pytest.raises(BenchmarkError, match="cached"):
        frozen_lower.run(TINY)


@pytest.mark.parametrize(
    ("way", "fill", "expected"),
    [("ours", False, [False]), ("tracked", False, [True]), ("cached", True, [])],
)
def test_lower_blocks_run_or_not_and_are_tracked_or_not(way, fill, expected):
    assert _lower(way, fill) == expected


def _lower(way, fill):
    """Return for each run of the first text block whether its result was tracked."""
    module = frozen_lower.build(TINY, **TOWERS)
    (batch,) = frozen_lower.pairs(module, 1)
    frozen_lower.choose(module, way)
    if fill:
        frozen_lower.step(module, batch, 0)
    seen = []
    module.towers["text"].blocks[0].register_forward_hook(
        lambda _, __, out: seen.append((out[0] if isinstance(out, tuple) else out).requires_grad)
    )
    frozen_lower.step(module, batch, 0)
    return seen


def test_three_sides_time_the_same_steps():
    samples = [frozen_lower.SIDES[way](TINY, **TOWERS, steps=2) for way in frozen_lower.WAYS]
    assert len({sample.checks["data"] for sample in samples}) == 1
    for key in ("losses", "adapters", "predictor"):
        values = [sample.checks[key] for sample in samples]
        assert values == pytest.approx([values[0]] * 3, rel=1e-4)
    assert [len(sample.seconds) for sample in samples] == [2, 2, 2]
    assert [sample.notes["cache_bytes"] > 0 for sample in samples] == [False, False, True]
    assert {sample.notes["text_tokens"] for sample in samples} == {12}


def test_flops_of_blocks():
    module = frozen_lower.build(TINY, **TOWERS)
    (batch,) = frozen_lower.pairs(module, 1)
    found = frozen_lower.flops(module, batch)
    text = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64, 4 * 12 * 32, 3 * 12
    image = 4 * 32 * 32 + 2 * 32 * 64, 4 * 5 * 32, 3 * 5
    for way, forward, backward in (("ours", 4, 3), ("tracked", 4, 4), ("cached", 3, 3)):
        expected = sum(
            tokens * (2 * maps * (forward + backward) + scores * (forward + 2.5 * backward))
            for maps, scores, tokens in (text, image)
        )
        assert found[way] == pytest.approx(expected)

import dataclasses
import math

import pytest

from benchmarks.harness import BenchmarkError, Sample, Setting
from benchmarks.hdlm import early_exit
from benchmarks.roofline import Rates, Shape

TINY = Setting("cpu", quick=True)


@pytest.fixture
def tiny(monkeypatch, save_tiny):
    monkeypatch.setattr(early_exit, "BACKBONE", save_tiny())
    sizes = {"coarse": (0.5, (40, 9, 0, 0)), "esconv": (20 / 32, (60, 2, 30, 8))}
    sizes["rationale"] = (0.5, (40, 12, 0, 5))
    monkeypatch.setattr(early_exit, "SIZES", sizes)


@pytest.mark.parametrize("kind", ["coarse", "esconv", "rationale"])
def test_sides_decode_the_same_tokens(tiny, kind):
    sides = [early_exit.SIDES[s](TINY, kind=kind, replies=1) for s in ("ours", "reprefill")]
    if kind == "coarse":
        sides.append(early_exit.SIDES["whole_stack"](TINY, kind=kind, replies=1))
    query, coarse, _, fine = early_exit.SIZES[kind][1]
    for sample in sides:
        assert sample.checks == sides[0].checks
        assert [len(ids) for ids in sample.checks["queries"]] == [query] * 2
        assert [len(c) for c, _ in sample.checks["replies"]] == [coarse - 1] * 2
        assert [len(f) for _, f in sample.checks["replies"]] == [fine] * 2
        assert sample.work["tokens"] == [coarse - 1 + fine]


def test_the_peer_at_full_depth_runs_every_block(tiny, monkeypatch):
    calls = []

    class Counted(early_exit.WholeStack):
        def __init__(self, lm, *args, **options):
            super().__init__(lm, *args, **options)
            for j, block in enumerate(lm.model.layers):
                block.register_forward_hook(
                    lambda _, inputs, __, j=j: calls.append((j, inputs[0].shape[1]))
                )

    early_exit.ours(TINY, kind="coarse", replies=0, decoder_type=Counted)
    tokens = [sum(n for j, n in calls if j == block) for block in range(4)]
    assert tokens == [40 + 9 - 2] * 4


def test_bound_of_an_8b_shape():
    shape = Shape(block=218_000_000, head=525_000_000, vocabulary=128_256, blocks=32, bytes=2)

    def bound(sizes, k, rates, between=5):
        notes = {"shape": dataclasses.asdict(shape), "k": k, "sizes": sizes, "between": between}
        return early_exit.bound(Sample([], notes=notes), rates)

    reading = Rates(math.inf, 1e12)
    block, head = 218.0, 525.0
    heads = 149 * head
    assert bound((100, 150, 0, 0), 16, reading) == pytest.approx(
        (148 * 32 * block + heads) / (148 * 16 * block + heads)
    )
    # Arithmetic alone, classes: two full prefills against one.
    found = bound((400, 2, 80, 2), 25, Rates(1e12, math.inf), between=80)
    assert found == pytest.approx(32 * (2 * 400 + 2 + 80) / (25 * 400 + 7 * 402 + 32 * 80))


def test_a_difference_stops_the_run(monkeypatch):
    def interleave(name, sides, setting, repeats):
        return {
            side: [Sample([1.0], checks={"queries": 0, "replies": [i]})]
            for i, side in enumerate(sides)
        }

    monkeypatch.setattr(early_exit, "interleave", interleave)
    rates = Sample([], notes={"flops": 1.0, "bytes": 1.0})
    monkeypatch.setattr(early_exit, "measure", lambda *args, **options: rates)
    with pytest.raises(BenchmarkError, match="replies"):
        early_exit.run(TINY)

"""HdLM's cost: measured FLOPs of decoding and of training are those of the formulas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from methods.hdlm.hdlm_abstracts import Recorder, plans_of
from methods.hdlm.hdlm_reference import Reference, render
from torch.utils.flop_counter import FlopCounterMode
from training import silence

from zoo.records import LabelPath, Taxonomy, Triple


def block_tokens(module: Any, run: Any) -> float:
    """Return the measured FLOPs of matrix products in `run`, in forward passes of block x token.

    Attention's quadratic part is no matrix product of the counted kinds; heads are taken off by
    the caller.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    counts = counter.get_flop_counts()["Global"]
    mm, addmm = torch.ops.aten.mm, torch.ops.aten.addmm
    return (counts.get(mm, 0) + counts.get(addmm, 0)) / unit(module)


def unit(module: Any) -> int:
    block = module.lm.model.layers[0]
    return 2 * sum(p.numel() for p in block.parameters() if p.ndim == 2)


def head_cost(module: Any, rows: int) -> float:
    return rows * 2 * module.lm.lm_head.weight.numel() / unit(module)


def script(module: Any, monkeypatch: pytest.MonkeyPatch, texts: Sequence[list[int]]) -> None:
    """Let each level decode the given tokens; the head is still run and paid for."""
    project, steps = module.logits, [iter(ids) for ids in texts]

    def logits(level: int, states: torch.Tensor) -> torch.Tensor:
        found = torch.zeros_like(project(level, states))
        found[:, next(steps[level])] = 1
        return found

    monkeypatch.setattr(module, "logits", logits)


def plain(module: Any, length: int, layers: int = 4) -> float:
    """Return the measured cost of a plain forward pass over some tokens through some blocks."""
    lm = Reference(module, [1]).lm.model
    lm.layers = lm.layers[:layers]
    with torch.no_grad():
        return block_tokens(module, lambda: lm(torch.zeros(1, length, dtype=torch.long)))


def long_record() -> LabelPath:
    children = {(): ("x", "y")} | {(name,): tuple("abcdefgh") for name in "xy"}
    return LabelPath("word " * 60, ("x", "h"), Taxonomy(children), id="long")


@pytest.mark.fidelity("hdlm", 6)
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2"])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("kind", ["classes", "rationale"])
def test_flops_of_decoding(
    make: Any, name: str, monkeypatch: pytest.MonkeyPatch, k: int, kind: str
) -> None:
    """Measured FLOPs of a coarse answer, of both levels, and the saving are the formulas' (3 %)."""
    module = make("HdLM", name, layers=[k])
    if kind == "classes":
        record: Any = long_record()
    else:
        record = Triple("What? " * 12, "Since " * 25, "x" * 10)
    sample = render(module.tokenizer, record)
    coarse, fine = ([sample.ids[i] for i in span] for span in sample.spans)
    n_q, n_t, n_a = sample.spans[0].start, len(coarse), len(fine)
    n_s = sample.spans[1].start - n_q - n_t
    recorder = Recorder(module, monkeypatch)
    script(module, monkeypatch, [coarse, fine])
    measured = block_tokens(module, lambda: module.generate(plans_of(module, [record])))
    recorder.close()
    assert recorder.decoded == [[coarse[:-1]], [fine[:-1]]]
    both = measured - head_cost(module, n_t + n_a)
    # Coarse answer only: k / L of the plain cost. Both levels: that of one plain generation.
    only = sum(recorder.after[0].values())
    assert only == pytest.approx(k / 4 * plain(module, n_q + n_t), rel=0.03)
    formula = k * (n_q + n_t) + (4 - k) * (n_q + n_t) + 4 * (n_s + n_a)
    assert both == pytest.approx(formula, rel=0.03)
    one = plain(module, n_q + n_t + n_s + n_a)
    assert both == pytest.approx(one, rel=0.03)
    # Two plain calls; early exit without reuse; the sheet's savings against two calls.
    two = plain(module, n_q + n_t) + one
    no_reuse = plain(module, n_q + n_t, layers=k) + one
    base = 2 * 4 * (n_q + n_t) + 4 * (n_s + n_a)
    assert 1 - no_reuse / two == pytest.approx((4 - k) * (n_q + n_t) / base, rel=0.03)
    assert 1 - both / two == pytest.approx(4 * (n_q + n_t) / base, rel=0.03)


@pytest.mark.fidelity("hdlm", 6)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_sequential_work_of_decoding(make: Any, monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """One-token block calls, against a plain model's: (k n_t + L n_a) / L (n_t + n_a)."""
    module = make("HdLM", "tiny-llama", layers=[k])
    record = Triple("What?", "Since " * 25, "x" * 40)
    sample = render(module.tokenizer, record)
    coarse, fine = ([sample.ids[i] for i in span] for span in sample.spans)
    script(module, monkeypatch, [coarse, fine])
    steps: Counter[int] = Counter()
    for block in module.lm.model.layers:
        block.register_forward_hook(lambda _, inputs, __: steps.update([inputs[0].shape[1]]))
    module.generate(plans_of(module, [record]))
    n_t, n_a = len(coarse), len(fine)
    ratio = (k * n_t + 4 * n_a) / (4 * (n_t + n_a))
    assert steps[1] / (4 * (n_t + n_a)) == pytest.approx(ratio, rel=0.03)


@pytest.mark.fidelity("hdlm", 6)
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_flops_of_training(make: Any, name: str, k: int) -> None:
    """A coarse-only batch costs k / L; D levels in one sequence cost that part of D samples."""
    record = long_record()
    joint, apart = (make("HdLM", name, layers=[k], separate=s) for s in (False, True))

    def cost(module: Any, examples: Sequence[Any]) -> float:
        from zoo.encoding import sum_head_weights

        totals = sum_head_weights(examples)
        batch = module.encoder().collate(examples, totals)
        silence(module).train()
        measured = block_tokens(module, lambda: module.training_step(batch, 0).backward())
        return measured - 3 * head_cost(module, round(sum(totals.values())))

    coarse, fine = apart.encoder()(record)
    (whole,) = joint.encoder()(record)
    # Forward, and gradients of inputs and weights: three times the forward FLOPs.
    assert cost(apart, [coarse]) == pytest.approx(3 * k * len(coarse), rel=0.03)
    assert cost(apart, [fine]) == pytest.approx(3 * 4 * len(fine), rel=0.03)
    spans = render(joint.tokenizer, record).spans
    ratio = spans[1].stop / (spans[0].stop + spans[1].stop)
    two = 3 * 4 * len(coarse) + cost(apart, [fine])  # per-level samples of a plain model
    assert cost(joint, [whole]) / two == pytest.approx(ratio, rel=0.03)

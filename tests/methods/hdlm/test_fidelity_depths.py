"""HdLM with one level is ordinary fine-tuning; with three it trains and decodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from methods.hdlm.hdlm_abstracts import Recorder, plans_of, train
from methods.hdlm.hdlm_reference import deep_papers, gold
from training import assert_same_gradients, batch_of, our_gradients

from zoo.records import LabelPath, Taxonomy, Triple


@pytest.mark.fidelity("hdlm", 9)
def test_depth_one_is_ordinary_fine_tuning(make: Any, shape: str) -> None:
    """D = 1: no heads; batch, loss, gradients and reply are those of SFT on the same sequence."""
    from zoo.methods.sft.module import SFT

    taxonomy = Taxonomy({(): ("left", "right", "up")})
    records = [LabelPath(t, (c,), taxonomy, id=t) for t, c in (("go on", "up"), ("no", "left"))]
    module = make("HdLM", shape, spread=5.0, depth=1, max_new_tokens=6)
    sft: SFT = make("SFT", shape, spread=5.0, max_answer_tokens=6)
    assert not module.heads
    triples = [
        Triple(
            f"{r.text}\n\nClasses:\n0: left\n1: right\n2: up",
            "",
            gold(r)[0],
            system="You sort texts into classes, from coarse to fine. Answer with a class number.",
        )
        for r in records
    ]
    ours, theirs = batch_of(module, records), batch_of(sft, triples)
    for name in ("input_ids", "labels", "head_ids", "weights"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert ours.normalizers == theirs.normalizers
    assert module.losses(ours)["level_1"].loss == sft.losses(theirs)["speak"].loss
    assert_same_gradients(our_gradients(module, ours), our_gradients(sft, theirs))
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(module, patch)
        module.generate(plans_of(module, records))
        recorder.close()
    replies = [module.tokenizer.decode(ids).strip() for ids in recorder.decoded[0]]
    assert replies == [reply.answer for reply in sft.generate(triples)]


@pytest.mark.fidelity("hdlm", 9)
def test_depth_three_trains_and_decodes(make: Any, shape: str) -> None:
    """D = 3: every L_i falls on a few records, and all paths are decoded afterwards."""
    torch.manual_seed(0)
    module = make("HdLM", shape, depth=3, max_new_tokens=3)
    assert module.ks == [2, 3, 4]
    records = deep_papers()
    batch = batch_of(module, records)

    def repeat() -> Iterator[Any]:
        while True:
            yield batch

    curve = train(module, repeat(), 200, 1e-2)
    assert all(late < early / 10 for late, early in zip(curve[-1], curve[0], strict=True))
    found = module.generate(plans_of(module, records))
    assert found == [list(record.labels) for record in records]

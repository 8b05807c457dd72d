"""MeGan without delta or without a condition is the backbone, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.megan.megan_samples import Make, build, close, logits_of, records
from torch import Tensor
from training import batch_of

from zoo.records import Conditioned

pytestmark = pytest.mark.filterwarnings("ignore:.*activation_checkpointing.*")


def backbone_logits(module: Any, found: Sequence[Conditioned]) -> list[Tensor]:
    """Return the logits of the same backbone without any gate, from the same batch."""
    from zoo.backbone import Backbone, load
    from zoo.nn.blocks import Blocks, place

    lm, _ = load(Backbone(module.backbone.name))
    lm.load_state_dict(module.lm.state_dict())
    lm.eval()
    batch = batch_of(module, found)
    with torch.no_grad():
        top = Blocks(lm, 0, 4)(batch.input_ids, **place(batch))
        rows = top[0].split(batch.lengths) if batch.offsets is not None else list(top)
        return [lm.lm_head(lm.model.norm(r[:n])) for r, n in zip(rows, batch.lengths, strict=True)]


@pytest.mark.fidelity("megan", 1)
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_no_delta_is_the_backbone(
    make: Make, case: tuple[str, dict[str, Any]], packed: bool
) -> None:
    """W_b = 0: bit-identical logits under any condition; so is plain Hugging Face on a row."""
    shape, hyper = case
    zero = {**hyper, "beta_init": "zero"}
    module = build(make, shape, zero, strong=False, padding_free=packed)
    ours = logits_of(module, records())
    for mine, theirs in zip(ours, backbone_logits(module, records()), strict=True):
        assert torch.equal(mine, theirs)
    official = build(make, *case, strong=False, padding_free=packed)
    assert not torch.equal(logits_of(official, records())[0], ours[0])


@pytest.mark.fidelity("megan", 1)
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_rows_without_condition_are_the_backbone(
    make: Make, case: tuple[str, dict[str, Any]], packed: bool
) -> None:
    """Beside rows with a condition, whose logits are not the backbone's."""
    module = build(make, *case, padding_free=packed)
    found = [replace(r, condition="") if i % 2 else r for i, r in enumerate(records())]
    plain = backbone_logits(module, found)
    for i, (mine, theirs) in enumerate(zip(logits_of(module, found), plain, strict=True)):
        assert torch.equal(mine, theirs) == (i % 2 == 1)
    with_it = logits_of(module, records())
    close(logits_of(module, found)[0], with_it[0])
    bare = [replace(r, condition="") for r in records()]
    for mine, theirs in zip(logits_of(module, bare), backbone_logits(module, bare), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.fidelity("megan", 1)
def test_replies_without_condition_are_the_backbones(make: Make, shape: str) -> None:
    """Decoded beside a conditioned row: the tokens of a module without gates, beta exactly 1."""
    module = build(make, shape, {"bottleneck": 16})
    plain = build(make, shape, {}, gate="none", train="full")
    plain.lm.load_state_dict(module.lm.state_dict())
    bare = [replace(record, condition="") for record in records()]
    expected = [reply.answer for reply in plain.generate(bare)]
    mixed = module.generate([*bare, records()[0]])
    assert [reply.answer for reply in mixed[:-1]] == expected
    assert all(reply.betas == [1.0] * 4 for reply in mixed[:-1])
    assert min(abs(beta - 1) for beta in mixed[-1].betas) > 1e-4
    assert [reply.answer for reply in module.generate(bare)] == expected

"""LaMsS' hidden levels change no other state, and losses are those of whole forward passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.lamss.lamss_sequences import (
    FLAGS,
    LEVEL,
    NORMAL,
    OPEN,
    SIGMA,
    TEXTS,
    Make,
    batch_of,
    by_whole_forwards,
    examples_of,
)

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.fidelity("lamss", 9)
@pytest.mark.parametrize("shared", [False, True])
def test_hidden_levels_change_no_other_state(make: Make, shape: str, shared: bool) -> None:
    """With `hide_sigma` other levels leave normal states as they are; with shared positions those
    are the states of the clean text."""
    module = make("LaMsS", shape, hide_sigma=True, shared_positions=shared)
    examples = examples_of(module, TEXTS)
    batch = batch_of(module, examples)
    states = module(batch)
    other = batch_of(module, examples)
    levels = torch.isin(batch.input_ids, torch.tensor(module.level_ids))
    other.input_ids[levels] = module.level_ids[2]
    changed = module(other)
    normal = ~levels & batch.attention_mask.bool()
    torch.testing.assert_close(changed[normal], states[normal])
    assert not torch.allclose(changed[levels], states[levels])
    if shared:
        for row, record in enumerate(TEXTS):
            clean = module.lm.model(torch.tensor([module.encoder().ids(record.text)]))
            ours = module.lm.model.norm(states[row][normal[row]])
            torch.testing.assert_close(ours, clean.last_hidden_state[0], atol=1e-5, rtol=1e-4)


@pytest.mark.fidelity("lamss", 9)
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "-".join(flags) or "default")
def test_packed_and_padded_losses_agree(make: Make, shape: str, flags: dict[str, Any]) -> None:
    """What is trained is what is decoded: the losses are those of whole forwards."""
    module = make("LaMsS", shape, **flags)
    examples = examples_of(module, [*OPEN, *TEXTS])
    terms = module.losses(batch_of(module, examples))
    sums = by_whole_forwards(module, examples)
    for name, head in (("token", NORMAL), ("sigma", SIGMA), ("level", LEVEL)):
        mean = sum(sums[head]) / len(sums[head]) if sums[head] else 0.0
        assert terms[name].mean.item() == pytest.approx(mean, rel=1e-4)

"""With `share_head` all levels below the last have one head, and decode through it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.hdlm.hdlm_reference import deep_papers


@pytest.mark.parametrize("share", [True, False])
def test_levels_below_the_last_share_one_head(make: Any, share: bool) -> None:
    module = make("HdLM", "tiny-llama", layers=[1, 3], share_head=share)
    first, second = (module.head(level)[0] for level in (0, 1))
    assert (first is second) == share
    heads = [name for name, _ in module.named_parameters() if name.startswith("heads.")]
    assert len(heads) == (1 if share else 2)
    assert all(module.head(level)[0] is not module.output_head[0] for level in (0, 1))
    assert module.head(2)[0] is module.output_head[0]


def test_a_shared_head_decodes_every_level_but_the_last(make: Any) -> None:
    """Where the shared head is zero, so are the logits of both lower levels, and of no other."""
    module = make("HdLM", "tiny-llama", layers=[1, 3], share_head=True, max_new_tokens=1)
    plans = [plan for record in deep_papers() for plan in module.encoder().plans(record)]
    asked: list[tuple[int, torch.Tensor]] = []
    project = module.logits

    def recorded(level: int, hidden_BD: torch.Tensor) -> torch.Tensor:
        asked.append((level, project(level, hidden_BD)))
        return asked[-1][1]

    module.logits = recorded
    with torch.no_grad():
        module.heads["0"].weight.zero_()  # the parameter that both lower levels read
    module.generate(plans)
    assert {level for level, _ in asked} == {0, 1, 2}
    for level, logits_BV in asked:
        assert bool(logits_BV.any()) == (level == 2)

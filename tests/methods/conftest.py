"""Small models that learned a small task, shared by the tests of LaHoRe and of its follow-up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.lahore.lahore_reference import SHORT, quality, task, train


@pytest.fixture(scope="session")
def learned(make: Any) -> dict[str, Any]:
    """The small task learned by SFT, with B for true, and by DPO, with A for true."""
    found: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, options in (
            ("sft", {"labels": ["B", "A"]}),
            ("dpo", {"objective": "dpo"}),
        ):
            module = make("LaHoRe", "tiny-llama", spread=3.0, **SHORT, **options)
            untrained = quality(module, task())
            pairs = [pair for record in task() for pair in module.encoder()(record)]
            if name == "dpo":
                batch = module.encoder().collate(pairs, {})
                with torch.no_grad():
                    module.reference.places = {p.key: i for i, p in enumerate(pairs)}
                    module.reference.values = torch.stack(module.log_probs(batch), 1)
            losses = train(module, task(), 120)
            found[name] = SimpleNamespace(module=module, losses=losses, untrained=untrained)
    return found

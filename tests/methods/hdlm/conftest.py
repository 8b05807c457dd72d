"""An HdLM that has learned the texts of a small taxonomy by heart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.hdlm.hdlm_abstracts import STEPS, abstracts, shuffled, train


@pytest.fixture(
    scope="session", params=["tiny-llama", pytest.param("tiny-qwen2", marks=pytest.mark.slow)]
)
def trained(make: Any, request: pytest.FixtureRequest) -> SimpleNamespace:
    """An HdLM that has overfitted the abstracts, and its loss curve."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make("HdLM", request.param, spread=3.0, layers=[3], max_new_tokens=4)
        curve = train(module, shuffled(module, abstracts(), 6), STEPS, 4e-3)
        return SimpleNamespace(module=module, curve=curve)

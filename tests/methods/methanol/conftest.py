"""Tiny MeTHanols for its fidelity tests: one that has learned small tasks by heart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.methanol.methanol_tasks import STEPS, choices, personas, repeat, stories, train
from training import batch_of


@pytest.fixture
def methanol(make: Any, shape: str) -> Any:
    """An untrained MeTHanol, weights spread enough that states and gradients are well apart."""
    return make("MeTHanol", shape, spread=5.0)


@pytest.fixture(scope="session")
def trained(make: Any, shape: str) -> SimpleNamespace:
    """A MeTHanol that has overfitted stories, choices and personas, and its loss curve."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make("MeTHanol", shape, max_thought_tokens=24, max_answer_tokens=16)
        batch = batch_of(module, [*stories(), *choices(), *personas()])
        return SimpleNamespace(module=module, curve=train(module, repeat(batch), STEPS, 1e-2))

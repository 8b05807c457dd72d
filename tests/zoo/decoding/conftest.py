"""A random model to decode with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def lm(make: Callable[..., Any], shape: str) -> Any:
    """A random model whose greedy choices vary."""
    return make("SFT", shape, spread=12.0).lm

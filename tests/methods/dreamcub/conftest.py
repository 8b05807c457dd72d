"""The tiny DreamCUB of the tests that do not change it."""

from __future__ import annotations

from typing import Any

import pytest
from methods.dreamcub.dreamcub_reference import module_of


@pytest.fixture(scope="module")
def module(make: Any) -> Any:
    """One module for the tests that leave it as it is."""
    return module_of(make, strategy_line=True)

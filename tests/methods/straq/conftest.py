"""A tiny straQ*."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def module(make: Any) -> Any:
    return make("StraQ", "tiny-llama", max_length=4096)

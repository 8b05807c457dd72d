"""The tiny MuPaS of these tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def mupas(make: Callable[..., Any]) -> Callable[..., Any]:
    """Build a tiny module in float64 whose blocks do something."""

    def build(**options: Any) -> Any:
        options = {"max_length": 2048, "max_answer_tokens": 4, **options}
        return make("MuPaS", "tiny-llama", spread=4.0, **options).double()

    return build

"""The tiny backbones and hypernetworks that MeGan's fidelity tests run with."""

from __future__ import annotations

from typing import Any

import pytest
from methods.megan.megan_samples import CASES, SHAPES, VARIANTS


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    """The tiny backbones that have a SwiGLU."""
    return request.param


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A backbone with a hypernetwork."""
    return request.param[0], VARIANTS[request.param[1]]

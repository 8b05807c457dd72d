"""The pairs of tiny encoders that M3-JEPA's tests run with."""

from __future__ import annotations

import pytest
from methods.m3_jepa.m3_jepa_samples import PAIRS_OF_TOWERS


@pytest.fixture(params=PAIRS_OF_TOWERS, ids="+".join)
def towers(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Names of a text and a picture encoder."""
    return request.param

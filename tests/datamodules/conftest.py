"""Fixtures of the data module tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.errors import InputError


@pytest.fixture
def refused() -> Callable[..., str]:
    """Check that a call raises an InputError of one line that holds all the given parts."""

    def check(call: Callable[[], object], *parts: str) -> str:
        with pytest.raises(InputError) as caught:
            call()
        text = str(caught.value)
        assert "\n" not in text
        for part in parts:
            assert part in text
        return text

    return check


@pytest.fixture(scope="session")
def zoo_data() -> Path:
    """Return the folder of the real datasets, which the environment variable ZOO_DATA names."""
    folder = os.environ.get("ZOO_DATA")
    if not folder:
        pytest.skip("ZOO_DATA is not set: the real datasets are not part of the project")
    return Path(folder)

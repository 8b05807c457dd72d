"""Fixtures of the data module tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from stored_texts import WORDS

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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "examples"


@pytest.fixture
def path(tmp_path: Path) -> str:
    lines = [" ".join(WORDS[: 1 + i * 5 % 13]) + f" {i}" for i in range(40)]
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    return str(tmp_path / "texts.txt")

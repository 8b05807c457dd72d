"""Every config that names no files has data of its own: training records and validation records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from running import CONFIGS

import datamodules


def settings(path: Path) -> dict[str, Any]:
    """Return what a config says of its data."""
    data: dict[str, Any] = yaml.safe_load(path.read_text("utf-8")).get("data", {})
    return data


OWN = [path for path in sorted(CONFIGS.glob("*.yaml")) if settings(path)]


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_config_has_data(path: Path) -> None:
    data = settings(path)
    name = data["class_path"].removeprefix("datamodules.")
    module = getattr(datamodules, name)(**data.get("init_args", {}))
    assert module.records("val")
    if name != "MixtureCorpus":  # its training texts are streamed
        assert module.records("train")

"""Training on the sample triples."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training import Fixed, quiet_trainer


@pytest.fixture
def fit(tmp_path: Path, triples: list[Any]) -> Callable[..., Any]:
    """Train a module on the sample triples."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    def run(module: Any, **options: Any) -> Any:
        trainer = quiet_trainer(**{"default_root_dir": tmp_path, "max_epochs": 1, **options})
        trainer.fit(module, datamodule=Fixed(triples))
        return trainer

    return run

"""A first stage that the tests of LaMsS share, and a cache of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import main, tiny


@pytest.fixture(scope="session")
def read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has read a little of the world, exported."""
    folder = tmp_path_factory.mktemp("cpt")
    given = (*tiny("lamss_cpt"), "--trainer.max_steps", "2")
    given += ("--data.max_train", "8", "--data.max_val", "2")
    given += ("--data.batch_size", "4")
    run, out = folder / "run", folder / "out"
    main("fit", *given, "--trainer.val_check_interval", "2", "--trainer.default_root_dir", str(run))
    saved = ("--ckpt_path", str(run / "checkpoints" / "last.ckpt"))
    main("export", "--config", str(run / "config.yaml"), *saved, "--output", str(out))
    return out


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Label afresh in every test."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))

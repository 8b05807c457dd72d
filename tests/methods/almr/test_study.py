"""`python -m zoo study --config configs/almr_study.yaml`, whole: two workers, killed, gone on."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import CONFIGS, board, command, overlays, start

RATIO, LR, SEED = "data.shares.german", "model.optimizer.lr", "data.seed"
RATIOS, LRS = [0.2, 0.5, 0.8], [2.5e-3, 1e-2, 4e-2]
CELLS = len(RATIOS) * len(LRS)


def written(folder: Path, **changed: Any) -> str:
    """The study's own YAML, of nine short fits of a tiny model, as a file."""
    study = yaml.safe_load((CONFIGS / "almr_study.yaml").read_text())
    assert set(study["vary"]) == {RATIO, LR, SEED}
    study["fit"] = ["almr", overlays("almr")[1]]
    study["vary"] = {RATIO: RATIOS, LR: LRS, SEED: [0]}
    study["extra"] = [{RATIO: 0.5, LR: LRS[1], SEED: 1}]
    study["folder"] = str(folder / "study")
    study["fixed"] |= {
        "trainer.max_steps": 12,
        "trainer.val_check_interval": 3,
        "checkpoint.every_n_train_steps": 2,
        "model.max_length": 64,
        "model.max_generated": 1,
        "data.num_tokens": 10_000,
    } | changed
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return str(path)


@pytest.mark.slow
def test_the_study_of_the_config(tmp_path: Path) -> None:
    """Two workers on one SQLite file; one dies, all die, a third ends it and reports."""
    given = ("study", "--config", written(tmp_path))
    folder = tmp_path / "study"
    workers = [start(*given, cwd=tmp_path, start_new_session=True) for _ in range(2)]
    wait_until(lambda: len(list(folder.glob("cells/*/checkpoints/last.ckpt"))) >= 2)
    os.killpg(workers[0].pid, signal.SIGKILL)
    done = finished(folder)
    wait_until(lambda: len(finished(folder)) >= len(done) + 1)
    os.killpg(workers[1].pid, signal.SIGKILL)
    for worker in workers:
        worker.communicate()
    before = finished(folder)
    assert 0 < len(before) < CELLS + 2
    last = command(*given, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert {name: text for name, text in finished(folder).items() if name in before} == before
    assert len(finished(folder)) == CELLS + 2  # a second seed, and the model before
    results = json.loads((folder / "results.json").read_text())
    assert len(results["cells"]) == CELLS + 1
    seeds = [cell for cell in results["cells"] if cell["settings"] | {SEED: 0} == centre()]
    assert len({cell["measures"]["added"] for cell in seeds}) == 2  # the seed orders the texts
    assert f"report      {folder / 'report.md'}" in last.stdout
    page = (folder / "report.md").read_text()
    assert "our own runs" in page
    images = board(folder / "report").Tags()["images"]
    assert sorted(images) == [f"report/{n}" for n in ("loss_surface", "optimal_line", "pareto")]
    assert all((folder / f"{name.removeprefix('report/')}.png").is_file() for name in images)

    changed = ("study", "--config", written(tmp_path, **{"trainer.max_steps": 13}))
    refused = command(*changed, cwd=tmp_path)
    assert refused.returncode == 2
    assert "the study was begun with fixed.trainer.max_steps 12, now it is 13" in refused.stderr


def centre() -> dict[str, Any]:
    return {RATIO: 0.5, LR: LRS[1], SEED: 0}


def finished(folder: Path) -> dict[str, str]:
    """Return what was measured of each finished cell, as written."""
    return {path.stem: path.read_text() for path in folder.glob("cells/*.json")}


def wait_until(happens: Any) -> None:
    end = time.monotonic() + 300
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)

"""M3-JEPA in two processes (gloo): two pairs in each take the steps of four pairs in one."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_pair import DDP, SHARDED, ProcessPair, recorded, same_steps, steps
from running import main, scalars, tiny

STEPS = 5
PAIRS = (  # eight drawings, none of them another's caption; nothing is drawn at random
    *(*tiny("m3_jepa"), "--data", "datamodules.ImageText", "--data.eval_batch_size", "2"),
    *("--model.dropout", "0", "--model.text.dropout", "0", "--model.image.dropout", "0"),
    *("--model.text.cache_gib", "0", "--model.image.cache_gib", "0"),
    *("--model.optimizer.lr", "0.005", "--trainer.check_val_every_n_epoch", "null"),
)
LOSSES = {
    "regression": ("--model.alpha", "1"),
    "contrastive": ("--model.alpha", "0", "--model.across_ranks", "true"),
}
STRATEGIES = [pytest.param(DDP, id="ddp"), pytest.param(SHARDED, id="fsdp2")]


def fit(folder: Path, batch_size: int, *args: str, max_steps: int = STEPS) -> tuple[str, ...]:
    """Return the arguments of a run with a validation at its end."""
    sizes = ("--data.batch_size", str(batch_size), "--trainer.max_steps", str(max_steps))
    return recorded(folder, *PAIRS, *sizes, "--trainer.val_check_interval", str(STEPS), *args)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs in one process, four pairs a step."""
    folders = {name: tmp_path_factory.mktemp("pairs") / name for name in LOSSES}
    for name, folder in folders.items():
        main(*fit(folder, 4, *LOSSES[name]))
    return folders


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_steps(
    strategy: tuple[str, ...], name: str, tmp_path: Path, alone: dict[str, Path], pair: ProcessPair
) -> None:
    """The same losses and norms, and a validation finds as much."""
    pair.run(*fit(tmp_path / "two", 2, *strategy, *LOSSES[name]))
    taken = steps(tmp_path / "two", ranks=2)
    same_steps(taken, steps(alone[name]))
    assert taken[0][0] != pytest.approx(taken[-1][0], abs=1e-3), "it does not train"
    ours, theirs = scalars(tmp_path / "two"), scalars(alone[name])
    for way in ("image2text", "text2image"):
        for key in (f"val/R@1_{way}", f"val/regression_R@5_{way}"):
            assert ours[key] == pytest.approx(theirs[key]), key
        key = f"val/{way}_regression_loss"
        assert ours[key] == pytest.approx(theirs[key], abs=1e-4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_kept_states(strategy: tuple[str, ...], tmp_path: Path, pair: ProcessPair) -> None:
    """Each process keeps other items: none waits for a block that the other need not run."""
    kept = ("--model.text.cache_gib", "1", "--model.image.cache_gib", "1")
    pair.run(*fit(tmp_path / "kept", 2, *strategy, *kept, max_steps=8))
    assert "val/R@1" in scalars(tmp_path / "kept")

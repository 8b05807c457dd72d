"""Every trained method in two processes (gloo): the steps of one, copied or sharded."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_pair import DDP, SHARDED, ProcessPair, recorded, same_steps, steps
from running import main, scalars
from runs import DATA, TRAINED, Runs

OWN = {
    "almr": "what a process reads depends on their number: see datamodules/test_mixture_runs.py",
    "m3_jepa": "its losses depend on what else is in a batch: see m3_jepa/test_two_processes.py",
    "megan_mixed": "bfloat16 rounds otherwise in each layout",
}
CASES = [
    pytest.param(case, marks=[pytest.mark.skip(reason=OWN[case])] if case in OWN else [])
    for case in TRAINED
]
FIT = (
    *("--data.batch_size", "1"),  # four micro-batches: the smallest sample has five records
    *("--trainer.max_steps", "2", "--trainer.check_val_every_n_epoch", "null"),
    *("--model.optimizer.lr", "0.01", "--model.optimizer.schedule", "constant"),
    *("--model.optimizer.warmup_ratio", "0"),
)


@pytest.fixture(autouse=True)
def own_cache(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process keeps is found by two."""
    monkeypatch.setenv("ZOO_CACHE", str(runs.folder / "cache"))


@pytest.fixture(scope="session")
def alone(runs: Runs) -> dict[str, Path]:
    """Runs in one process that accumulates two micro-batches."""
    return {}


@pytest.mark.parametrize("strategy", [DDP, SHARDED], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("case", CASES)
def test_steps(
    case: str,
    strategy: tuple[str, ...],
    tmp_path: Path,
    runs: Runs,
    pair: ProcessPair,
    alone: dict[str, Path],
) -> None:
    """Losses and gradient norms of two steps, and the losses of a validation."""
    given = (*TRAINED[case], *DATA, *FIT)
    if case not in alone:
        alone[case] = runs.folder / f"{case}-alone"
        one = ("--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "4")
        main(*recorded(alone[case], *given, *one))
    two = ("--trainer.accumulate_grad_batches", "1", "--trainer.val_check_interval", "2")
    pair.run(*recorded(tmp_path / "two", *given, *two, *strategy))
    same_steps(steps(tmp_path / "two", ranks=2), steps(alone[case]))
    ours, theirs = scalars(tmp_path / "two"), scalars(alone[case])
    losses = [tag for tag in theirs if tag.startswith("val/") and tag.endswith("loss")]
    assert losses
    for tag in losses:
        assert ours[tag] == pytest.approx(theirs[tag], abs=1e-4), tag

"""Two CPU processes (gloo): the optimiser steps of one process, sharded (FSDP2) or copied (DDP)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from recorder import lines, overlay
from running import CONFIG, JEPA, ROOT, SMALL, main, start

FSDP2 = str(ROOT / "configs" / "overlays" / "fsdp2.yaml")
STEPS = 5
DATA = (
    *("--data.num_train", "40", "--data.num_val", "12", "--data.max_val", "6"),
    *("--data.batch_size", "2", "--data.eval_batch_size", "2"),
)


METHANOL = ("--config", CONFIG, *SMALL, *DATA)


def fitting(tmp_path: Path, name: str, *args: str, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the arguments of a run that writes its steps down."""
    more = overlay(tmp_path / f"{name}.yaml", tmp_path / f"{name}.log")
    return (
        *("fit", *given, "--config", more, *args, "--trainer.gradient_clip_val", "0.5"),
        *("--trainer.default_root_dir", str(tmp_path / name)),
        *("--trainer.log_every_n_steps", "1", "--checkpoint.every_n_train_steps", "3"),
    )


def run_here(tmp_path: Path, name: str, *args: str, given: tuple[str, ...] = METHANOL) -> Path:
    """Run `fit` in this process; return the run folder."""
    main(*fitting(tmp_path, name, *args, given=given))
    return tmp_path / name


def launch(tmp_path: Path, name: str, *args: str, given: tuple[str, ...] = METHANOL) -> Path:
    """Run `fit` in a process group of its own; return the run folder."""
    folder = tmp_path / name
    arguments = fitting(tmp_path, name, *args, given=given)
    process = start(*arguments, cwd=tmp_path, start_new_session=True)
    try:
        out, err = process.communicate(timeout=150)
    except subprocess.TimeoutExpired as late:  # one rank died and the other waits for it
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"a rank hangs; said until then: {(late.stderr or b'').decode()[-3000:]}")
    assert process.returncode == 0, err[-3000:]
    assert "Traceback" not in err
    return folder


def objective(tmp_path: Path, name: str, ranks: int, accumulate: int) -> list[tuple[float, float]]:
    """Return loss and gradient norm of every optimiser step."""
    logs = [lines(tmp_path / f"{name}.log", rank) for rank in range(ranks)]
    assert len({len(log) for log in logs}) == 1
    result = []
    for start_ in range(0, len(logs[0]), accumulate):
        window = [line for log in logs for line in log[start_ : start_ + accumulate]]
        result.append((sum(w["loss"] for w in window) / ranks, window[-1]["norm"]))
    return result


BACKBONES = {"MeTHanol": "tiny-llama", "tied": "tiny-qwen2"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """The same run in one process that accumulates two micro-batches, for both backbones."""
    tmp_path = tmp_path_factory.mktemp("alone")
    args = ("--trainer.max_steps", str(STEPS), "--trainer.accumulate_grad_batches", "2")
    return {
        name: (
            tmp_path,
            run_here(tmp_path, name, *args, "--model.backbone.name", backbone, *validate(10)),
        )
        for name, backbone in BACKBONES.items()
    }


def validate(batches: int) -> tuple[str, ...]:
    return "--trainer.val_check_interval", str(batches), "--trainer.check_val_every_n_epoch", "null"


def same_steps(ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> None:
    assert len(ours) == len(theirs)
    for (loss, norm), (other, other_norm) in zip(ours, theirs, strict=True):
        assert loss == pytest.approx(other, abs=1e-5)
        assert norm == pytest.approx(other_norm, abs=1e-4)
    assert ours[0][0] != pytest.approx(ours[-1][0], abs=1e-3), "it does not train"


def scalars(folder: Path) -> dict[str, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("name", BACKBONES)
def test_fsdp2_steps(name: str, tmp_path: Path, alone: dict[str, tuple[Path, Path]]) -> None:
    """Losses and norms over five steps, then validation with generation, export, resume."""
    two = ("--config", FSDP2, "--trainer.accelerator", "cpu", "--trainer.precision", "32-true")
    backbone = ("--model.backbone.name", BACKBONES[name])
    options = (*two, *backbone, "--trainer.max_steps", str(STEPS), *validate(5))
    folder = launch(tmp_path, "two", *options)
    same_steps(objective(tmp_path, "two", 2, 1), objective(alone[name][0], name, 1, 2))

    ours, theirs = scalars(folder), scalars(alone[name][1])
    for term in ("think", "speak"):
        key = f"val/{term}_loss"
        assert ours[key] == pytest.approx(theirs[key], abs=1e-4)
    assert "val/accuracy" in ours

    saved = folder / "checkpoints" / "last.ckpt"
    assert saved.is_dir()
    export_and_load(tmp_path, folder, saved, alone[name][1])
    if name == "tied":
        return
    middle = folder / "checkpoints" / "step-3.ckpt"
    whole = folder / "checkpoints"
    assert middle.is_dir(), [p.name for p in whole.iterdir()]
    again = launch(tmp_path, "again", *options, "--ckpt_path", str(middle))
    assert [w["step"] for w in lines(tmp_path / "again.log")] == [4, 5]
    for rank in range(2):
        first = lines(tmp_path / "two.log", rank)[3:]
        assert lines(tmp_path / "again.log", rank) == first
    assert (again / "checkpoints" / "last.ckpt").is_dir()


def export_and_load(tmp_path: Path, folder: Path, saved: Path, alone: Path) -> None:
    """A sharded checkpoint becomes one plain folder with the weights of the one-process run."""
    from running import command
    from transformers import AutoModelForCausalLM

    import zoo

    out = tmp_path / "exported"
    done = command(
        *("export", "--config", str(folder / "config.yaml"), "--ckpt_path", str(saved)),
        *("--output", str(out)),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lm = AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
    state = torch.load(alone / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for key, value in lm.state_dict().items():
        torch.testing.assert_close(value, state[f"lm.{key}"], atol=1e-4, rtol=1e-3)
    head = zoo.load(out).thinking_head.weight
    torch.testing.assert_close(head, state["thinking_head.weight"], atol=1e-4, rtol=1e-3)
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 4


def test_fsdp2_lora_checkpointing_and_mixed_precision(tmp_path: Path) -> None:
    """Adapters, recomputed blocks and bf16 compute under sharding: it trains and saves."""
    two = ("--config", FSDP2, "--trainer.accelerator", "cpu", "--trainer.precision", "bf16-mixed")
    lora = ("--config", str(ROOT / "configs" / "overlays" / "lora.yaml"))
    recompute = ("--model.backbone.gradient_checkpointing", "true")
    launch(tmp_path, "mixed", *two, *lora, *recompute, *validate(3), "--trainer.max_steps", "3")
    first, *_, last = objective(tmp_path, "mixed", 2, 1)
    assert 0 < last[0] < first[0]


def test_processes_that_stop_decoding_at_different_steps(tmp_path: Path) -> None:
    """Sharded blocks are collectives: who is done keeps the others company, or all hang."""
    two = ("--config", FSDP2, "--trainer.accelerator", "cpu", "--trainer.precision", "32-true")
    uneven = ("--model", "recorder.Uneven", "--trainer.max_steps", "1", *validate(1))
    assert "val/accuracy" in scalars(launch(tmp_path, "uneven", *two, *uneven))


def test_ddp_steps(tmp_path: Path, alone: dict[str, tuple[Path, Path]]) -> None:
    """Two copies take the steps of one process."""
    options = ("--trainer.strategy", "ddp", "--trainer.devices", "2", *validate(5))
    folder = launch(tmp_path, "two", *options, "--trainer.max_steps", str(STEPS))
    home, single = alone["MeTHanol"]
    same_steps(objective(tmp_path, "two", 2, 1), objective(home, "MeTHanol", 1, 2))
    ours, theirs = scalars(folder), scalars(single)
    for key in ("val/think_loss", "val/speak_loss"):
        assert ours[key] == pytest.approx(theirs[key], abs=1e-4)


# -- M3-JEPA -----------------------------------------------------------------------------------

PAIRS = (  # eight drawings, none of them another's caption; nothing is drawn at random
    *(*JEPA, "--data", "datamodules.ImageText", "--data.eval_batch_size", "2"),
    *("--model.dropout", "0", "--model.text.dropout", "0", "--model.image.dropout", "0"),
    *(
        "--model.text.cache_gib",
        "0",
        "--model.image.cache_gib",
        "0",
        "--model.optimizer.lr",
        "0.005",
    ),
)
LOSSES = {
    "regression": ("--model.alpha", "1"),
    "contrastive": ("--model.alpha", "0", "--model.across_ranks", "true"),
}
COPIES = ("--trainer.strategy", "ddp_find_unused_parameters_true", "--trainer.devices", "2")
SHARDS = ("--config", FSDP2, "--trainer.accelerator", "cpu", "--trainer.precision", "32-true")


@pytest.fixture(scope="module")
def pairs_alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """The runs in one process, four pairs a step."""
    tmp_path = tmp_path_factory.mktemp("pairs")
    args = ("--trainer.max_steps", str(STEPS), "--data.batch_size", "4", *validate(5))
    return {
        name: (tmp_path, run_here(tmp_path, name, *args, *options, given=PAIRS))
        for name, options in LOSSES.items()
    }


STRATEGIES = [
    pytest.param(COPIES, id="ddp", marks=pytest.mark.slow),
    pytest.param(SHARDS, id="fsdp2"),
]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pairs_in_two_processes(
    strategy: tuple[str, ...],
    name: str,
    tmp_path: Path,
    pairs_alone: dict[str, tuple[Path, Path]],
) -> None:
    """Two pairs in each of two processes take the steps of four in one, and find as much."""
    options = ("--trainer.max_steps", str(STEPS), "--data.batch_size", "2", *validate(5))
    folder = launch(tmp_path, "two", *strategy, *LOSSES[name], *options, given=PAIRS)
    home, single = pairs_alone[name]
    same_steps(objective(tmp_path, "two", 2, 1), objective(home, name, 1, 1))
    ours, theirs = scalars(folder), scalars(single)
    for way in ("image2text", "text2image"):
        for key in (f"val/R@1_{way}", f"val/regression_R@5_{way}"):
            assert ours[key] == pytest.approx(theirs[key]), key
        key = f"val/{way}_regression_loss"
        assert ours[key] == pytest.approx(theirs[key], abs=1e-4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_kept_states_in_two_processes(strategy: tuple[str, ...], tmp_path: Path) -> None:
    """Each process keeps other items: none waits for a block that the other need not run."""
    kept = ("--model.text.cache_gib", "1", "--model.image.cache_gib", "1")
    options = ("--trainer.max_steps", "8", "--data.batch_size", "2", *validate(4), *kept)
    folder = launch(tmp_path, "kept", *strategy, *options, given=PAIRS)
    assert "val/R@1" in scalars(folder)

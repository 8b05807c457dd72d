"""Two CPU processes (gloo): the optimiser steps of one process, sharded (FSDP2) or copied (DDP)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from process_pair import DDP, SHARDED, ProcessPair, recorded, same_steps, steps
from recorder import lines
from running import LORA, METHANOL, last, load, main, scalars, start
from transformers import AutoModelForCausalLM

import zoo
from zoo.weights import check_shards

STEPS = 5
DATA = (
    *("--data.num_train", "40", "--data.num_val", "12", "--data.max_val", "6"),
    *("--data.batch_size", "2", "--data.eval_batch_size", "2"),
)


def fit(folder: Path, *args: str) -> tuple[str, ...]:
    """Return the arguments of a run that writes its steps down."""
    more = ("--trainer.gradient_clip_val", "0.5", "--checkpoint.every_n_train_steps", "3")
    return recorded(folder, *METHANOL, *DATA, *args, *more)


def launch(folder: Path, *args: str) -> None:
    """Run `fit` with two processes that Lightning starts, in a process group of its own."""
    process = start(*fit(folder, *args), cwd=folder.parent, start_new_session=True)
    try:
        _, err = process.communicate(timeout=150)
    except subprocess.TimeoutExpired as late:  # one rank died and the other waits for it
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"a rank hangs; said until then: {(late.stderr or b'').decode()[-3000:]}")
    assert process.returncode == 0, err[-3000:]
    assert "Traceback" not in err


BACKBONES = {"MeTHanol": "tiny-llama", "tied": "tiny-qwen2"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same run in one process that accumulates two micro-batches, for both backbones."""
    args = ("--trainer.max_steps", str(STEPS), "--trainer.accumulate_grad_batches", "2")
    folders = {name: tmp_path_factory.mktemp("alone") / name for name in BACKBONES}
    for name, folder in folders.items():
        main(*fit(folder, *args, "--model.backbone.name", BACKBONES[name], *validate(10)))
    return folders


def validate(batches: int) -> tuple[str, ...]:
    return "--trainer.val_check_interval", str(batches), "--trainer.check_val_every_n_epoch", "null"


@pytest.mark.parametrize("name", BACKBONES)
def test_fsdp2_steps(name: str, tmp_path: Path, alone: dict[str, Path], pair: ProcessPair) -> None:
    """Losses and norms over five steps, then validation with generation, export, resume."""
    backbone = ("--model.backbone.name", BACKBONES[name])
    options = (*SHARDED, *backbone, "--trainer.max_steps", str(STEPS), *validate(5))
    folder = tmp_path / "two"
    if name == "tied":
        pair.run(*fit(folder, *options))
    else:
        launch(folder, *options)
    same_run(folder, alone[name])
    assert "val/accuracy" in scalars(folder)
    assert last(folder).is_dir()
    export_and_load(tmp_path, folder, alone[name])
    if name == "tied":
        return
    middle = folder / "checkpoints" / "step-3.ckpt"
    assert middle.is_dir(), [path.name for path in middle.parent.iterdir()]
    again = tmp_path / "again"
    pair.run(*fit(again, *options, "--ckpt_path", str(middle)))
    assert [line["step"] for line in lines(again / "log")] == [4, 5]
    for rank in range(2):
        assert lines(again / "log", rank) == lines(folder / "log", rank)[3:]
    assert last(again).is_dir()


def same_run(ours: Path, theirs: Path) -> None:
    """Assert that a run of two processes takes the steps of another one, and validates alike."""
    taken = steps(ours, ranks=2)
    same_steps(taken, steps(theirs))
    assert taken[0][0] != pytest.approx(taken[-1][0], abs=1e-3), "it does not train"
    for term in ("think", "speak"):
        key = f"val/{term}_loss"
        assert scalars(ours)[key] == pytest.approx(scalars(theirs)[key], abs=1e-4)


def export_and_load(tmp_path: Path, folder: Path, alone: Path) -> None:
    """A sharded checkpoint becomes one plain folder with the weights of the one-process run."""
    out = tmp_path / "exported"
    given = ("--config", str(folder / "config.yaml"), "--ckpt_path", str(last(folder)))
    main("export", *given, "--output", str(out))
    lm = AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
    state = load(last(alone))["state_dict"]
    for key, value in lm.state_dict().items():
        torch.testing.assert_close(value, state[f"lm.{key}"], atol=1e-4, rtol=1e-3)
    head = zoo.load(out).thinking_head.weight
    torch.testing.assert_close(head, state["thinking_head.weight"], atol=1e-4, rtol=1e-3)
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 4


def test_fsdp2_lora_checkpointing_and_mixed_precision(tmp_path: Path, pair: ProcessPair) -> None:
    """Adapters, recomputed blocks and bf16 compute under sharding: it trains and saves."""
    mixed = (*SHARDED, "--trainer.precision", "bf16-mixed", "--config", LORA)
    recompute = ("--model.backbone.gradient_checkpointing", "true")
    run = (*mixed, *recompute, *validate(3), "--trainer.max_steps", "3")
    pair.run(*fit(tmp_path / "mixed", *run))
    first, *_, final = steps(tmp_path / "mixed", ranks=2)
    assert 0 < final[0] < first[0]


@pytest.mark.slow
def test_killed_between_the_files_of_a_checkpoint(tmp_path: Path) -> None:
    """The checkpoint before it stays whole, and the run goes on from it."""
    folder = tmp_path / "killed"
    steps_, often = ("--trainer.max_steps", "4"), ("--checkpoint.every_n_train_steps", "1")
    dying = ("--trainer.strategy.class_path", "dying_rank.DyingFSDP2")
    options = fit(folder, *SHARDED, *dying, *steps_)
    process = start(*options, *often, cwd=tmp_path, start_new_session=True)
    _, err = process.communicate(timeout=150)
    assert process.returncode != 0, err[-2000:]
    assert torch.load(last(folder) / "meta.pt", weights_only=True)["global_step"] == 2
    check_shards(last(folder))
    again = tmp_path / "again"
    launch(again, *SHARDED, *steps_, "--ckpt_path", str(last(folder)))
    assert [line["step"] for line in lines(again / "log")] == [3, 4]


def test_processes_that_stop_decoding_at_different_steps(tmp_path: Path, pair: ProcessPair) -> None:
    """Sharded blocks are collectives: who is done keeps the others company, or all hang."""
    uneven = ("--model", "recorder.Uneven", "--trainer.max_steps", "1", *validate(1))
    pair.run(*fit(tmp_path / "uneven", *SHARDED, *uneven))
    assert "val/accuracy" in scalars(tmp_path / "uneven")


def test_ddp_steps(tmp_path: Path, alone: dict[str, Path], pair: ProcessPair) -> None:
    """Two copies take the steps of one process."""
    run = (*DDP, *validate(5), "--trainer.max_steps", str(STEPS))
    pair.run(*fit(tmp_path / "two", *run))
    same_run(tmp_path / "two", alone["MeTHanol"])

"""Runs on a streamed mixture, and on stored examples, that are killed or have two processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from killed_runs import kill_after, same_weights
from process_pair import DDP, ProcessPair, recorded
from recorder import lines, overlay
from running import METHANOL, last, load, main, start, tiny

STEPS = 15
EPOCH = 20  # micro-batches, two of them a step
BLOCKS = (
    *("--model.max_length", "64", "--data.num_tokens", str(64 * 2 * EPOCH)),
    *("--data.batch_size", "2", "--data.held_out", "2", "--trainer.val_check_interval", "10"),
)
SAVES = (
    *("--trainer.check_val_every_n_epoch", "null", "--trainer.max_steps", str(STEPS)),
    *("--trainer.accumulate_grad_batches", "2", "--checkpoint.every_n_train_steps", "3"),
)
STREAMED = (*tiny("almr"), *BLOCKS, *SAVES)
STORED = (
    *(*METHANOL, *SAVES, "--data.num_train", "40", "--data.num_val", "4", "--data.batch_size", "2"),
    *("--data.keep_in_memory", "false", "--trainer.val_check_interval", "10"),
)


def fit(folder: Path, given: tuple[str, ...], pause: float = 0.0) -> tuple[str, ...]:
    """Return the arguments of a run that writes its batches to `folder`.log."""
    more = overlay(folder.with_suffix(".yaml"), folder.with_suffix(".log"), pause=pause)
    return ("fit", *given, "--config", more, "--trainer.default_root_dir", str(folder))


# Step 3 lies in the first epoch of 10 steps, and the rest crosses its end.
@pytest.mark.slow
@pytest.mark.parametrize("given", [STREAMED, STORED], ids=["streamed", "stored"])
def test_killed_in_an_epoch(
    given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill -9` with two workers; what was run without workers is gone on with, bit for bit."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    whole, broken, again = (tmp_path / name for name in ("whole", "broken", "again"))
    main(*fit(whole, given))
    workers = ("--data.num_workers", "2")
    process = start(*fit(broken, (*given, *workers), pause=0.05), cwd=tmp_path)
    saved = kill_after(process, broken, 3)
    assert 3 <= saved < STEPS
    main(*fit(again, (*given, *workers)), "--ckpt_path", str(last(broken)))
    ours, expected = (lines(folder.with_suffix(".log")) for folder in (again, whole))
    assert len(ours) == 2 * (STEPS - saved)
    for mine, other in zip(ours, expected[2 * saved :], strict=True):
        assert {**mine, "norm": 0} == {**other, "norm": 0}  # logged one step late
    same_weights(last(whole), last(again), STEPS)


@pytest.mark.parametrize(
    "given", [STREAMED, pytest.param(STORED, marks=pytest.mark.slow)], ids=["streamed", "stored"]
)
def test_two_processes_go_on_where_each_was(
    given: tuple[str, ...], tmp_path: Path, pair: ProcessPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One checkpoint holds the places of all processes: mid-epoch, and at an epoch's end."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    run = (*given, *DDP)
    pair.run(*recorded(tmp_path / "whole", *run))
    whole = [lines(tmp_path / "whole" / "log", rank) for rank in range(2)]
    assert not {x["content"] for x in whole[0]} & {x["content"] for x in whole[1]}
    for step in (3, 5):  # an epoch is five steps of two processes
        more = ("--checkpoint.every_n_train_steps", str(step), "--trainer.max_steps", str(step))
        pair.run(*recorded(tmp_path / f"to{step}", *run, *more))
        again = tmp_path / f"again{step}"
        pair.run(*recorded(again, *run, "--ckpt_path", str(last(tmp_path / f"to{step}"))))
        for rank in range(2):
            ours: list[dict[str, Any]] = lines(again / "log", rank)
            contents = [x["content"] for x in whole[rank][2 * step :]]
            assert [x["content"] for x in ours] == contents, (step, rank)
    assert load(last(again))["global_step"] == STEPS


def test_check_reads_the_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong far behind the head of a stream is not seen by `check`."""
    rows = [json.dumps({"text": f"text {i}, of some words"}) for i in range(600)]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join([*rows, "broken", *rows]))
    sources = json.dumps({"english": str(path), "german": str(path)})
    main("check", *tiny("almr"), *BLOCKS, "--data.sources", sources)
    out = capsys.readouterr().out
    assert "streamed    2,560 tokens in blocks of 64; exact shares" in out
    assert f"german        33.00%  1 shards of {path}" in out

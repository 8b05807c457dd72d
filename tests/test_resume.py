"""A killed run, resumed, is the unbroken run: same batches, same weights, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed_runs import RUN, STEPS, arguments, kill_after, same_weights
from recorder import lines, overlay
from running import last, load, main, start, tiny

STREAM = (  # the same numbers of micro-batches, from files that are never read whole
    *(*tiny("almr"), "--model.max_length", "64", "--data.batch_size", "2"),
    *("--data.num_tokens", str(64 * 2 * 27), "--trainer.accumulate_grad_batches", "2"),
    *("--checkpoint.every_n_train_steps", "3", "--trainer.max_steps", str(STEPS)),
    *("--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "100"),
)
# Step 3 lies in the first epoch, so the rest crosses its end; step 15 lies in the second one.
STORED = ("--data.keep_in_memory", "false", "--data.num_workers", "2")  # in an Arrow file


@pytest.mark.parametrize(
    ("step", "more"), [(3, ()), (15, ()), pytest.param(9, STORED, marks=pytest.mark.slow)]
)
def test_killed_and_resumed(
    step: int,
    more: tuple[str, ...],
    tmp_path: Path,
    unbroken: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    given = (*RUN, *more)
    process = start(*arguments(tmp_path, "run", "first", pause=0.05, run=given), cwd=tmp_path)
    saved = kill_after(process, folder, step)
    assert step <= saved < STEPS
    capfd.readouterr()
    main(*arguments(tmp_path, "run", "second", run=given), "--ckpt_path", str(last(folder)))
    out, err = capfd.readouterr()
    assert "not resumable" not in err
    assert "other settings" not in out

    whole = lines(unbroken / "log")
    assert len(whole) == 27 + 2 * 4  # 14 steps of the first epoch, 4 of the second
    again = lines(tmp_path / "second")
    expected = whole[len(whole) - len(again) :]
    assert [x["step"] for x in whole[: len(whole) - len(again)]][-1] == saved
    volatile = {"norm", "ids"} if more else {"norm"}  # logged one step late; stored have no record
    for ours, theirs in zip(again, expected, strict=True):
        for name in ours.keys() - volatile:
            assert ours[name] == theirs[name], (name, ours, theirs)
    same_weights(last(folder), last(unbroken / "run"))


@pytest.mark.fidelity("almr", 1)
@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_killed_and_resumed_in_a_stream(workers: str, tmp_path: Path) -> None:
    """Every text is where it was, also if other workers read on, over an epoch's end."""
    main(*arguments(tmp_path, "whole", "whole.log", run=STREAM))
    given = (*STREAM, "--data.num_workers", workers)
    process = start(*arguments(tmp_path, "run", "first", pause=0.05, run=given), cwd=tmp_path)
    saved = kill_after(process, tmp_path / "run", 6)
    main(
        *arguments(tmp_path, "run", "second", run=STREAM),
        *("--ckpt_path", str(last(tmp_path / "run"))),
    )
    whole, again = lines(tmp_path / "whole.log"), lines(tmp_path / "second")
    assert len(again) == len(whole) - 2 * saved + (saved > 13)  # a step of one micro-batch
    for ours, theirs in zip(again, whole[-len(again) :], strict=True):
        assert {**ours, "norm": 0} == {**theirs, "norm": 0}
    same_weights(last(tmp_path / "run"), last(tmp_path / "whole"))


def test_every_example_once_per_epoch(unbroken: Path) -> None:
    """The log that the comparison rests on covers the epoch, in another order than the file's."""
    first = [i for x in lines(unbroken / "log") if x["epoch"] == 0 for i in x["ids"]]
    second = [i for x in lines(unbroken / "log") if x["epoch"] == 1 for i in x["ids"]]
    assert len(first) == len(set(first)) == 53
    assert set(second) < set(first)
    assert second != first[: len(second)]


def test_checkpoint_is_plain(unbroken: Path) -> None:
    """Tensors and plain values only: loading it unpickles nothing. No half-written file is left."""
    content = load(last(unbroken / "run"))
    assert content["hyper_parameters"]["backbone"]["name"] == "tiny-llama"
    assert content["hyper_parameters"]["backbone"]["lora"]["dropout"] == 0.2
    assert not list((unbroken / "run").rglob("*.part"))


def test_save_that_is_interrupted(tmp_path: Path) -> None:
    """The old file stays whole when a save breaks off."""
    from zoo.cli.whole_files import WholeFiles

    class Broken:
        def __reduce__(self) -> str:
            raise OSError("disk full")

    path = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"step": 1}, path)
    with pytest.raises(OSError, match="disk full"):
        WholeFiles().save_checkpoint({"step": 2, "broken": Broken()}, path)
    assert load(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_resume_says_what_the_checkpoint_changes(
    tmp_path: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint's settings win over the command line, and one line says so."""
    given = arguments(tmp_path, "other", "log")
    main(*given, "--model.optimizer.lr", "0.5", "--ckpt_path", str(last(unbroken / "run")))
    told = [x for x in capsys.readouterr().err.splitlines() if "other settings" in x]
    assert len(told) == 1
    assert told[0].endswith("which are used: optimizer.lr 0.5 -> 0.01")


def pairs(tmp_path: Path, name: str, pause: float = 0.0) -> tuple[str, ...]:
    """Return the arguments of a run of M3-JEPA that saves every third of 15 steps."""
    more = overlay(tmp_path / f"{name}.yaml", tmp_path / f"{name}.log", pause=pause)
    return (
        *("fit", *tiny("m3_jepa"), "--model.text.cache_gib", "0", "--model.image.cache_gib", "0"),
        *("--data.max_train", "60", "--data.max_val", "14", "--config", more),
        *("--trainer.max_steps", "15", "--trainer.val_check_interval", "5"),
        *("--checkpoint.every_n_train_steps", "3", "--trainer.logger", "false"),  # no figures
        *("--trainer.default_root_dir", str(tmp_path / name)),
    )


def test_killed_and_resumed_pairs(tmp_path: Path) -> None:
    """M3-JEPA: directions, batches and weights of the unbroken run."""
    main(*pairs(tmp_path, "whole"))
    process = start(*pairs(tmp_path, "broken", pause=0.1), cwd=tmp_path)
    saved = kill_after(process, tmp_path / "broken", 3)
    assert saved < 15
    ckpt = ("--ckpt_path", str(last(tmp_path / "broken")))
    main(*pairs(tmp_path, "again"), *ckpt)
    again = lines(tmp_path / "again.log")
    assert len(again) == 15 - saved
    for ours, theirs in zip(again, lines(tmp_path / "whole.log")[saved:], strict=True):
        assert {**ours, "norm": 0} == {**theirs, "norm": 0}
    same_weights(last(tmp_path / "whole"), last(tmp_path / "again"), 15)

"""A killed run, resumed, is the unbroken run: same batches, same weights, bit for bit."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recorder import lines, overlay
from running import LORA, METHANOL, last, load, main, refusal, start, tiny

from zoo.errors import InputError
from zoo.sharding import replace
from zoo.weights import STEP, check_shards

# 27 micro-batches an epoch are 14 optimiser steps; the last one has a single micro-batch.
DATA = ("--data.num_train", "53", "--data.num_val", "4", "--data.batch_size", "2")
RUN = (
    *(*METHANOL, "--config", LORA, "--model.backbone.lora.dropout", "0.2", *DATA),
    *("--trainer.accumulate_grad_batches", "2", "--checkpoint.every_n_train_steps", "3"),
    *("--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "12"),
    *("--trainer.max_steps", "18", "--model.optimizer.lr", "0.01"),
)
STEPS = 18
STREAM = (  # the same numbers of micro-batches, from files that are never read whole
    *(*tiny("almr"), "--model.max_length", "64", "--data.batch_size", "2"),
    *("--data.num_tokens", str(64 * 2 * 27), "--trainer.accumulate_grad_batches", "2"),
    *("--checkpoint.every_n_train_steps", "3", "--trainer.max_steps", str(STEPS)),
    *("--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "100"),
)


def arguments(
    tmp_path: Path, name: str, log: str, pause: float = 0.0, run: tuple[str, ...] = RUN
) -> tuple[str, ...]:
    more = overlay(tmp_path / f"{log}.yaml", tmp_path / log, pause=pause)
    root = ("--trainer.default_root_dir", str(tmp_path / name))
    return ("fit", *run, "--config", more, *root)


def same_weights(one: Path, other: Path, step: int = STEPS) -> None:
    ours, theirs = load(one), load(other)
    assert ours["global_step"] == theirs["global_step"] == step
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, value in ours["state_dict"].items():
        assert torch.equal(value, theirs["state_dict"][name]), name
    moments = ours["optimizer_states"][0]["state"], theirs["optimizer_states"][0]["state"]
    for index, state in moments[0].items():
        for name, value in state.items():
            assert torch.equal(value, moments[1][index][name]), (index, name)


def kill_after(process: Any, folder: Path, step: int) -> int:
    """Kill the run once a checkpoint of at least `step` is there; return the step it has.

    Every look at `last.ckpt` on the way must find a whole file.
    """
    deadline = time.monotonic() + 300
    found = 0
    while found < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        if last(folder).exists():
            found = load(last(folder))["global_step"]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return load(last(folder))["global_step"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 18 steps over one and a quarter epochs."""
    tmp_path = tmp_path_factory.mktemp("unbroken")
    main(*arguments(tmp_path, "run", "log"))
    assert load(last(tmp_path / "run"))["global_step"] == STEPS
    return tmp_path


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


# -- init_from ---------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["checkpoint", "folder"])
def test_init_from_takes_weights_only(source: str, tmp_path: Path, unbroken: Path) -> None:
    """Weights are those of the source, the optimiser, step and data start anew."""
    ckpt = last(unbroken / "run")
    options = list(arguments(tmp_path, "run", "log"))
    if source == "folder":  # exported: adapters are merged, so the new run has none
        out = tmp_path / "exported"
        config = str(unbroken / "run" / "config.yaml")
        main("export", "--config", config, "--ckpt_path", str(ckpt), "--output", str(out))
        at = options.index(LORA)
        del options[at - 1 : at + 3]
        ckpt = out
    frozen = ("--model.optimizer.lr", "0.0", "--trainer.max_steps", "2")
    main(*options, *frozen, "--init_from", str(ckpt))
    content = load(last(tmp_path / "run"))
    assert content["global_step"] == 2
    first = lines(tmp_path / "log")[0]
    assert first["ids"] == lines(unbroken / "log")[0]["ids"]
    steps = {float(x["step"]) for x in content["optimizer_states"][0]["state"].values()}
    assert steps == {2.0}
    if source == "checkpoint":
        wanted = load(ckpt)["state_dict"]
    else:
        from safetensors.torch import load_file

        wanted = {f"lm.{k}": v for k, v in load_file(ckpt / "model.safetensors").items()}
        wanted |= load_file(ckpt / "zoo.safetensors")
    assert content["state_dict"].keys() == wanted.keys()
    for name, value in content["state_dict"].items():
        assert torch.equal(value, wanted[name]), name


def test_init_from_another_model(
    tmp_path: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parameters that do not fit are named in one line."""
    options = arguments(tmp_path, "run", "log")
    with pytest.raises(SystemExit):
        main(*options, "--model.thinking_norm", "false", "--init_from", str(last(unbroken / "run")))
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("error: ")
    assert "1 unknown (norm_before_thinking.weight)" in err


def test_both_sources(tmp_path: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ckpt = str(last(unbroken / "run"))
    with pytest.raises(SystemExit):
        main(*arguments(tmp_path, "run", "log"), "--ckpt_path", ckpt, "--init_from", ckpt)
    assert "init_from starts a new one: give one of them" in capsys.readouterr().err


# -- what does not fit -------------------------------------------------------------------------


@pytest.fixture
def refused_resume(
    tmp_path: Path, unbroken: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Go on from the unbroken run after changing its checkpoint; return the one line of error."""

    def run(change: Callable[[dict[str, Any]], Any], verb: str = "fit", **options: str) -> str:
        content = load(last(unbroken / "run"))
        change(content)
        torch.save(content, tmp_path / "changed.ckpt")
        root = ("--trainer.default_root_dir", str(tmp_path / "new"))
        given = ("--config", str(unbroken / "run" / "config.yaml"), *root)
        name = "--init_from" if "weights" in options else "--ckpt_path"
        changed = str(tmp_path / "changed.ckpt")
        said = refusal(capfd, unbroken, name, changed, verb=verb, given=given)
        # Lightning opens the log before it reads a checkpoint
        written = [path.name for path in (tmp_path / "new").rglob("*")]
        assert all(name.startswith("events.out") for name in written), written
        return said

    return run


HEAD = "thinking_head.weight"


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_checkpoint_with_other_parameters(verb: str, refused_resume: Callable[..., str]) -> None:
    """Missing, unknown and mis-shaped ones are named, and nothing is written."""
    said = refused_resume(lambda content: content["state_dict"].pop(HEAD), verb)
    assert f"1 missing ({HEAD}), 0 unknown" in said
    said = refused_resume(lambda content: content["state_dict"].update(new=torch.ones(1)), verb)
    assert "0 missing (), 1 unknown (new)" in said
    said = refused_resume(lambda content: content["state_dict"].update({HEAD: torch.ones(2)}), verb)
    assert f"the first is {HEAD}: [2], not [" in said


@pytest.mark.parametrize("verb", ["fit", "generate"])
def test_weights_of_other_shapes(verb: str, refused_resume: Callable[..., str]) -> None:
    options = {"weights": "yes"} if verb == "fit" else {}
    change = {HEAD: torch.ones(2)}
    said = refused_resume(lambda content: content["state_dict"].update(change), verb, **options)
    assert f"1 parameters have other shapes than MeTHanol's, the first is {HEAD}: [2]" in said


def test_checkpoint_without_the_optimiser(refused_resume: Callable[..., str]) -> None:
    said = refused_resume(lambda content: content.pop("optimizer_states"))
    assert "holds weights only; start from them with --init_from" in said


def test_another_run_is_not_overwritten(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ("--config", str(unbroken / "run" / "config.yaml"))
    before = (unbroken / "run" / "config.yaml").read_text()
    said = refusal(capfd, unbroken, given=given)
    assert "holds another run; name a new folder" in said
    (tmp_path / "predictions.jsonl").write_text("{}")
    root = ("--trainer.default_root_dir", str(tmp_path))
    said = refusal(capfd, tmp_path, *root, verb="predict", given=given)
    assert "holds predictions" in said
    ckpt = ("--ckpt_path", str(last(unbroken / "run")))
    main(
        "validate", *given, *ckpt, "--model.max_generated", "1", "--trainer.limit_val_batches", "1"
    )
    assert (unbroken / "run" / "config.yaml").read_text() == before


def test_runs_of_one_second_have_their_own_folders() -> None:
    from zoo.cli.run_folder import new_folder

    assert len({new_folder("zoo.SFT") for _ in range(50)}) == 50


def test_test_from_an_exported_folder(
    tmp_path: Path, unbroken: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`test` takes weights from it; `fit --ckpt_path` says that it holds weights only."""
    out = str(tmp_path / "exported")
    given = ("--config", str(unbroken / "run" / "config.yaml"))
    main("export", *given, "--ckpt_path", str(last(unbroken / "run")), "--output", out)
    few = ("--model.backbone.lora", "null", "--data.max_test", "2", "--model.max_generated", "0")
    root = ("--trainer.default_root_dir", str(tmp_path / "test"))
    capfd.readouterr()
    main("test", *given, *few, *root, "--ckpt_path", out)
    assert "test/speak_loss" in capfd.readouterr().out
    said = refusal(capfd, tmp_path, *few, *root, "--ckpt_path", out, given=given)
    assert said == f"{out}: holds weights only; start from them with --init_from {out}"


def test_a_plain_data_module(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = ("--trainer.default_root_dir", str(tmp_path))
    data = ("--data", "lightning.pytorch.demos.boring_classes.BoringDataModule")
    said = refusal(capfd, tmp_path, *root, *data)
    assert said.startswith("data: BoringDataModule is a plain LightningDataModule")


# -- sharded -----------------------------------------------------------------------------------


def sharded(folder: Path, *steps: int) -> Path:
    """Write a sharded checkpoint whose processes are at these steps, the first in `meta.pt`."""
    from torch.distributed.checkpoint import FileSystemWriter, save

    state = {f"{STEP}{rank}": torch.tensor(step) for rank, step in enumerate(steps)}
    save({"state_dict": state}, storage_writer=FileSystemWriter(folder), no_dist=True)
    torch.save({"global_step": steps[0]}, folder / "meta.pt")
    return folder


def test_mixed_sharded_checkpoint(tmp_path: Path) -> None:
    check_shards(sharded(tmp_path / "whole", 3, 3))
    with pytest.raises(InputError, match="files were written at steps 1, 3; use another"):
        check_shards(sharded(tmp_path / "mixed", 3, 1))


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    old, new = sharded(tmp_path / "last.ckpt", 1), sharded(tmp_path / ".last.ckpt.part", 3)
    replace(new, old)
    assert torch.load(old / "meta.pt") == {"global_step": 3}
    check_shards(old)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]

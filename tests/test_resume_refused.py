"""Checkpoints that do not fit a run are refused in one line, and nothing is overwritten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from running import last, load, main, refusal

from zoo.errors import InputError
from zoo.sharding import replace
from zoo.weights import STEP, check_shards

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

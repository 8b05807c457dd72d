"""A run may take the weights of a checkpoint or folder, and begins anew with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from killed_runs import arguments
from recorder import lines
from running import LORA, last, load, main


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

"""Bad arguments: one line naming key, file and line and what would fit; nothing is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from running import CONFIGS, METHANOL, main

CONFIG = METHANOL[1]
Refused = Callable[..., str]


def yaml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "more.yaml"
    path.write_text(text)
    return str(path)


# -- keys --------------------------------------------------------------------------------------

KEYS = {
    "top": ("trainr:\n  max_steps: 3\n", 2, "trainr.max_steps", "trainer"),
    "trainer": ("trainer:\n  max_step: 3\n", 2, "trainer.max_step", "max_steps"),
    "checkpoint": ("checkpoint:\n  save_las: true\n", 2, "checkpoint.save_las", "save_last"),
    "model": (
        "model:\n  init_args:\n    thinking_layr: 3\n",
        3,
        "model.init_args.thinking_layr",
        "thinking_layer",
    ),
    "backbone": (
        "model:\n  init_args:\n    backbone:\n      nam: x\n",
        4,
        "model.init_args.backbone.nam",
        "name",
    ),
    "lora": (
        "model:\n  init_args:\n    backbone:\n      lora:\n        rnk: 3\n",
        5,
        "model.init_args.backbone.lora.rnk",
        "rank",
    ),
    "data": (
        "data:\n  init_args:\n    batch_siz: 3\n",
        3,
        "data.init_args.batch_siz",
        "batch_size",
    ),
}


@pytest.mark.parametrize("place", KEYS)
def test_unknown_key_in_a_config(place: str, tmp_path: Path, refused: Refused) -> None:
    text, line, key, near = KEYS[place]
    path = yaml(tmp_path, text)
    said = refused("--config", path)
    assert said.startswith(f"{path}:{line}: {key}: ")
    assert f"did you mean {near!r}?" in said


@pytest.mark.parametrize("place", KEYS)
def test_unknown_key_on_the_command_line(place: str, refused: Refused) -> None:
    _, _, key, near = KEYS[place]
    said = refused(f"--{key}", "3")
    assert said.startswith(f"{key}: ")
    assert f"did you mean {near!r}?" in said
    assert refused(f"--{key}=3") == said


def test_unknown_argument_of_a_verb(refused: Refused) -> None:
    assert "did you mean 'init_from'?" in refused("--init_form", "x")


def test_unknown_key_before_a_class_path_given_later(tmp_path: Path, refused: Refused) -> None:
    """The keys are those of the class chosen last: SFT has no thinking layer."""
    path = yaml(tmp_path, "model:\n  class_path: zoo.SFT\n  init_args:\n    learn_thougth: true\n")
    assert "did you mean 'learn_thought'?" in refused("--config", path)


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("trainer.max_steps", "many", "expected int"),
        ("trainer.precision", "bf17", "did you mean 'bf16'?"),
        ("model.init_args.think_weight", "heavy", "expected float"),
        ("model.init_args.optimizer.schedule", "linr", "did you mean 'linear'?"),
        ("model.init_args.backbone.dtype", "float33", "did you mean 'float32'?"),
        ("data.init_args.batch_size", "x", "expected int"),
    ],
)
def test_wrong_type(key: str, value: str, wanted: str, tmp_path: Path, refused: Refused) -> None:
    said = refused(f"--{key}", value)
    assert said.startswith(f"{key}: {value!r} does not fit")
    assert wanted in said
    *above, last = key.split(".")
    text = "".join(f"{'  ' * i}{part}:\n" for i, part in enumerate(above))
    path = yaml(tmp_path, text + "  " * len(above) + f"{last}: {value}\n")
    assert refused("--config", path) == f"{path}:{len(above) + 1}: {said}"


def test_value_that_the_trainer_refuses(refused: Refused) -> None:
    said = refused("--trainer.accelerator", "cpuu")
    assert said.startswith("trainer: ")
    assert "cpuu" in said


@pytest.mark.parametrize(
    ("section", "name", "near"),
    [
        ("model", "zoo.Methanol", "zoo.MeTHanol"),
        ("model", "zo.SFT", "zoo.SFT"),
        ("data", "datamodules.ESCon", "datamodules.ESConv"),
    ],
)
def test_unknown_class(
    section: str, name: str, near: str, tmp_path: Path, refused: Refused
) -> None:
    path = yaml(tmp_path, f"{section}:\n  class_path: {name}\n")
    said = refused("--config", path)
    assert said.startswith(f"{path}:2: {section}.class_path: no class {name!r}")
    assert f"did you mean {near!r}?" in said
    assert f"did you mean {near!r}?" in refused(f"--{section}", name)


def test_class_of_the_wrong_kind(refused: Refused) -> None:
    said = refused("--data", "zoo.MeTHanol")
    assert said.startswith("data: zoo.MeTHanol is no data module; ")


def test_thinking_layer_beyond_the_depth(refused: Refused) -> None:
    said = refused("--model.thinking_layer", "5")
    assert said == "model.thinking_layer: 5 is not in 1..4, the depth of tiny-llama"


def test_unknown_backbone(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused("--model.backbone.name", "tiny-lama")
    assert "backbone.name" in said
    assert "did you mean 'tiny-llama'?" in said
    assert "smollm2-135m" in said
    assert "hf download nobody/nothing --local-dir" in refused(
        "--model.backbone.name", "nobody/nothing"
    )


def test_preset_that_is_not_installed(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both ways to get SmolLM2 are named."""
    from dataclasses import replace

    from zoo import model_files

    preset = model_files.PRESETS["smollm2-135m"]
    gone = replace(preset, wheel="no_such_wheel")
    monkeypatch.setitem(model_files.PRESETS, "smollm2-135m", gone)
    monkeypatch.setattr(model_files, "_from_hub", lambda name: None)
    said = refused("--model.backbone.name", "smollm2-135m")
    assert preset.install in said
    assert f"hf download {preset.hub_id} --local-dir" in said


def test_a_folder_that_is_not_there_is_said_before_a_model_is_loaded(refused: Refused) -> None:
    """The model is not there either."""
    given = ("--config", f"{CONFIGS}/methanol_tomi.yaml", "--trainer.precision", "32-true")
    given = (*given, "--model.backbone.name", "nowhere/model")
    said = refused("--data.path", "/nowhere/tomi", given=given)
    assert said == "data.path: /nowhere/tomi: no such file or folder"
    assert "nowhere/model" in refused(given=given)


# -- commands and config files -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["list", "--help"], "usage: python -m zoo list\nmethods, data modules and configs\n"),
        (["configs", "copy", "-h"], "usage: python -m zoo configs copy [FOLDER]\n"),
        (["--help"], "usage: python -m zoo [-c CONFIG]"),
    ],
)
def test_help(args: list[str], wanted: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Of every command, also of those that read no config."""
    with contextlib.suppress(SystemExit):
        main(*args)
    said = capfd.readouterr().out
    assert said.startswith(wanted)
    if args == ["--help"]:
        words = " ".join(said.split())
        assert all(f"{verb} (" in words for verb in ("list", "configs copy", "study", "graph"))


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["fti"], "no command 'fti'; did you mean 'fit'?"),
        (
            [],
            "no command; one of: chat, check, configs copy, export, fit, generate, graph, index",
        ),
        (["--config", CONFIG, "fit"], "no command before --config: it comes first; example: "),
        (["list", "x"], "list x: list takes no arguments"),
        (["configs"], "configs: write `configs copy FOLDER`"),
        (["configs", "copy", "a", "b"], "configs copy a b: write `configs copy FOLDER`"),
        (["fit"], "data, model: not given; give them in a config, --config FILE"),
        (["fit", "--config", f"{CONFIG}x"], f"did you mean {CONFIG!r}?"),
        (["fit", "--config", CONFIG, "--ckpt_path", "gone.ckpt"], "gone.ckpt: no such file"),
        (["fit", "--config", CONFIG, "--init_from", "gone"], "gone: no such file or folder"),
    ],
)
def test_commands(
    args: list[str],
    wanted: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(*args)
    assert stopped.value.code == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert wanted in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"trainer:\n  max_steps: [\n", ":3: invalid YAML"),
        (b"- a\n", ":1: expected keys and values"),
        (b"", ": the file is empty"),
        (b"trainer: \xff\n", ": not UTF-8 at byte 10"),
    ],
)
def test_broken_config(content: bytes, wanted: str, tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    assert refused("--config", str(path)).startswith(f"{path}{wanted}")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a checkpoint", b"\x80\x04\x95."])
def test_file_that_is_no_checkpoint(content: bytes, tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    said = refused("--ckpt_path", str(path))
    assert said == f"{path}: no checkpoint, or a damaged one"
    assert refused("--init_from", str(path)) == said


@pytest.mark.parametrize(
    ("verb", "option"), [("fit", "ckpt_path"), ("fit", "init_from"), ("generate", "ckpt_path")]
)
@pytest.mark.parametrize("inside", ["last.ckpt", "checkpoints/last.ckpt"])
def test_folder_that_is_no_checkpoint(
    verb: str, option: str, inside: str, tmp_path: Path, refused: Refused
) -> None:
    """A run folder is answered with the checkpoint inside."""
    said = refused(f"--{option}", str(tmp_path), verb=verb)
    assert said == f"{tmp_path}: neither a checkpoint nor an exported folder"
    path = tmp_path / inside
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert refused(f"--{option}", str(tmp_path), verb=verb) == f"{said}; did you mean {path}?"

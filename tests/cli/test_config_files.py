"""The YAML files of a command line and the classes that they name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from running import ROOT

from zoo.cli.config_files import find, found, lost
from zoo.errors import InputError

Refused = Callable[..., str]


@pytest.fixture
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Write a YAML file outside of the folder that must stay as it is."""

    def write(text: str) -> str:
        path = tmp_path_factory.mktemp("given") / "more.yaml"
        path.write_text(text)
        return str(path)

    return write


# -- keys that stand twice, options that are lost, names that find a config --------------------


@pytest.mark.parametrize("option", ["--config", "--model.backbone", "--trainer"])
def test_key_that_stands_twice(
    option: str, written: Callable[[str], str], refused: Refused
) -> None:
    """In each YAML file that is read, at any depth; YAML itself would keep the last one."""
    path = written("a:\n  - name: x\n    other: 1\n    name: y\n")
    assert refused(option, path) == f"{path}:4: key 'name' is there twice, first at line 2"
    path = written("trainer:\n  max_steps: 5\n\ntrainer: {}\n")
    assert refused(option, path) == f"{path}:4: key 'trainer' is there twice, first at line 1"


def test_option_before_the_config_that_overrides_it(written: Callable[[str], str]) -> None:
    path = written("model:\n  init_args:\n    think_weight: 2\ntrainer:\n  max_steps: 3\n")
    early = ["--model.think_weight=5", "--trainer.max_steps", "3"]
    (said,) = lost([*early, "--config", path])
    assert said.startswith(f"--model.think_weight 5 is lost: {path}:3 comes after it and says 2")
    assert not lost(["--config", path, *early])
    assert not lost([*early, "--config", path, "--model.think_weight", "7"])


@pytest.mark.parametrize("given", ["methanol", "configs/methanol.yaml", "overlays/lora"])
def test_name_of_a_config_in_any_folder(
    given: str, tmp_path: Path, written: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stem = given.removeprefix("configs/").removesuffix(".yaml")
    path = str(ROOT / "configs" / f"{stem}.yaml")
    assert found(["fit", "--config", given, f"-c={given}"]) == [
        *("fit", "--config", path),
        f"-c={path}",
    ]
    with pytest.raises(InputError, match="did you mean 'methanol'"):
        find("methanl")
    own = written("a: 1\n")
    monkeypatch.setenv("HERE", str(Path(own).parent))
    assert str(find("$HERE/more.yaml")) == own
    with pytest.raises(InputError, match=r"\$NOWHERE is not set"):
        find("$NOWHERE/more.yaml")
    assert found(["fit", "--init_from=~/x", "--name=a~/b"]) == [
        "fit",
        f"--init_from={Path.home()}/x",
        "--name=a~/b",
    ]


# -- classes of the trainer and of the user ----------------------------------------------------


def test_unknown_callback_and_its_arguments(
    written: Callable[[str], str], refused: Refused
) -> None:
    assert "did you mean 'EarlyStopping'?" in refused("--trainer.callbacks", "EarlyStoping")
    head = "trainer:\n  callbacks:\n    - class_path: "
    path = written(f"{head}EarlyStoping\n")
    said = refused("--config", path)
    assert said.startswith(f"{path}:3: trainer.callbacks.class_path: no class 'EarlyStoping'; ")
    path = written(f"{head}EarlyStopping\n      init_args:\n        moniter: x\n")
    said = refused("--config", path)
    assert said.startswith(f"{path}:5: trainer.callbacks.init_args.moniter: no such key 'moniter'")
    assert "did you mean 'monitor'?" in said


BROKEN = {
    "syntax": ("class Mine(zoo.SFT)\n    pass\n", "expected ':'"),
    "import": ("zoo.nothing\n", "AttributeError: module 'zoo' has no attribute 'nothing'"),
    "construction": (
        "class Mine(zoo.SFT):\n  def __init__(self) -> None: super().__init__(); {}['x']\n",
        "KeyError: 'x'",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_mistake_in_a_module_of_the_users(
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
) -> None:
    text, mistake = BROKEN[kind]
    folder = tmp_path_factory.mktemp("own")
    path = folder / f"own_{kind}.py"
    path.write_text(f"import zoo\n{text}")
    monkeypatch.syspath_prepend(folder)
    line = 3 if kind == "construction" else 2
    given = ("--model", f"own_{kind}.Mine", "--data", "datamodules.FalseBelief")
    said = refused("--trainer.precision", "32-true", given=given)
    assert said.endswith(f"{path}:{line}: {mistake}")


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_logger_whose_library_is_missing(refused: Refused) -> None:
    said = refused("--trainer.logger", "WandbLogger")
    assert said.startswith("ModuleNotFoundError: Requirement 'wandb")


# -- an installed zoo --------------------------------------------------------------------------


def zoo_command(folder: Path, *args: str, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "zoo", *args]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["folder", "package", "module"])
def test_own_datamodules_are_named(kind: str, tmp_path: Path) -> None:
    own = tmp_path / ("datamodules.py" if kind == "module" else "datamodules")
    if kind != "module":
        own.mkdir()
        (own / ("__init__.py" if kind == "package" else "data.txt")).touch()
    else:
        own.touch()
    # The folder stands before the checkout on Python's path, as the working folder does.
    done = zoo_command(tmp_path, "list")
    if kind == "folder":  # a plain folder hides nothing from a package further down the path
        assert done.returncode == 0
        return
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {own}")
    assert len(done.stderr.splitlines()) == 1


def files_below(folder: Path) -> set[Path]:
    """Return the files of a folder at any depth, relative to it; none that Python wrote."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if "__pycache__" not in path.parts}


@pytest.mark.slow
def test_wheel_has_the_configs(tmp_path: Path) -> None:
    """The installed zoo works from any folder, and has no top-level package but its own two."""
    source, target, elsewhere = (tmp_path / name for name in ("source", "target", "elsewhere"))
    elsewhere.mkdir()
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", "runs", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", target, source], check=True)
    tops = {path.name for path in target.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"zoo", "datamodules"}
    configs = files_below(ROOT / "configs")
    assert files_below(target / "zoo/configs") == configs
    assert files_below(target / "datamodules/samples") == files_below(ROOT / "datamodules/samples")
    done = zoo_command(elsewhere, "list", path=target)
    assert "  overlays/lora\n" in done.stdout
    done = zoo_command(elsewhere, "fit", "--config", "methanol", "--print_config", path=target)
    assert "class_path: zoo.MeTHanol" in done.stdout
    done = zoo_command(elsewhere, "configs", "copy", path=target)
    assert done.stdout == f"configs     configs: {len(configs)} files\n"
    assert len(list(elsewhere.rglob("*.yaml"))) == len(configs)

"""Every YAML file under configs/: it parses, its keys exist, and a base config runs."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import ROOT, TINY, main

CONFIGS = ROOT / "configs"
TOWERS = ROOT / "tests" / "tiny_towers.yaml"
BASE = sorted(CONFIGS.glob("*.yaml"))
OVERLAYS = sorted((CONFIGS / "overlays").glob("*.yaml"))
PAPER = sorted((CONFIGS / "paper").glob("*.yaml"))
RUNNABLE = ("cpu", "lora")
PROMPTED = ("fisminess_agent", "coct", "esc_baselines")


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


def parsed(*args: str) -> dict[str, object]:
    """Return the settings that `fit` would use; everything is checked against the signatures."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stopped:
        main("fit", *args, "--print_config")
    assert stopped.value.code in (0, None)
    return yaml.safe_load(out.getvalue())


def merged(text: dict[str, object], over: dict[str, object]) -> None:
    """Assert that every value of a file is in the result."""
    for key, value in over.items():
        if isinstance(value, dict):
            merged(text[key], value)  # type: ignore[arg-type]
        else:
            assert text[key] == value, key


def test_all_files_are_covered() -> None:
    assert {*BASE, *OVERLAYS, *PAPER} == set(CONFIGS.rglob("*.yaml"))
    assert len(BASE) >= 3


def tiny(content: dict[str, Any]) -> tuple[str, ...]:
    """Return what makes the method of a config small."""
    method, given = content["model"]["class_path"], content["model"]["init_args"]
    if method.endswith("M3JEPA"):
        return ("--config", str(TOWERS))
    if method.endswith("HdLM"):
        layers = [round(4 * k / 30) for k in given["layers"]]  # of 4 blocks instead of 30
        short = ("--model.max_new_tokens", "4")
        return (*TINY[:-4], *short, "--model.layers", f"{layers}", "--model.max_length", "16384")
    if method.endswith("ConfidentSFT"):
        return (*TINY[:-4], "--model.max_new_tokens", "4", "--model.max_length", "16384")
    if method.endswith(("LaMsS", "MeGan")):
        return (*TINY[:-4], "--model.max_answer_tokens", "4", "--model.max_length", "16384")
    if method.endswith(("LaHoRe", "Rabtriever", "StraQ")):
        return (*TINY[:-4], "--model.max_length", "16384")
    if method.endswith(("FiSMiness", "CoCT", "ESCBaseline")):
        short = ("--model.max_new_tokens", "4", "--model.max_generated", "1")
        return (*TINY[:-4], *short, "--model.max_length", "16384")
    depth = ("--model.thinking_layer", "2") if method.endswith("MeTHanol") else ()
    return (*TINY, *depth, "--model.max_length", "16384")


@pytest.mark.parametrize("path", BASE, ids=name)
def test_base_config_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps and a validation, on a tiny backbone, everything else as it is written."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    content = yaml.safe_load(path.read_text())
    merged(parsed("--config", str(path)), content)
    root = ("--trainer.default_root_dir", str(tmp_path))
    if path.stem in PROMPTED:  # nothing is trained
        main("test", "--config", str(path), *tiny(content), "--data.max_test", "1", *root)
        return
    main(
        *("fit", "--config", str(path), *tiny(content)),
        *("--trainer.max_steps", "2", "--trainer.val_check_interval", "2"),
        *("--trainer.accumulate_grad_batches", "1", "--trainer.check_val_every_n_epoch", "null"),
        *("--data.max_train", "4", "--data.max_val", "2"),
        *("--data.batch_size", "2" if "JEPA" in content["model"]["class_path"] else "1"),
        *root,
    )
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert saved["model"]["class_path"] == content["model"]["class_path"]


@pytest.mark.parametrize("path", OVERLAYS, ids=name)
def test_overlay_composes(path: Path, tmp_path: Path) -> None:
    """Its values win over those of the base config; the CPU ones also run."""
    base = str(CONFIGS / "methanol.yaml")
    merged(parsed("--config", base, "--config", str(path)), yaml.safe_load(path.read_text()))
    if path.stem not in RUNNABLE:
        return
    main(
        *("fit", "--config", base, "--config", str(path), *TINY, "--model.thinking_layer", "2"),
        *("--trainer.max_steps", "1", "--data.num_train", "8", "--data.max_val", "1"),
        *("--trainer.val_check_interval", "1", "--trainer.default_root_dir", str(tmp_path)),
    )


@pytest.mark.parametrize("path", PAPER, ids=name)
def test_paper_overlay_composes(path: Path) -> None:
    base = CONFIGS / path.name
    content = yaml.safe_load(path.read_text())
    config = parsed("--config", str(base), "--config", str(path))
    merged(config, content)
    assert config["data"]["init_args"].get("max_test") is None, "a demo's limit"
    for line in path.read_text().splitlines():
        if line.startswith(" ") and not line.rstrip().endswith(":"):
            assert "# [" in line, f"no source: {line.strip()}"


def test_multinode_follows_fsdp2() -> None:
    """The sizes agree with nodes times devices."""
    paths = [
        CONFIGS / "methanol.yaml",
        *(CONFIGS / "overlays" / f"{n}.yaml" for n in ("fsdp2", "multinode")),
    ]
    trainer = parsed(*(arg for path in paths for arg in ("--config", str(path))))["trainer"]
    strategy = trainer["strategy"]["init_args"]
    assert strategy["data_parallel_size"] == trainer["num_nodes"] * trainer["devices"]
    assert strategy["tensor_parallel_size"] == 1


def test_list_names_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datamodules
    import zoo

    monkeypatch.chdir(ROOT)
    main("list")
    out = capsys.readouterr().out
    homes = [n for n, home in zoo._HOME.items() if home.startswith("zoo.methods.")]
    methods = [n for n in homes if issubclass(getattr(zoo, n), zoo.ZooModule)]
    assert {f"zoo.{n}" for n in methods} <= set(out.split())
    modules = [n for n in datamodules.__all__ if n != "ZooDataModule"]
    assert {f"datamodules.{n}" for n in modules} <= set(out.split())
    for path in CONFIGS.rglob("*.yaml"):
        assert f"  {path.relative_to(ROOT)}" in out.splitlines()
    assert "takes Dialogue, Triple" in out

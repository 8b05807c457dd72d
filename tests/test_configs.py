"""Every YAML file under configs/: it parses, its keys exist, and a base config runs."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import yaml
from running import CONFIGS, ROOT, main, overlays, tiny
from runs import PROMPTED, TRAINED
from training import quiet_trainer

import datamodules
import zoo
from zoo.support.reply import SupportReply

STUDIES = sorted(CONFIGS.glob("*_study.yaml"))
BASE = sorted({*CONFIGS.glob("*.yaml")} - {*STUDIES})
OVERLAYS = sorted((CONFIGS / "overlays").glob("*.yaml"))
PAPER = sorted((CONFIGS / "paper").glob("*.yaml"))
RUNNABLE = ("cpu", "lora")
REST = [path for path in BASE if path.stem not in {*TRAINED, *PROMPTED}]


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
        elif key == "callbacks":
            merged(dict(enumerate(text[key])), dict(enumerate(value)))  # type: ignore
        else:
            assert text[key] == value, key


def test_all_files_are_covered() -> None:
    assert {*BASE, *STUDIES, *OVERLAYS, *PAPER} == set(CONFIGS.rglob("*.yaml"))
    assert len(BASE) >= 3


@pytest.mark.parametrize("path", BASE, ids=name)
def test_base_config_composes(path: Path) -> None:
    merged(parsed("--config", str(path)), yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", REST, ids=name)
def test_base_config_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps and a validation; the other ones run in methods/test_every_method.py."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    main(
        *("fit", *tiny(path.stem), "--trainer.max_steps", "2", "--trainer.val_check_interval", "2"),
        *("--trainer.accumulate_grad_batches", "1", "--trainer.check_val_every_n_epoch", "null"),
        *("--data.max_train", "4", "--data.max_val", "2", "--data.batch_size", "2"),
        *("--trainer.default_root_dir", str(tmp_path)),
    )
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    saved, given = (yaml.safe_load(file.read_text()) for file in (tmp_path / "config.yaml", path))
    assert saved["model"]["class_path"] == given["model"]["class_path"]


@pytest.mark.parametrize("path", OVERLAYS, ids=name)
def test_overlay_composes(path: Path, tmp_path: Path) -> None:
    """Its values win over those of the base config; the CPU ones also run."""
    base = str(CONFIGS / "methanol.yaml")
    merged(parsed("--config", base, "--config", str(path)), yaml.safe_load(path.read_text()))
    if path.stem not in RUNNABLE:
        return
    main(
        *("fit", "--config", base, "--config", str(path), *overlays("methanol")),
        *("--trainer.max_steps", "1", "--data.num_train", "8", "--data.max_val", "1"),
        *("--trainer.val_check_interval", "1", "--trainer.default_root_dir", str(tmp_path)),
    )


@pytest.mark.parametrize("path", STUDIES, ids=name)
def test_study_composes(path: Path) -> None:
    """Its settings are those of a study, every cell's are settings of a fit."""
    from zoo.cli.study import study_of
    from zoo.cli.study_cells import as_options

    study = study_of(["--config", str(path)])
    assert study.report is not None
    for cell in (study.grid()[0], study.grid()[-1]):
        given = [part for config in study.configs for part in ("--config", config)]
        settings = parsed(*given, *as_options({**study.fixed, **cell}))
        assert settings["model"]["init_args"]["optimizer"]["lr"] == cell["model.optimizer.lr"]


@pytest.mark.parametrize("path", PAPER, ids=name)
def test_paper_overlay_composes(path: Path) -> None:
    base = CONFIGS / path.name
    content = yaml.safe_load(path.read_text())
    config = parsed("--config", str(base), "--config", str(path))
    merged(config, content)
    assert config["data"]["init_args"].get("max_test") is None, "a demo's limit"
    assert path.stem in PROMPTED or "max_steps" in content["trainer"], "a demo's length"
    for line in path.read_text().splitlines():
        if line.startswith(" ") and not line.rstrip().endswith(":"):
            assert "# [" in line, f"no source: {line.strip()}"


@pytest.mark.parametrize("path", PAPER, ids=name)
def test_paper_commands_on_esconv_name_its_folder(path: Path) -> None:
    """Without one they would train on the small sample that comes with the package."""
    base = yaml.safe_load((CONFIGS / path.name).read_text())
    if base["data"]["class_path"] not in {"datamodules.ESConv", "datamodules.ESConvStrategies"}:
        pytest.skip("other data")
    lines = path.read_text().splitlines()
    commands = [line for line in lines if line.startswith("#   python -m zoo ")]
    assert commands
    assert all("--data.path FOLDER" in command for command in commands)


@pytest.mark.parametrize("config", ["fisminess_agent", "esc_baselines"])
def test_prompted_supporters_answer_several_dialogues(config: str) -> None:
    """A test as it is written answers every decision of its dialogues, so intervals are of them."""
    settings = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())
    data = settings["data"]["init_args"]
    module = getattr(zoo, settings["model"]["class_path"].removeprefix("zoo."))(
        backbone={"name": "tiny-llama"},
        max_length=8192,
        max_generated=settings["model"]["init_args"]["max_generated"],
    )
    module.configure_model()
    module.respond = lambda records: [SupportReply("I see.", "Others") for _ in records]
    (scores,) = quiet_trainer().test(module, datamodules.ESConv(**data), verbose=False)
    assert scores["test/dialogues"] == data["max_test"] > 1
    assert scores["test/rouge_l/low"] < scores["test/rouge_l/high"]


@pytest.mark.parametrize("path", PAPER, ids=name)
def test_paper_overlay_says_every_setting_of_the_optimizer_that_its_base_changes(
    path: Path,
) -> None:
    """A value for a short run on a small model must not pass for the paper's."""

    def optimizer(config: Path) -> set[str]:
        return {*yaml.safe_load(config.read_text())["model"]["init_args"].get("optimizer", {})}

    assert optimizer(CONFIGS / path.name) <= optimizer(path)


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
    monkeypatch.chdir(ROOT)
    main("list")
    out = capsys.readouterr().out
    homes = [n for n, home in zoo._HOME.items() if home.startswith("zoo.methods.")]
    classes = [n for n in homes if isinstance(getattr(zoo, n), type)]
    methods = [n for n in classes if issubclass(getattr(zoo, n), zoo.ZooModule)]
    assert {f"zoo.{n}" for n in methods} <= set(out.split())
    modules = [n for n in datamodules.__all__ if n != "ZooDataModule"]
    assert {f"datamodules.{n}" for n in modules} <= set(out.split())
    for path in CONFIGS.rglob("*.yaml"):
        assert f"  {path.relative_to(ROOT)}" in out.splitlines()
    assert "takes Dialogue, Triple" in out


@pytest.mark.parametrize("control", ["sft", "sft_thought"])
def test_controls_of_methanol_train_as_it_does(control: str) -> None:
    """Same data, steps, learning rate and limits: what differs is the method."""
    ours, other = (parsed("--config", str(CONFIGS / f"{n}.yaml")) for n in ("methanol", control))
    for name in ("data", "trainer", "seed_everything"):
        assert ours[name] == other[name]
    own, given = ours["model"]["init_args"], other["model"]["init_args"]
    assert [n for n in own.keys() & given.keys() if own[n] != given[n]] == []

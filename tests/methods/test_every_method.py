"""Every method through the command line: fit, resume, export, generate, predict, check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from running import last, load, main, refusal, scalars
from runs import DATA, PROMPTED, STEPS, TRAINED, Runs
from training import quiet_trainer
from transformers import AutoModel, AutoModelForCausalLM

import zoo
from zoo.adapters import adapter_of
from zoo.export import plain_names

CASES = [*TRAINED, *PROMPTED]


@pytest.fixture(autouse=True)
def own_cache(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers and states that a run keeps are found again by the runs that follow it."""
    monkeypatch.setenv("ZOO_CACHE", str(runs.folder / "cache"))


@pytest.fixture(scope="session", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    """One method; all tests of one run after each other, and share its run."""
    return request.param


@pytest.fixture
def trained(case: str) -> str:
    """The same, without methods that are not trained."""
    if case in PROMPTED:
        pytest.skip("prompted only: nothing is trained")
    return case


def same(ours: Any, theirs: Any, where: str = "checkpoint") -> None:
    """Assert that two values are equal, tensors bit for bit, named by where they stand."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for name, value in ours.items():
            same(value, theirs[name], f"{where}.{name}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for i, pair in enumerate(zip(ours, theirs, strict=True)):
            same(*pair, f"{where}.{i}")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


def close(ours: Any, theirs: Any) -> None:
    """Assert that two plain values are equal, numbers but for rounding."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        close(list(ours.values()), list(theirs.values()))
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for pair in zip(ours, theirs, strict=True):
            close(*pair)
    else:
        assert ours == (pytest.approx(theirs, abs=1e-4) if isinstance(ours, float) else theirs)


def test_fit(trained: str, runs: Runs) -> None:
    """A run folder with settings and checkpoints; losses of both stages in TensorBoard."""
    folder = runs.fit(trained)
    assert (folder / "config.yaml").is_file()
    saved = {path.name for path in (folder / "checkpoints").iterdir()}
    assert {"step-2.ckpt", "step-4.ckpt", "last.ckpt"} <= saved
    assert load(last(folder))["global_step"] == STEPS
    values = scalars(folder)
    for stage in ("train", "val"):
        assert [tag for tag in values if re.fullmatch(rf"{stage}/\w+_loss", tag)]
        assert f"{stage}/loss" in values
    assert "train/grad_norm" in values
    assert [tag for tag in values if tag.startswith("speed/")]


def test_resume(trained: str, runs: Runs, tmp_path: Path) -> None:
    """From the middle: weights, optimiser, schedule and what a method keeps, bit for bit."""
    folder = runs.fit(trained)
    middle = folder / "checkpoints" / "step-2.ckpt"
    given = ("--config", str(folder / "config.yaml"), "--ckpt_path", str(middle))
    main("fit", *given, "--trainer.default_root_dir", str(tmp_path))
    whole, resumed = load(last(folder)), load(last(tmp_path))
    paths = ("callbacks",)  # of the other folder
    same(*({n: v for n, v in half.items() if n not in paths} for half in (resumed, whole)))


def test_export(trained: str, runs: Runs) -> None:
    """Plain transformers loads the folder; `zoo.load` restores a method that predicts the same."""
    folder = runs.export(trained)
    module = zoo.load(folder)
    assert not module.training
    if (folder / "config.json").is_file():
        plain = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        own = plain_names(module.lm.state_dict())  # of a method with several adapters: its base
        base = {name: value for name, value in own.items() if adapter_of(name) is None}
        torch.testing.assert_close(plain.state_dict(), base)
    else:
        for encoder in ("text", "image"):
            AutoModel.from_pretrained(folder / encoder, local_files_only=True)
    batches = quiet_trainer().predict(module, runs.data(trained))
    close([row for batch in batches for row in batch], runs.predict(trained))


def test_generate(case: str, runs: Runs) -> None:
    """Two records, each a block of `name: value`."""
    blocks = runs.generate(case).strip().split("\n\n")
    assert sum(bool(re.match(r"^[a-z][\w ]*: ", block)) for block in blocks) >= 2


def test_predict(case: str, runs: Runs) -> None:
    """Every record once, by its id, with more than the id."""
    rows = runs.predict(case)
    names = [row["id"] for row in rows]
    assert len(names) == len(set(names)) >= 2
    assert all(len(row) > 1 for row in rows)


def test_check(case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Parameters and memory; nothing is written."""
    given = {**TRAINED, **PROMPTED}[case]
    main("check", *given, *DATA, "--trainer.default_root_dir", str(tmp_path))
    out = capsys.readouterr().out
    assert re.search(r"^parameters  [\d,]+, trainable [\d,]+, new [\d,]+$", out, re.MULTILINE)
    assert "memory " in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("prompted", PROMPTED)
def test_what_is_prompted_only_is_not_trained(
    prompted: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`test` works, `fit` says why it does not."""
    words = {
        "fisminess_agent": "model.mode: an agent is not trained",
        "coct": "model.learn: false trains nothing",
        "esc_baselines": "model.kind: direct is not trained",
        "sova": "model.kind: sova is not trained",
    }
    root = ("--trainer.default_root_dir", str(tmp_path / "run"))
    said = refusal(capfd, tmp_path, given=(*PROMPTED[prompted], *DATA, *root))
    assert said.startswith(words[prompted])
    often = ("--trainer.val_check_interval", "1")  # counted over batches
    assert refusal(capfd, tmp_path, given=(*PROMPTED[prompted], *DATA, *root, *often)) == said
    main("test", *PROMPTED[prompted], "--data.max_test", "1", *root)
    assert [tag for tag in scalars(tmp_path / "run") if tag.startswith("test/")]

"""What a run leaves behind: samples and speed in TensorBoard, all of it under one folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from running import METHANOL, board, main
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from zoo.callbacks import Hyperparameters, RunLogger
from zoo.callbacks.samples import table

DATA = ("--data.num_train", "32", "--data.num_val", "8", "--data.max_val", "4")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Path]]]:
    """A short run without `default_root_dir`; yields the working folder and what is in it."""
    cwd = tmp_path_factory.mktemp("cwd")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        main(
            *("fit", *METHANOL, *DATA, "--trainer.max_steps", "4"),
            *("--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "2"),
        )
        yield cwd, sorted(cwd.rglob("*"))


def text(accumulator: EventAccumulator, tag: str) -> list[tuple[int, str]]:
    found: list[Any] = accumulator.Tensors(f"{tag}/text_summary")
    return [(e.step, e.tensor_proto.string_val[0].decode()) for e in found]


def test_everything_lies_in_the_run_folder(run: tuple[Path, list[Path]]) -> None:
    """By default runs/<method>/<time>; nothing is written beside it."""
    cwd, paths = run
    (folder,) = (cwd / "runs" / "methanol").iterdir()
    assert {p for p in paths if not p.is_relative_to(folder)} == {
        cwd / "runs",
        cwd / "runs" / "methanol",
    }
    names = {p.name.partition(".")[0] for p in folder.iterdir()}
    assert names == {"checkpoints", "config", "events", "hparams"}
    assert (folder / "checkpoints" / "last.ckpt").is_file()


def test_samples_of_every_validation(run: tuple[Path, list[Path]]) -> None:
    """Query, thought, answer and both gold texts, at the steps of the validations."""
    cwd, _ = run
    (folder,) = (cwd / "runs" / "methanol").iterdir()
    written = text(board(folder), "samples/val")
    assert [step for step, _ in written] == [2, 4]
    for _, content in written:
        header, rule, *rows = content.splitlines()
        assert header == "| query | thought | answer | gold thought | gold answer |"
        assert rule == "| --- | --- | --- | --- | --- |"
        assert len(rows) == 4
        assert "Where" in rows[0] or "where" in rows[0]


def test_scalars(run: tuple[Path, list[Path]]) -> None:
    cwd, _ = run
    (folder,) = (cwd / "runs" / "methanol").iterdir()
    found = board(folder)
    tags = set(found.Tags()["scalars"])
    speed = {"speed/tokens_per_s", "speed/supervised_tokens_per_s", "speed/peak_memory_gib"}
    losses = {f"{stage}/{head}_loss" for stage in ("train", "val") for head in ("think", "speak")}
    assert speed | losses | {"train/grad_norm", "val/accuracy"} <= tags
    assert "speed/mfu" not in tags  # no peak is known for a CPU
    for tag in speed:
        values = [e.value for e in found.Scalars(tag)]
        assert [e.step for e in found.Scalars(tag)] == [2, 4]
        assert min(values) > 0
    assert any(tag.startswith("lr") for tag in tags)


def hyperparameters(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what TensorBoard's HPARAMS page knows of a run: settings, and names of scores."""
    found: dict[str, Any] = {}
    for tag, metadata in board(folder).summary_metadata.items():
        data = plugin_data_pb2.HParamsPluginData()
        data.ParseFromString(metadata.plugin_data.content)
        found[tag.rpartition("/")[2]] = data
    settings = dict(found["session_start_info"].session_start_info.hparams)
    scores = [info.name.tag for info in found["experiment"].experiment.metric_infos]
    return settings, scores


def test_hyperparameters_stand_beside_the_headline_score(run: tuple[Path, list[Path]]) -> None:
    """`val/accuracy`, not `hp_metric`; its scalar is written once a validation, and no epoch."""
    (folder,) = (run[0] / "runs" / "methanol").iterdir()
    settings, scores = hyperparameters(folder)
    assert scores == ["val/accuracy"]
    assert settings["backbone.name"].string_value == "tiny-llama"
    assert settings["thinking_layer"].number_value == 2
    found = board(folder)
    assert not {"hp_metric", "epoch"} & set(found.Tags()["scalars"])
    assert [e.step for e in found.Scalars("val/accuracy")] == [1, 3]  # Lightning counts so


@pytest.mark.parametrize(
    ("shown", "headline"),
    [
        (("train/reply_loss", "val/reply_loss", "val/joint_accuracy"), ["val/joint_accuracy"]),
        (("val/think_loss", "val/speak_loss"), ["val/think_loss"]),
        (("train/reply_loss", "tokens_per_s"), []),
    ],
)
def test_headline_score(tmp_path: Path, shown: tuple[str, ...], headline: list[str]) -> None:
    """The first score of the progress bar, else the first loss; nothing without either."""
    logger = RunLogger(str(tmp_path))
    trainer: Any = SimpleNamespace(
        logger=logger,
        progress_bar_metrics=dict.fromkeys(shown, 0.5),
        sanity_checking=False,
        is_global_zero=True,
    )
    logger.log_metrics({"epoch": 1, "val/joint_accuracy": 0.5}, 1)
    module: Any = SimpleNamespace(hparams={"optimizer": {"lr": 0.1}, "layers": [2, 3]})
    Hyperparameters().on_validation_end(trainer, module)
    logger.finalize("success")
    if headline:
        settings, scores = hyperparameters(tmp_path)
        assert scores == headline
        assert settings["optimizer.lr"].number_value == 0.1
        assert settings["layers"].string_value == "[2, 3]"
    assert board(tmp_path).Tags()["scalars"] == ["val/joint_accuracy"]


def test_given_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--trainer.default_root_dir` takes everything, also of test and predict."""
    monkeypatch.chdir(tmp_path)
    given = (*METHANOL, *DATA, "--data.max_test", "2")
    root = ("--trainer.default_root_dir", str(tmp_path / "here"))
    once = ("--trainer.max_steps", "1", "--trainer.val_check_interval", "1")
    main("fit", *given, *root, *once)
    ckpt = ("--ckpt_path", str(tmp_path / "here" / "checkpoints" / "last.ckpt"))
    main("test", *given, *root, *ckpt)
    main("predict", *given, *root, *ckpt)
    assert [p.name for p in tmp_path.iterdir()] == ["here"]
    assert text(board(tmp_path / "here"), "samples/test")
    assert len((tmp_path / "here" / "predictions.jsonl").read_text().splitlines()) == 2


def test_table_escapes() -> None:
    """A cell cannot break the table."""
    rows = [{"query": "a | b", "answer": "one\ntwo"}]
    assert table(rows).splitlines()[2] == "| a \\| b | one<br>two |"

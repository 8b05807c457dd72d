"""The life cycle of evaluation, with a method that answers every query with its length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
from running import start
from toy_answerer import LENGTHS, QUERIES, Lengths, Queries

import datamodules
import zoo
from zoo.records import Triple


def trainer(**options: Any) -> lightning.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return lightning.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **options)


def expected(lengths: Sequence[int]) -> dict[str, float]:
    ordered = sum(place * n for place, n in enumerate(lengths, start=1))
    return {"mean": sum(lengths) / len(lengths), "ordered": ordered, "n": len(lengths)}


@pytest.mark.parametrize("stage", ["val", "test"])
def test_every_record_is_answered_once(stage: str) -> None:
    """By id, in validation and in test; the next epoch starts anew."""
    module = Lengths()
    module.loss_weights = {"one": 0.25}
    run = trainer().validate if stage == "val" else trainer().test
    for _ in range(2):
        module.asked = []
        (logged,) = run(module, Queries(), verbose=False)
        assert module.asked == [record.id for record in QUERIES]
        for name, value in expected(LENGTHS).items():
            assert logged[f"{stage}/{name}"] == pytest.approx(value)
        assert logged[f"{stage}/one_loss"] == 1.0
        assert logged[f"{stage}/loss"] == 0.25


def test_no_more_than_so_many_are_answered() -> None:
    module = Lengths(max_generated=3)
    (logged,) = trainer().validate(module, Queries(), verbose=False)
    assert module.asked == ["0", "1", "2"]
    assert logged["val/ordered"] == expected(LENGTHS[:3])["ordered"]
    none = Lengths(max_generated=0)
    (logged,) = trainer().validate(none, Queries(), verbose=False)
    assert none.asked == []
    assert set(logged) == {"val/one_loss", "val/loss"}


def test_a_limit_counts_the_records_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five of a, b | c, d | e, f | g, h that two processes get in turn: those of one process."""
    turns = [(["a", "b"], ["c", "d"]), (["e", "f"], ["g", "h"])]
    answered: list[list[str]] = []
    for rank in range(2):
        module = Lengths(max_generated=5)
        for turn in turns:
            monkeypatch.setattr("zoo.parallel.gathered", lambda _, turn=turn: [*turn])
            answered.append(list(module.within(5, dict.fromkeys(turn[rank]))))
    assert answered == [["a", "b"], ["e"], ["c", "d"], []]


def test_a_prediction_for_every_record_and_no_limit() -> None:
    module = Lengths(max_generated=1)
    batches = trainer().predict(module, Queries())
    rows = [row for batch in batches or [] for row in batch]
    assert rows == [{"id": r.id, "length": len(r.query)} for r in QUERIES]


def test_samples_are_those_of_new_answers() -> None:
    module = Lengths()
    module.log_terms = lambda *_: None
    module.configure_model()
    batch = module.encoder().collate([module.encoder()(r)[0] for r in QUERIES[:2]], {0: 1.0})
    assert module.validation_step(batch, 0)["samples"] == [
        {"id": "0", "length": "3"},
        {"id": "1", "length": "1"},
    ]
    assert module.validation_step(batch, 1) == {"samples": []}


def test_a_process_without_new_records_answers_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that another process has is not answered, unless the others need this one."""
    module = Lengths()
    module.log_terms = lambda *_: None
    module.configure_model()
    examples = [module.encoder()(record)[0] for record in QUERIES[:2]]
    filler = module.encoder().collate(examples, {0: float("inf")})
    assert module.validation_step(filler, 0) == {"samples": []}
    assert module.asked == []
    monkeypatch.setattr(Lengths, "everyone_done", property(lambda self: lambda done: False))
    assert module.validation_step(filler, 1) == {"samples": []}
    assert module.asked == ["0"]
    assert module.answers == {}


def test_records_without_an_id_are_told_apart_by_what_they_hold() -> None:
    module = Lengths()
    module.configure_model()
    records = [Triple("a", "", "yes"), Triple("bc", "", "yes"), Triple("a", "", "yes")]
    examples = [module.encoder()(record)[0] for record in records]
    rows = module.predict_step(module.encoder().collate(examples, {0: 1.0}), 0)
    assert [row["length"] for row in rows] == [1, 2]


def test_ids_of_every_data_module_are_unique() -> None:
    """Evaluation answers one record of an id; a second one with it would be left out."""
    for name in datamodules.__all__:
        cls = getattr(datamodules, name)
        if name in ("ZooDataModule", "Documents"):
            continue
        ids = [record.id for record in cls().records("test")]
        assert len(set(ids)) == len(ids), name


@pytest.mark.slow
def test_two_processes_log_the_scores_of_one(tmp_path: Path) -> None:
    """Seven records and three repeated ones in five batches of two: three to one, two to the other.

    Both log the same scores, over the answers in the order of one process.
    """
    process = start(
        *("validate", "--model", "toy_answerer.Lengths", "--data", "toy_answerer.Queries"),
        *("--model.log", str(tmp_path / "log"), "--trainer.accelerator", "cpu"),
        *("--trainer.strategy", "ddp", "--trainer.devices", "2"),
        *("--trainer.default_root_dir", str(tmp_path / "run")),
        cwd=tmp_path,
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    parts = [json.loads(Path(f"{tmp_path}/log.{rank}").read_text()) for rank in range(2)]
    assert [part["scored"] for part in parts] == [expected(LENGTHS)] * 2
    assert [part["asked"] for part in parts] == [["0", "1", "4", "5", "3"], ["2", "3", "6"]]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    logged = {name: events.Scalars(f"val/{name}")[-1].value for name in expected(LENGTHS)}
    assert logged == pytest.approx(expected(LENGTHS))


@pytest.mark.parametrize("name", ["MeTHanol", "HdLM", "LaMsS", "MeGan", "LaHoRe", "StraQ", "CoCT"])
def test_metrics_are_in_no_checkpoint_and_not_trained(name: str) -> None:
    """They know each record that a process answered; weights know none of it."""
    module = getattr(zoo, name)()
    assert module.metrics
    assert not module.metrics.state_dict()
    assert not list(module.metrics.parameters()) + list(module.metrics.buffers())
    for metric in module.each_metric().values():
        metric.keep([{"a": 1}], ["one"])
    assert not module.metrics.state_dict()
    module.start_evaluation()
    assert [metric.kept() for metric in module.each_metric().values()] == [[]] * len(module.metrics)

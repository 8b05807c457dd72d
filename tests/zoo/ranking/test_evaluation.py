"""The evaluation that rankers share: scores, samples, figures, predictions, several processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from running import board, start
from toy_ranker import Toy, score
from training import quiet_trainer

import datamodules
from zoo.encoding import collate
from zoo.ranking.evaluation import FILLER
from zoo.ranking.metrics import mean_scores, query_scores, ranked
from zoo.records import Ranking

NAMES = ("R@1", "R@3", "MRR@10", "nDCG@10")


def expected(records: list[Ranking]) -> dict[str, float]:
    """Return the toy's scores, without the module."""
    return mean_scores(
        [query_scores({n: score(r, n) for n in r.pool}, dict(r.relevant)) for r in records]
    )


@pytest.fixture
def toy() -> Toy:
    module = Toy()
    module.configure_model()
    return module


def test_scores_are_those_of_the_metrics_and_every_record_is_ranked_once(tmp_path: Path) -> None:
    data = datamodules.BEIR(eval_batch_size=3)  # eight documents a query: batches cut queries
    module = Toy()
    (found,) = quiet_trainer(default_root_dir=tmp_path).test(module, data, verbose=False)
    records = data.records("test")
    assert {k: found[f"test/{k}"] for k in NAMES} == pytest.approx(expected(records))
    assert found["test/toy_loss"] > 0
    assert module.ranked == [record.id for record in records]
    (again,) = quiet_trainer(default_root_dir=tmp_path).validate(module, data, verbose=False)
    assert {k: again[f"val/{k}"] for k in NAMES} == pytest.approx(expected(data.records("val")))


def test_scores_by_kind_and_max_ranked(tmp_path: Path) -> None:
    data = datamodules.RankingRecords()
    (found,) = quiet_trainer(default_root_dir=tmp_path).validate(Toy(), data, verbose=False)
    records = data.records("val")
    for kind in ("quality", "network"):
        mine = [record for record in records if record.kind == kind]
        assert found[f"val/MRR@10_{kind}"] == pytest.approx(expected(mine)["MRR@10"])
    assert found["val/MRR@10"] == pytest.approx(expected(records)["MRR@10"])
    module = Toy(max_ranked=1)
    (found,) = quiet_trainer(default_root_dir=tmp_path).validate(module, data, verbose=False)
    assert module.ranked == [records[0].id]
    assert found["val/MRR@10"] == pytest.approx(expected(records[:1])["MRR@10"])


def test_it_trains_and_forgets_old_rankings(tmp_path: Path) -> None:
    module = Toy()
    data = datamodules.ESConvStrategies(max_train=2, max_val=3, max_turns=2)
    quiet_trainer(default_root_dir=tmp_path, max_epochs=2, num_sanity_val_steps=1).fit(module, data)
    ids = [record.id for record in data.records("val")]
    assert module.ranked == [ids[0], ids[1], *ids, *ids]  # a sanity batch of 16, two validations
    assert list(module.answers) == ids


def test_predictions_and_samples(toy: Toy) -> None:
    data = datamodules.BEIR()
    (record, _) = data.records("test")
    batch = collate(toy.encoder()(record))
    (made,) = toy.predict_step(batch, 0)
    names = [name for name, _ in made["ranking"]]
    assert names == ranked({name: score(record, name) for name in record.pool})
    assert made["id"] == "q6"
    assert made["relevant"] == {"b5": 2, "b1": 0}
    assert json.loads(json.dumps(made)) == made
    toy.log = lambda *_, **__: None  # no trainer here
    toy._trainer = type("T", (), {"world_size": 1})()
    toy.start_evaluation()
    (sample,) = toy.validation_step(batch, 0)["samples"]
    assert sample["query"] == "what eats my lettuce"
    lines = sample["ranking"].splitlines()
    assert len(lines) == 8
    assert [line[0] for line in lines].count("*") == 1
    assert lines[names.index("b5")].startswith("* ")
    assert toy.validation_step(batch, 0) == {"samples": []}  # known already


def test_a_process_without_records_ranks_along(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batch holds later documents of a query that another process ranks."""
    record = datamodules.BEIR().records("test")[0]
    batch = collate(toy.encoder()(record)[1:3])
    assert batch.records == [None, None]
    toy.log = lambda *_, **__: None
    toy._trainer = type("T", (), {"world_size": 2})()
    assert toy.validation_step(batch, 0) == {"samples": []}
    assert toy.ranked == []  # nobody else is at work
    monkeypatch.setattr(Toy, "everyone_done", property(lambda self: lambda done: False))
    assert toy.validation_step(batch, 0) == {"samples": []}
    assert toy.ranked == [FILLER.id]
    assert toy.answers == {}


def test_show_marks_what_is_relevant(toy: Toy) -> None:
    toy.train()
    records = datamodules.BEIR().records("test")
    rows = toy.show(records)
    assert toy.training  # as before
    assert [row["query"] for row in rows] == [record.query for record in records]
    marked = [text for key, text in rows[1].items() if key != "query" and text[0] == "*"]
    assert len(marked) == 1
    assert marked[0].endswith("Old photographs")
    (row,) = toy.show(records, prompt="slugs")
    assert row["query"] == "slugs"
    assert row["1"].startswith("  0.0526 Slugs stay away")
    assert not any(text.startswith("*") for text in row.values())
    with pytest.raises(TypeError, match="given"):
        toy.show(records, given="hm")


def test_figures(toy: Toy, tmp_path: Path) -> None:
    assert toy.figures() == {}
    quiet_trainer(default_root_dir=tmp_path).validate(toy, datamodules.BEIR(), verbose=False)
    figures = toy.figures()
    assert set(figures) == {"scores", "recall"}
    (axes,) = figures["scores"].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "others (13)",
        "relevant (3)",
    ]
    (line,) = figures["recall"].axes[0].lines
    assert list(line.get_xdata()) == list(range(1, 9))
    assert line.get_ydata()[-1] == pytest.approx(1.0)
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")


def test_figures_when_all_scores_are_equal(toy: Toy, tmp_path: Path) -> None:
    toy.scores = lambda records: [[0.0] * len(record.pool) for record in records]  # type: ignore
    quiet_trainer(default_root_dir=tmp_path).validate(toy, datamodules.BEIR(), verbose=False)
    for name, figure in toy.figures().items():
        figure.savefig(tmp_path / f"{name}.png")


def test_a_wrong_number_of_scores_is_an_error(toy: Toy) -> None:
    toy.scores = lambda records: [[0.0] for _ in records]  # type: ignore
    with pytest.raises(ValueError, match="zip"):
        toy.rank(datamodules.BEIR().records("test"))


@pytest.mark.slow
def test_two_processes_share_the_records(tmp_path: Path) -> None:
    """Each record is ranked in one of them; both log the scores of all."""
    process = start(
        *("validate", "--model", "toy_ranker.Toy", "--model.log", str(tmp_path / "log")),
        *("--data", "datamodules.ESConvStrategies", "--data.eval_batch_size", "8"),
        *("--data.max_val", "9", "--data.max_turns", "2", "--trainer.accelerator", "cpu"),
        *("--trainer.strategy", "ddp", "--trainer.devices", "2"),
        *("--trainer.default_root_dir", str(tmp_path / "run")),
        cwd=tmp_path,
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    records = datamodules.ESConvStrategies(max_val=9, max_turns=2).records("val")
    parts = [
        [json.loads(line) for line in Path(f"{tmp_path}/log.{rank}").read_text().splitlines()]
        for rank in range(2)
    ]
    assert all(parts)
    assert sorted(parts[0] + parts[1]) == sorted(record.id for record in records)

    events = board(tmp_path / "run")
    found = {k: events.Scalars(f"val/{k}")[-1].value for k in NAMES}
    assert found == pytest.approx(expected(records), abs=1e-6)
    assert {"val/scores", "val/recall"} <= set(events.Tags()["images"])


def test_no_gradients_are_kept(toy: Toy) -> None:
    seen = []
    toy.scores = lambda records: seen.append(torch.is_grad_enabled()) or [[0.0] * 8]  # type: ignore
    toy.rank(datamodules.BEIR().records("test")[:1])
    assert seen == [False]

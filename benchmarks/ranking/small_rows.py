"""Trained rows on a small backbone: where a row begins, how it trains and how it is measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning

import zoo
from benchmarks import trials
from benchmarks.ranking.pair_cache import PairCache
from benchmarks.ranking.small_backbone import SmallModel, write_backbone
from benchmarks.training import DEVICE, GivenRecords, quiet_trainer
from zoo.ranking.metrics import mean_scores, query_scores
from zoo.records import Ranking

BACKBONE, TEACHER = "backbone", "LaHoRe, SFT"
SHOWN = ("R@1", "R@3", "MRR@10", "nDCG@10", "train R@1")


class Row(NamedTuple):
    """A trained row.

    Attributes:
        method: Class in `zoo`.
        start: Row whose weights it begins with, or `BACKBONE`.
        part: Training queries: `first`, `further` or `student` ones, as the script divides them.
        lr: Peak learning rate, searched on validation queries with a seed that is in no table.
        settings: Arguments of the method.
    """

    method: str
    start: str
    part: str
    lr: float
    settings: dict[str, Any]


ZERO_SHOT = Row("LaHoRe", BACKBONE, "first", 0.0, {})


def weights(folder: Path, row: str, seed: int) -> Path:
    """Return where the weights of a row are kept that others begin with."""
    return folder / (row if row == BACKBONE else f"{row.replace(', ', '-')}-{seed}")


def build(row: Row, start: Path, seed: int, lr: float, prompt: dict[str, Any]) -> Any:
    """Return the module of a row as it begins, with the weights of `start`."""
    lightning.seed_everything(seed, verbose=False)
    optimizer = {"lr": lr, "schedule": "cosine", "warmup_ratio": 0.05}
    module = getattr(zoo, row.method)(
        backbone={"name": str(start)},
        optimizer={**optimizer, "beta2": 0.98, "weight_decay": 0.0},
        **prompt,
        **row.settings,
    )
    module.configure_model()
    return module.to(DEVICE)


def begun(
    row: Row, seed: int, lr: float, train: Sequence[Ranking], folder: Path, model: SmallModel
) -> Any:
    """Return the module of a row as it begins; the backbone is made where it is not there."""
    start = weights(folder, row.start, seed)
    if row.start == BACKBONE and not start.exists():
        write_backbone(start, train, model)
    return build(row, start, seed, lr, model.prompt)


def fit(
    module: Any,
    records: Sequence[Ranking],
    *,
    per_step: int,
    epochs: int,
    seed: int,
    shared: dict[str, PairCache],
) -> int:
    """Train on queries, all documents of each; return the steps.

    Args:
        module: From `build`.
        records: The queries; all have pools of one size.
        per_step: Queries of a step.
        epochs: Times through them.
        seed: Of their order.
        shared: States of the last teacher by its folder; its students share them.
    """
    if isinstance(module, zoo.Rabtriever):
        if module.backbone.name not in shared:
            shared.clear()
            shared[module.backbone.name] = PairCache(module.frozen.slot, 2**30)
        module.frozen = shared[module.backbone.name]
    trainer = quiet_trainer(max_epochs=epochs)
    size = per_step * len(records[0].pool)
    trainer.fit(module, GivenRecords(records, batch_size=size, seed=seed))
    return int(trainer.global_step)


def evaluated(records: Sequence[Ranking], scores: Sequence[Sequence[float]]) -> list[Any]:
    """Return the measures of each query."""
    return [
        query_scores(dict(zip(record.pool, row, strict=True)), dict(record.relevant))
        for record, row in zip(records, scores, strict=True)
    ]


def ranked_by(module: Any, records: Sequence[Ranking]) -> list[list[float]]:
    """Return a module's score for each document of each record."""
    return [row for i in range(0, len(records), 50) for row in module.scores(records[i : i + 50])]


def metrics(asked: Sequence[Any], trained: Sequence[Any]) -> dict[str, float]:
    """Return the means over test queries, and R@1 on training queries."""
    means = {name: round(value, 4) for name, value in mean_scores(asked).items()}
    return {**means, "train R@1": round(mean_scores(trained)["R@1"], 4)}


def table(entries: Sequence[trials.Entry], rows: Iterable[str]) -> list[str]:
    """Return a Markdown table: means over seeds, in percent, with their 95 % t intervals."""
    lines = []
    for row, mine in trials.by_row(entries, rows):
        for lr in sorted({entry["lr"] for entry in mine}):
            same = trials.of_row(mine, lr=lr)
            cells = []
            for name in SHOWN:
                values = [100 * entry["metrics"][name] for entry in same]
                cells.append(f"{statistics.mean(values):.1f} +-{trials.seed_margin(values):.1f}")
            lines.append([row, f"{lr:g}", str(len(same)), *cells])
    return trials.markdown(["row", "lr", "seeds", *SHOWN], lines)

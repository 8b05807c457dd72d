"""SFT and SteerLM in dilemmas: what is learned and decided, what is kept, how rows are compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sova import learned, linear_probe
from datamodules import DailyDilemmas
from datamodules.files import SAMPLES
from zoo.methods.sova.expected import expected_action
from zoo.methods.sova.sentence_encoder import SentenceEncoder
from zoo.records import TO_DO, Dilemma

RULE = learned.RULE


def known() -> list[Dilemma]:
    records = [record for record in DailyDilemmas().records("test") if isinstance(record, Dilemma)]
    return [record for record in records if expected_action(record, RULE)]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_tiny: Any) -> list[str]:
    data = tmp_path / "daily_dilemmas"
    data.mkdir()
    with open(SAMPLES / "daily_dilemmas.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(data / "dilemmas_with_detail_by_action.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        for year in range(1, 4):  # enough to be divided
            for row in rows:
                changed = {
                    "idx": f"{year}{row['idx']}",
                    "dilemma_situation": f"Year {year}. {row['dilemma_situation']}",
                }
                table.writerow({**row, **changed})
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    parts = {"model": save_tiny(), "dtype": "float32", "steps": 2, "lr": "1e-2"}
    parts |= {"encoder": "tiny-bert"}
    parts |= {"json": tmp_path / "rows.json", "overfit": 3}
    return [word for name, value in parts.items() for word in (f"--{name}", str(value))]


def test_rows_are_trained_and_kept(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned.main([*options, "--seeds", "0", "1"])
    entries = json.loads((tmp_path / "rows.json").read_text())
    done = [(entry["row"], entry["seed"]) for entry in entries]
    assert done == [(row, 0) for row in learned.ROWS] + [("SFT", 1), ("SteerLM", 1)]
    direct, probe, sft, steerlm, again, _ = entries
    assert [len(entry["losses"]) for entry in entries] == [0, 0, 2, 2, 2, 2]
    assert len({str(entry["odds"]) for entry in (direct, probe, sft, steerlm, again)}) == 5
    asked = learned.decisive("train")[:3]
    assert list(direct["odds"]) == [record.id for record in asked]
    for entry in entries:
        right = [
            int((sum(entry["odds"][d.id]) > 0) == (expected_action(d, RULE) == TO_DO))
            for d in asked
        ]
        assert list(entry["items"][RULE].values()) == right
        assert entry["metrics"][RULE] == pytest.approx(sum(right) / 3, abs=1e-5)
    printed = capsys.readouterr().out
    learned.main([*options, "--table"])
    assert capsys.readouterr().out in printed


def test_the_probe_minimises_the_penalised_loss() -> None:
    """At the minimum: mean((sigmoid(z) - y) x) + 2 c w = 0, and mean(sigmoid(z) - y) = 0."""
    records = known()
    y = linear_probe.expected(records, RULE)
    assert y.tolist() == [float(expected_action(d, RULE) == TO_DO) for d in records]
    x = linear_probe.features(SentenceEncoder.load("tiny-bert"), records)
    assert len({len(y), len(records), len(x)}) == 1
    w, b = linear_probe.fitted(x, y)
    wrong = (x @ w + b).sigmoid() - y
    slope = (wrong[:, None] * x).mean(0) + 2 * linear_probe.PENALTY * w
    assert slope.abs().max() < 1e-4 < (wrong[:, None] * x).mean(0).abs().max()
    assert wrong.mean().abs() < 1e-4


def test_what_is_decided_was_not_learned(options: list[str]) -> None:
    taught = {record.situation for record in learned.decisive("train")}
    held_out = {record.situation for record in learned.tested(None)}
    assert taught
    assert not taught & held_out
    assert len(taught | held_out) == 3 * len(known())
    assert learned.tested(2) == learned.decisive("train")[:2]


def test_the_table_pools_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that always does, one that is right, and one that is right with one seed of two."""
    records = known()
    monkeypatch.setattr(learned, "tested", lambda overfit: records)
    right = {d.id: 1.0 if expected_action(d, RULE) == TO_DO else -1.0 for d in records}

    def entry(row: str, seed: int, odds: dict[str, list[float]]) -> dict[str, Any]:
        items = {RULE: {i: int(right[i] * sum(z) > 0) for i, z in odds.items()}}
        return {"row": row, "seed": seed, "overfit": None, "odds": odds, "items": items}

    always: dict[str, list[float]] = {d.id: [1.0, 0.5] for d in records}
    told = {i: [z, z] for i, z in right.items()}
    entries = [entry("direct", 0, always), entry("SFT", 0, told)]
    entries += [entry("SteerLM", 0, told), entry("SteerLM", 1, always)]
    lines = learned.table(entries)
    share = 100 * sum(z > 0 for z in right.values()) / len(records)
    assert lines[1] == (
        f"{RULE}: {len(records)} dilemmas; always do {share:.1f}, always not {100 - share:.1f}"
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[5:]]
    direct, sft, steerlm = rows
    assert direct[:7] == ["direct", "1", str(len(records)), *[f"{share:.1f}"] * 3, ""]
    assert sft[3:6] == ["100.0"] * 3
    assert sft[6].startswith(f"{100 - share:+.1f} (")
    assert [row[7] for row in rows] == ["0.500", "1.000", "0.750"]
    assert steerlm[1] == "2"
    assert steerlm[5] == f"{(100 + share) / 2:.1f}"
    assert steerlm[6].startswith(f"{(100 - share) / 2:+.1f} (")

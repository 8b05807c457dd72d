"""The run over DailyDilemmas: whole blocks of every row, resumed; the numbers of its tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sova import dilemma_table, dilemmas
from datamodules import DailyDilemmas
from datamodules.daily_dilemmas_rows import read_values
from datamodules.files import SAMPLES
from zoo.methods.sova import instruct
from zoo.methods.sova.expected import expected_action
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.sentence_encoder import SentenceEncoder
from zoo.records import TO_DO

STEERED = ["SoVA, Maslow", "wrong theory, Maslow", "shuffled, Maslow"]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_tiny: Any) -> list[str]:
    data = tmp_path / "daily_dilemmas"
    data.mkdir()
    shutil.copy(SAMPLES / "daily_dilemmas.csv", data / "dilemmas_with_detail_by_action.csv")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(dilemmas, "BLOCK", 2)
    keep = instruct.keep
    monkeypatch.setattr(instruct, "keep", lambda found, tau, top: keep(found, 0.0, top))
    index = tmp_path / "index"
    values = read_values(SAMPLES / "daily_dilemmas_values.csv")
    ValueIndex.build(index, values, encoder=SentenceEncoder.load("tiny-bert"))
    parts = {"model": save_tiny(), "dtype": "float32", "encoder": "tiny-bert", "index": index}
    parts |= {"json": tmp_path / "rows.json", "prefilter": 2, "text": 1, "reasoning": 3}
    return [word for name, value in parts.items() for word in (f"--{name}", str(value))]


def test_blocks_of_all_rows_are_resumed(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["direct", *STEERED, "plain RAG", "told, growth", "ECoT"]
    dilemmas.main([*options, "--dilemmas", "2", "--rows", *rows])
    first = json.loads((tmp_path / "rows.json").read_text())
    assert [(e["block"], e["row"]) for e in first] == [(0, row) for row in rows]
    dilemmas.main([*options, "--dilemmas", "4", "--rows", *rows])
    entries = json.loads((tmp_path / "rows.json").read_text())
    assert entries[: len(rows)] == first
    assert [(e["block"], e["row"]) for e in entries[len(rows) :]] == [(1, row) for row in rows]
    by = {(e["row"], e["block"]): e for e in entries}
    order = dilemmas.in_order()
    assert by["direct", 0]["ids"] + by["direct", 1]["ids"] == [d.id for d in order[:4]]
    assert by["shuffled, Maslow", 0]["scores"] == by["SoVA, Maslow", 0]["scores"][::-1]
    assert by["direct", 0]["scores"] == [[], []]
    assert [len(scores) for scores in by["SoVA, Maslow", 1]["scores"]] == [2, 2]
    told = [d.id for d in order[:2] if expected_action(d, "maslow_growth")]
    assert by["told, growth", 0]["ids"] == told
    assert [("choices" in e) for e in (by["direct", 0], by["direct", 1])] == [True, False]
    printed = capsys.readouterr().out
    dilemmas.main([*options, "--table"])
    assert capsys.readouterr().out in printed


def test_the_tables_say_how_far_a_row_moves() -> None:
    """A row that is moved 0.5 nats to what is expected, from a taste for Action 1."""
    records = DailyDilemmas().records("test")
    decisive = [d for d in records if expected_action(d, "maslow_growth")]
    towards = {d.id: 0.5 if expected_action(d, "maslow_growth") == TO_DO else -0.5 for d in records}
    entries = [
        {"model": "m", "prefilter": 3, "row": row, "block": 0, "ids": [d.id for d in records]}
        | {"odds": [[1.0 + by * towards[d.id], -0.9 + by * towards[d.id]] for d in records]}
        | {"scores": [[70.0]] * len(records), "choices": [["to_do", None]] * len(records)}
        for row, by in (("direct", 0.0), ("SoVA, Maslow", 1.0))
    ]
    lines = dilemma_table.tables(entries, records, ["direct", "SoVA, Maslow", "SoVA, virtues"])
    (plain, steered) = (
        next(line for line in lines if line.startswith(f"| {row} | {len(decisive)} |"))
        for row in ("direct", "SoVA, Maslow")
    )
    cells = [cell.strip() for cell in steered.strip("|").split("|")]
    always = [cell.strip() for cell in plain.strip("|").split("|")]
    assert cells[4] == "100.0"
    assert cells[6].startswith("+0.500 (+0.500 to +0.500)")
    assert cells[7] == "1.000"
    share = sum(expected_action(d, "maslow_growth") == TO_DO for d in decisive) / len(decisive)
    assert always[2:5] == [f"{100 * s:.1f}" for s in (share, 1 - share, share)]
    assert cells[2:4] == always[2:4]
    half = len(records)
    assert f"| direct | {len(records)} | 0.0 | 100.0 | 1.00 | {half} of {2 * half} |" in lines

"""The run over DailyDilemmas: whole blocks of every row, resumed; the numbers of its tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from benchmarks.sova import dilemma_table, dilemmas, index_times, replies
from datamodules import DailyDilemmas, ESConv
from datamodules.files import SAMPLES
from zoo.errors import InputError
from zoo.methods.sova import instruct
from zoo.methods.sova.expected import expected_action
from zoo.records import TO_DO

RULE = "maslow_growth"
STEERED = ["SoVA, Maslow", "best one, Maslow", "wrong theory, Maslow", "shuffled, Maslow"]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_tiny: Any) -> list[str]:
    data = tmp_path / "daily_dilemmas"
    data.mkdir()
    shutil.copy(SAMPLES / "daily_dilemmas.csv", data / "dilemmas_with_detail_by_action.csv")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(dilemmas, "BLOCK", 2)
    monkeypatch.setattr(dilemmas, "REASONING_BLOCK", 4)
    keep = instruct.keep
    monkeypatch.setattr(instruct, "keep", lambda found, tau, top: keep(found, 0.0, top))
    shutil.copy(SAMPLES / "daily_dilemmas_values.csv", data / "values.csv")
    for name in index_times.FILES:
        (data / name).write_text("principle,source\nBe honest.,somebody\n")
    parts = {"model": save_tiny(), "dtype": "float32", "encoder": "tiny-bert"}
    parts |= {"index": tmp_path / "index"}
    parts |= {"json": tmp_path / "rows.json", "prefilter": 2, "text": 1, "reasoning": 3}
    return [word for name, value in parts.items() for word in (f"--{name}", str(value))]


def test_blocks_of_all_rows_are_resumed(
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = ["direct", *STEERED, "written, Maslow", "plain RAG", "told, growth", "ECoT"]
    dilemmas.main([*options, "--dilemmas", "2", "--rows", *rows])
    first = {e["row"]: e for e in json.loads((tmp_path / "rows.json").read_text())}
    assert [(row, first[row]["blocks"]) for row in first] == [(row, 1) for row in rows]
    dilemmas.main([*options, "--dilemmas", "4", "--rows", *rows])
    by = {e["row"]: e for e in json.loads((tmp_path / "rows.json").read_text())}
    blocks = {row: 1 if row == "ECoT" else 2 for row in rows}  # reasoning is in blocks of 4
    assert {row: by[row]["blocks"] for row in by} == blocks
    order = [d.id for d in dilemmas.in_order()]
    for row in rows:
        assert first[row]["odds"].items() <= by[row]["odds"].items()
    assert list(by["direct"]["odds"]) == order[:4]
    assert list(by["direct"]["texts"]) == order[:2]
    mine, shuffled = (by[row]["scores"] for row in ("SoVA, Maslow", "shuffled, Maslow"))
    assert [shuffled[i] for i in order[:4]] == [mine[order[i]] for i in (1, 0, 3, 2)]
    assert [len(scores) for scores in mine.values()] == [2] * 4
    best = by["best one, Maslow"]
    assert best["scores"] == {name: [max(scores)] for name, scores in mine.items()}
    assert best["odds"] != by["SoVA, Maslow"]["odds"]
    assert by["direct"]["scores"] == {i: [] for i in order[:4]}
    assert by["ECoT"]["cut"] == dict.fromkeys(order[:4], True)
    assert all(by["ECoT"]["reasoning"][i] for i in order[:4])
    assert by["ECoT"]["odds"].keys() == set(order[:4])
    assert not {"cut", "reasoning", "written"} & by["direct"].keys()
    assert by["written, Maslow"]["written"] == dict.fromkeys(
        order[:4], 0
    )  # a tiny model writes none
    decisive = {d.id for d in dilemmas.in_order()[:4] if expected_action(d, "maslow_growth")}
    assert by["told, growth"]["odds"].keys() == decisive == by["direct"]["items"][RULE].keys()
    assert by["direct"]["metrics"][RULE] == mean(by["direct"]["items"][RULE].values())
    capsys.readouterr()
    dilemmas.main([*options, "--dilemmas", "5", "--rows", "ECoT"])
    printed = capsys.readouterr().out
    (ecot,) = (e for e in json.loads((tmp_path / "rows.json").read_text()) if e["row"] == "ECoT")
    assert ecot["blocks"] == 2
    assert list(ecot["odds"]) == order
    assert list(ecot["reasoning"]) == order[:4]
    dilemmas.main([*options, "--table"])
    assert capsys.readouterr().out in printed
    with pytest.raises(InputError, match="holds rows of .* name a new file"):
        dilemmas.main([*options, "--prefilter", "1"])
    with pytest.raises(InputError, match="'reasoning_tokens': 3.* name a new file"):
        dilemmas.main([*options, "--reasoning", "4"])
    monkeypatch.setattr(dilemmas, "FORMAT", 0)
    with pytest.raises(InputError, match="'index': .* name a new file"):
        dilemmas.main(options)


def test_rows_that_read_no_index_stay_when_its_format_changes(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = ["direct", "told, growth", "ECoT"]
    dilemmas.main([*options, "--rows", *none])
    monkeypatch.setattr(dilemmas, "FORMAT", 0)
    dilemmas.main([*options, "--rows", *none])
    dilemmas.main([*options, "--rows", "plain RAG"])
    monkeypatch.setattr(dilemmas, "FORMAT", 1)
    with pytest.raises(InputError, match="'index': 0.* name a new file"):
        dilemmas.main([*options, "--rows", *none])


def test_a_row_may_decide_where_its_rule_does_alone(options: list[str], tmp_path: Path) -> None:
    rows = ["direct", "SoVA, Plutchik"]
    dilemmas.main([*options, "--decisive", "--rows", *rows])
    direct, steered = json.loads((tmp_path / "rows.json").read_text())
    for entry, rule in ((direct, RULE), (steered, "plutchik_valence")):
        decisive = {d.id for d in dilemmas.in_order() if expected_action(d, rule)}
        assert entry["odds"].keys() == decisive
        assert entry["blocks"] == 3
    assert len(steered["odds"]) < len(direct["odds"]) == len(dilemmas.in_order())


def test_the_tables_say_how_far_a_row_moves() -> None:
    """A row that is moved 0.5 nats to what is expected, from a taste for Action 1."""
    records = DailyDilemmas().records("test")
    decisive = [d for d in records if expected_action(d, "maslow_growth")]
    towards = {d.id: 0.5 if expected_action(d, "maslow_growth") == TO_DO else -0.5 for d in records}
    entries = [
        {
            "row": row,
            "odds": {i: [1.0 + by * z, -0.9 + by * z] for i, z in towards.items()},
            "scores": {i: [70.0] for i in towards},
            "texts": {i: ["to_do", None] for i in towards},
            "cut": {i: place < 3 for place, i in enumerate(towards) if place < 4 and by},
            **({"written": {i: int(place < 2) for place, i in enumerate(towards)}} if by else {}),
        }
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
    head = next(line for line in lines if line.startswith("maslow_growth: "))
    random, oracle = head.partition("always not ")[2].split(", ")[1:]
    assert 0 <= float(random.removeprefix("random ")) <= 100
    assert oracle == "oracle 100.0"
    half = len(records)
    start, read = f"{len(records)} | 0.0 | 100.0 | 1.00", f"{half} of {2 * half}"
    assert f"| direct | {start} | - | {read} | - |" in lines
    assert f"| SoVA, Maslow | {start} | 2 of {half} | {read} | 3 of 4 |" in lines


def test_both_replies_of_a_dialogue_are_graded(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Against one emotion, that of the best instruction; what is there is not done again."""
    place = options.index("--text")
    given = [*options[:place], *options[place + 2 :], "--data", "esconv", "--new_tokens", "3"]
    monkeypatch.setattr(replies, "in_order", lambda data: ESConv().records("test"))
    monkeypatch.setattr(replies, "BLOCK", 2)
    replies.main([*given, "--dialogues", "2"])
    printed = capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "rows.json").read_text())
    assert [row["id"] for row in entry["rows"]] == [r.id for r in ESConv().records("test")[:2]]
    for row in entry["rows"]:
        assert row["sova"]["wanted"] == row["direct"]["wanted"]
        assert row["sova"]["felt"] == row["direct"]["felt"]
        assert all(0 < row[kind][name] < 5 for kind in replies.KINDS for name in replies.ASPECTS)
    assert "esconv: 2 of 2 dialogues had an instruction" in printed
    assert "| sova - direct |" in printed

from pathlib import Path

import pytest

from benchmarks.harness import Setting
from benchmarks.result import agree
from benchmarks.sova import index_times, map_score

TINY = Setting("cpu", quick=True)


def test_all_sides_score_alike(save_tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_score, "BACKBONE", save_tiny(5))
    monkeypatch.setattr(map_score, "SITUATIONS", 2)
    monkeypatch.delenv("ZOO_DATA", raising=False)
    mine, *others = (side(TINY, steps=1, reports=2) for side in map_score.SIDES.values())
    assert len(mine.checks) == 2 * 2 * 2
    for theirs in others:
        agree(mine, theirs, dict.fromkeys(mine.checks, 0.05))
    assert mine.work["pairs"] == [4.0]
    assert map_score.bound(mine) > 2


def test_times_of_the_index_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = Path(map_score.SAMPLES)
    data = tmp_path / "daily_dilemmas"
    data.mkdir()
    (data / "values.csv").write_text((samples / "daily_dilemmas_values.csv").read_text())
    for name in index_times.FILES:
        (data / name).write_text("principle,source\nBe honest.,somebody\n")
    (data / "dilemma.csv").write_text("idx,dilemma_situation\n1,Should you lie?\n")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    index_times.main(["--encoder", "tiny-bert", "--json", str(tmp_path / "times.json")])
    out = capsys.readouterr().out
    for row in ("build", "open", "page", "encode a query", "search a query"):
        assert f"| {row} |" in out
    assert (tmp_path / "times.json").is_file()

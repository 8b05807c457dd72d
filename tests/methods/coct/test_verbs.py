"""CoCT through the command line: the tables of its concepts."""

from __future__ import annotations

from pathlib import Path

from running import main, tiny


def test_coct_writes_its_transition_tables(tmp_path: Path) -> None:
    main("test", *tiny("coct"), "--data.max_test", "1", "--trainer.default_root_dir", str(tmp_path))
    rows = (tmp_path / "transitions_strategy.csv").read_text().splitlines()
    assert rows[0].startswith(",Question,Restatement or Paraphrasing,Reflection of feelings")
    assert len(rows) == 9

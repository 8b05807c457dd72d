"""The folder of an index: its card counts what it holds, and a new one needs an empty place."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.index_files import check_empty


def test_an_index_counts_what_it_holds(index: ValueIndex) -> None:
    assert index.card["counts"] == {
        "principles": len(index.principles),
        "nodes": len(index.graph),
        "edges": index.graph.size(),
        "communities": len(index.communities),
        "reports": len(index.reports),
    }
    assert index.card["settings"] == {"max_size": 4, "seed": 0, "encoder": None, "judge": None}
    assert index.vectors is None


def test_files_of_a_build_that_was_cut_off_are_no_obstacle(tmp_path: Path) -> None:
    """Neither its own names nor its scratch files; a file in the folder's place is one."""
    for name in ("graph.graphml", "answers.jsonl", "reports.parquet", "x.part"):
        (tmp_path / name).write_text("")
    check_empty(tmp_path)
    check_empty(tmp_path / "new")
    with pytest.raises(InputError, match="x.part: holds no index.json"):
        check_empty(tmp_path / "x.part")

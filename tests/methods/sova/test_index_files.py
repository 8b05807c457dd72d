"""The folder of an index: its card counts what it holds, and a new one needs an empty place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from methods.sova.graph_parts import TABLE, Letters
from safetensors.torch import save_file

from zoo.errors import InputError
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.index_files import check_empty, file_hash


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


DAMAGED = r"not a file of an index of values \(\w+: .*\); build the index again"


def rewritten(folder: Path, **fields: Any) -> Path:
    """Change fields of an index's card; return the folder."""
    card = folder / "index.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | fields))
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"files": []}, "field 'files' is damaged: \\[\\]"),
        ({"files": {}}, "field 'files' does not name 'graph.graphml'"),
        ({"files": {"graph.graphml": "x"}}, "field 'files' does not name 'principles.parquet'"),
        ({"settings": {}}, "field 'settings' does not name 'encoder'"),
        ({"settings": "none"}, "field 'settings' is damaged: 'none'"),
        ({"counts": 7}, "field 'counts' is damaged: 7"),
    ],
)
def test_a_card_with_a_damaged_field_is_refused(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Whether or not the files are there, and by a second build too."""
    ValueIndex.build(tmp_path, TABLE)
    rewritten(tmp_path, **fields)
    for use in (ValueIndex.open, lambda folder: ValueIndex.build(folder, TABLE)):
        with pytest.raises(InputError, match=f"index.json: {message}"):
            use(tmp_path)
    (tmp_path / "graph.graphml").unlink()
    with pytest.raises(InputError, match=f"index.json: {message}"):
        ValueIndex.open(tmp_path)


def without(column: str) -> Callable[[Path], None]:
    """Return a function that drops a column of a table."""
    read = pyarrow.parquet.read_table
    return lambda path: pyarrow.parquet.write_table(read(path).drop_columns([column]), path)


def no_findings(path: Path) -> None:
    rows = pyarrow.parquet.read_table(path).to_pylist()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([row | {"findings": 7} for row in rows]), path
    )


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("reports.parquet", without("findings"), "column 'findings' is missing; "),
        ("principles.parquet", without("theory"), "column 'theory' is missing; "),
        ("communities.parquet", without("nodes"), "column 'nodes' is missing; "),
        ("reports.parquet", no_findings, DAMAGED),
        ("reports.parquet", lambda path: path.write_text("x"), DAMAGED),
        ("graph.graphml", lambda path: path.write_text("<x"), DAMAGED),
        ("vectors.safetensors", lambda path: path.write_text("x"), DAMAGED),
        ("vectors.safetensors", lambda path: save_file({}, path), DAMAGED),
    ],
)
def test_a_damaged_file_whose_hash_was_renewed_is_named(
    name: str, damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    made = ValueIndex.build(tmp_path, TABLE, encoder=Letters())
    damage(tmp_path / name)
    rewritten(tmp_path, files=made.card["files"] | {name: file_hash(tmp_path / name)})
    with pytest.raises(InputError, match=f"{name}: {message}"):
        ValueIndex.open(tmp_path)

"""Names of values as a user's table writes them: in capitals, or with letters no file can hold."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest
from methods.sova.graph_parts import TABLE, principles

from zoo.errors import InputError
from zoo.methods.sova.graph import build_graph
from zoo.methods.sova.index import ValueIndex


def supported(graph: nx.DiGraph) -> list[tuple[str, str]]:
    return [(a, b) for a, b, data in graph.edges(data=True) if data["kind"] == "supports"]


def test_a_value_in_capitals_is_linked_to_the_principles_that_name_it() -> None:
    """As often as in small letters, and under the name that the table gives it."""
    small = supported(build_graph(TABLE, principles()))
    large = supported(build_graph({v.title(): TABLE[v] for v in TABLE}, principles()))
    assert len(small) > 3
    assert sorted((a, b.lower()) for a, b in large) == sorted(small)
    assert all(b.removeprefix("value:").istitle() for _, b in large)


def test_two_spellings_of_a_value_are_both_linked() -> None:
    graph = build_graph({"honesty": {}, "Honesty": {}}, principles())
    ends = [b for _, b in supported(graph)]
    assert ends.count("value:honesty") == ends.count("value:Honesty") > 0


@pytest.mark.parametrize("letter", ["\x01", "\x7f", "\ufffe", "\n"])
def test_a_value_with_a_control_character_is_refused(letter: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="values: 'hon.*esty': has a control character"):
        ValueIndex.build(tmp_path / "new", {**TABLE, f"hon{letter}esty": {}})
    assert not (tmp_path / "new").exists()

"""The tagged reply that is learned, and how tags follow each other in replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from zoo.methods.coct.concepts import Concepts, Inventory
from zoo.methods.coct.metrics import Chain, as_csv, inner_transitions
from zoo.plots import heat_map
from zoo.support.decisions import Decision
from zoo.support.encoder import read_field
from zoo.support.reply import SupportReply
from zoo.support.strategy_metrics import Floats

Tables = dict[str, tuple[list[str], Floats]]
"""Kind of concept -> names, and transitions between them inside replies, rows summing to 1."""


def learned_reply(teacher: str | None, concepts: Concepts) -> Callable[[Decision], str | None]:
    """Return what gives the tagged reply to learn at a decision; None where there is none.

    Args:
        teacher: File with a teacher's tagged replies; None for the annotated strategy and reply.
        concepts: The tags.
    """
    if teacher is not None:
        rows = read_field(Path(teacher), "tagged", "model.tagged")
        return lambda decision: rows.get(decision.id)

    def annotated(decision: Decision) -> str | None:
        turn = decision.target
        return f"{concepts.tag(turn.strategy)} {turn.text}" if turn.strategy else None

    return annotated


def chain_of(reply: SupportReply) -> Chain:
    """Return (kind, name) of each tag of a reply, in order."""
    pairs = (concept.split(": ", 1) for concept in reply.concepts)
    return [(kind, name) for kind, name in pairs]


def transition_tables(replies: Sequence[SupportReply], lists: Inventory) -> Tables:
    """Return the transitions inside replies of every kind of concept."""
    chains = [chain_of(reply) for reply in replies]
    return {kind: inner_transitions(chains, kind, labels) for kind, labels in lists.items()}


def transition_figures(tables: Tables) -> dict[str, Any]:
    """Return a heat map of each table that is not empty."""
    drawn = {}
    for kind, (names, table) in tables.items():
        if table.any():
            title = f"{kind} tags inside a reply: from row to column"
            values = torch.tensor(table)
            drawn[f"chain/{kind}"] = heat_map(values, names, names, title, "share of the row")
    return drawn


def write_tables(tables: Tables, folder: Path) -> None:
    """Write each table to a CSV file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (names, table) in tables.items():
        (folder / f"transitions_{kind}.csv").write_text(as_csv(names, table), "utf-8")

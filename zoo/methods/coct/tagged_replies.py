"""The tagged reply that is learned, and how tags follow each other in replies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from zoo.errors import InputError
from zoo.methods.coct.concepts import Concepts, Inventory
from zoo.methods.coct.metrics import Chain, as_csv, inner_transitions
from zoo.methods.coct.read_tagged import spoken
from zoo.plots import heat_map
from zoo.records import Dialogue
from zoo.support.decisions import Decision, decisions
from zoo.support.encoder import read_field
from zoo.support.labels import Labels
from zoo.support.reply import SupportReply
from zoo.support.strategy_metrics import Floats

log = logging.getLogger(__name__)

Tables = dict[str, tuple[list[str], Floats]]
"""Kind of concept -> names, and transitions between them inside replies, rows summing to 1."""


def learned_reply(teacher: str | None, concepts: Concepts) -> Callable[[Decision], str | None]:
    """Return what gives the tagged reply to learn at a decision; None where there is none.

    A teacher's reply that holds no words is not learned.

    Args:
        teacher: File with a teacher's tagged replies; None for the annotated strategy and reply.
        concepts: The tags.
    """
    if teacher is not None:
        rows = teachers_replies(teacher)
        learned = {name: tagged for name, tagged in rows.items() if spoken(tagged, concepts)}
        silent = [name for name in rows if name not in learned]
        if silent:
            said = f"{len(silent)} of {len(rows)} replies hold no words and are not learned"
            log.warning("model.tagged: %s; the first is %s", said, silent[0])
        return lambda decision: learned.get(decision.id)

    def annotated(decision: Decision) -> str | None:
        turn = decision.target
        return f"{concepts.tag(turn.strategy)} {turn.text}" if turn.strategy else None

    return annotated


def teachers_replies(teacher: str) -> dict[str, str]:
    """Return the tagged reply of each decision in a teacher's file, by the decision's id.

    Raises:
        InputError: The file cannot be read, or a line lacks a field.
    """
    return read_field(Path(teacher), "tagged", "model.tagged")


def check_ids(teacher: str, records: Sequence[Dialogue], labels: Labels) -> None:
    """Refuse a teacher's file that replies to none of the training decisions.

    Args:
        teacher: The file.
        records: What is trained on.
        labels: The strategies that the data annotates.

    Raises:
        InputError: None of its ids is that of a decision; names the first of both.
    """
    rows = teachers_replies(teacher)
    points = (decisions(record, labels, need_strategies=False) for record in records)
    known = [decision.id for some in points for decision in some]
    if known and rows.keys().isdisjoint(known):  # without decisions there is another error
        raise InputError(
            f"model.tagged: none of the {len(rows)} ids in {teacher} is a decision of the training "
            f"data; its first is {next(iter(rows))!r}, the data's {known[0]!r}; let "
            f"the teacher predict with data.predict_split: train"
        )


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

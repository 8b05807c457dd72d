"""What the words of a model mean as a tagged reply, and how tags follow each other in replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from zoo.methods.coct.concepts import Concepts, Inventory, join_tags, split_tags, spoken
from zoo.methods.coct.metrics import Chain, as_csv, inner_transitions, of_kind
from zoo.plots import heat_map
from zoo.support.decisions import Decision
from zoo.support.encoder import one_turn, read_field
from zoo.support.reply import SupportReply
from zoo.support.strategy_metrics import Floats
from zoo.support.tags import unquoted

Tables = dict[str, tuple[list[str], Floats]]
"""Kind of concept -> names, and transitions between them inside replies, rows summing to 1."""


def read_tagged(
    words: str, concepts: Concepts, fallback: str = "", *, nll: float = 0.0, tokens: int = 0
) -> SupportReply:
    """Return what a model's words say: equations (2) and (3).

    Args:
        words: All that it wrote.
        concepts: The tags.
        fallback: Strategy of a reply without a strategy tag; empty if tags name no strategies.
        nll: See `SupportReply`.
        tokens: See `SupportReply`.
    """
    parts = split_tags(one_turn(words), concepts)
    chain = [concepts.kind_of(part.tag) for part in parts if part.tag is not None]
    strategies = of_kind(chain, "strategy") if fallback else []
    reply = unquoted(spoken(parts, concepts))
    failed = ("strategy",) if fallback and not strategies else ()
    return SupportReply(
        reply=reply,
        strategy=strategies[0] if strategies else fallback,
        emotion="",  # the tags say what the agent expresses, not what the seeker feels
        steps=(
            ("chain", " ".join(concepts.tag(name) for _, name in chain) or "(no tag)"),
            ("tagged", join_tags(parts, concepts)),
        ),
        words=words,
        concepts=tuple(f"{kind}: {name}" for kind, name in chain),
        failed=failed if reply else (*failed, "reply"),
        nll=nll,
        tokens=tokens,
    )


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

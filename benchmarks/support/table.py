"""Rows and tables of the emotional support benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.trials import Entry, by_row, markdown


@dataclass(frozen=True, slots=True)
class Set:
    """A test set.

    Attributes:
        module: Its data module.
        folder: Its folder in `ZOO_DATA`.
        strategies: Its supporter turns have them.
    """

    module: str
    folder: str
    strategies: bool


@dataclass(frozen=True, slots=True)
class Row:
    """What answers.

    Attributes:
        method: Class of the zoo.
        given: Its arguments.
        weights: Rows of one name share a training run, which is that of the first of them; `talker`
            and `none` learn nothing.
        examples: How many examples it makes of a decision.
        plan: straQ*'s plan: its `own`, the `gold` strategy, the most `frequent` one in training, or
            that of the `lookup` table.
        responder: Who writes straQ*'s replies: the `tuned` one, or the `talker`.
    """

    method: str
    given: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "talker"
    examples: int = 1
    plan: Literal["own", "gold", "frequent", "lookup"] = "own"
    responder: Literal["", "tuned", "talker"] = ""


SETS = {
    "esconv": Set("ESConv", "esconv", strategies=True),
    "empathetic_dialogues": Set("EmpatheticDialogues", "empathetic_dialogues", strategies=False),
}
PROMPTS = {  # kind of `ESCBaseline` -> name of its row
    "direct_refine": "direct-refine",
    "self_refine": "self-refine",
    "tot": "ToT",
    "rag": "RAG",
    "plan_and_solve": "plan-and-solve",
    "sot": "SoT",
    "csim": "CSIM",
    "self_refine_two_calls": "self-refine, two calls",
}
LOOKUP = "last strategy x turn depth"
IMIT = {"reward": "imit"}
ROWS: dict[str, Row] = {  # in this order they run: methods and main baselines, then the others
    "direct": Row("ESCBaseline", {"kind": "direct"}),
    "direct, past strategies hidden": Row(
        "ESCBaseline", {"kind": "direct", "show_strategies": False}
    ),
    "FiSMiness, agent": Row("FiSMiness", {"mode": "agent"}),
    "FiSMiness, agent, annotated history": Row(
        "FiSMiness", {"mode": "agent", "oracle_history": True}
    ),
    "CoCT": Row("CoCT"),
    "CoCT, past strategies as tags": Row("CoCT", {"keep_tags": True}),
    "CoT": Row("ESCBaseline", {"kind": "cot"}),
    "FSM prompt": Row("ESCBaseline", {"kind": "fsm"}),
    **{name: Row("ESCBaseline", {"kind": kind}) for kind, name in PROMPTS.items()},
    "CoCT, one concept": Row("CoCT", {"max_concepts": 1}),
    "CoCT, free concepts": Row("CoCT", {"free": True}),
    "CoCT, strategies alone": Row("CoCT", {"kinds": ["strategy"]}),
    "CoCT, emotions alone": Row("CoCT", {"kinds": ["emotion"]}),
    "SFT": Row("ESCBaseline", {"kind": "sft"}, "SFT"),
    "SFT, CoT": Row("ESCBaseline", {"kind": "sft_cot"}, "SFT"),
    "SFT, FSM": Row("ESCBaseline", {"kind": "sft_fsm"}, "SFT"),
    "FiSMiness, mt": Row("FiSMiness", {"mode": "mt"}, "FiSMiness", examples=3),
    "FiSMiness, mt, annotated history": Row(
        "FiSMiness", {"mode": "mt", "oracle_history": True}, "FiSMiness", examples=3
    ),
    "straQ*, imit": Row("StraQ", IMIT, "straQ*, imit", responder="tuned"),
    "straQ*, imit, the talker replies": Row("StraQ", IMIT, "straQ*, imit", responder="talker"),
    "gold strategies": Row("StraQ", {}, "none", plan="gold", responder="tuned"),
    "most frequent strategy": Row("StraQ", {}, "none", plan="frequent", responder="tuned"),
    LOOKUP: Row("StraQ", {}, "none", plan="lookup", responder="tuned"),
    "straQ*, distill": Row("StraQ", {"reward": "distill"}, "straQ*, distill", responder="tuned"),
    "CoCT, SFT": Row("CoCT", {"learn": True}, "CoCT"),
    "FiSMiness, single pass": Row("FiSMiness", {"mode": "single_pass"}, "single pass"),
    "straQ*, autoregressive": Row(
        "StraQ", {"objective": "cross_entropy"}, "straQ*, autoregressive", responder="tuned"
    ),
    "straQ*, value head": Row(
        "StraQ", {**IMIT, "readout": "value_head"}, "straQ*, value head", responder="tuned"
    ),
}
COLUMNS = {  # score -> title, decimals
    "accuracy": ("Acc", 1),
    "proficiency": ("Q", 1),
    "bias": ("B", 2),
    "bleu_2": ("B-2", 1),
    "rouge_l": ("R-L", 1),
    "meteor": ("METEOR", 1),
    "cider": ("CIDEr", 1),
    "distinct_2": ("D-2", 1),
    "perplexity": ("PPL", 1),  # of the annotated replies; not of SoT and straQ*
}
PLAIN = {
    "length": ("words", 1),
    "strategy_failed": ("no strategy", 0),
    "reply_failed": ("no reply", 0),
    "calls": ("calls", 1),
}


def table(results: Sequence[Entry]) -> list[str]:
    """Return Markdown: each set's rows, means over seeds of scores with their 95 % intervals."""
    lines = []
    for name, entries in by_row(results, SETS, "set"):
        known = {score for entry in entries for score in entry["scores"]}
        shown = [score for score in COLUMNS if score in known]
        titles = [COLUMNS[score][0] for score in shown] + [title for title, _ in PLAIN.values()]
        lines += ["", f"{name}, {entries[0]['answered']} decisions", ""]
        lines += markdown(
            ["row", "seeds", *titles, "tokens"],
            [cells(row, mine, shown) for row, mine in by_row(entries, ROWS)],
        )
    return lines[1:]


def cells(row: str, entries: Sequence[Entry], shown: Sequence[str]) -> list[str]:
    """Return a row of the table."""
    means = [mean(entries, score, decimals) for score, (_, decimals) in PLAIN.items()]
    tokens = statistics.mean(entry["cost"]["test"] / entry["answered"] for entry in entries)
    intervals = [interval(entries, score) for score in shown]
    return [row, str(len(entries)), *intervals, *means, f"{tokens:.0f}"]


def interval(entries: Sequence[Entry], score: str) -> str:
    """Return a score with its interval over dialogues, both averaged over seeds."""
    if score not in entries[0]["scores"]:
        return "-"
    if f"{score}/low" not in entries[0]["scores"]:  # of one dialogue
        return mean(entries, score, COLUMNS[score][1])
    names = (score, f"{score}/low", f"{score}/high")
    return "{} ({} to {})".format(*(mean(entries, name, COLUMNS[score][1]) for name in names))


def mean(entries: Sequence[Entry], score: str, decimals: int) -> str:
    """Return the mean of a score over seeds."""
    return f"{statistics.mean(entry['scores'][score] for entry in entries):.{decimals}f}"

"""The teacher of a distilled retriever: its prompt has to be the student's; its own scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.decoding.option_logits import option_logits, relevance_score
from zoo.errors import InputError
from zoo.export import CARD, read_checkpoint
from zoo.module import evaluating
from zoo.ranking.pair_scoring import read_pairs
from zoo.records import Ranking

SHARED = ("template", "relevance", "choice", "labels", "system")


def check_prompt(prompt: Mapping[str, Any], source: str | None) -> None:
    """Raise if a teacher was trained with another prompt.

    Args:
        prompt: Settings of the student.
        source: Exported folder or checkpoint of the teacher; anything else is left alone.

    Raises:
        InputError: A setting differs; says which.
    """
    path = Path(source or "")
    if (path / CARD).is_file():
        told = json.loads((path / CARD).read_text())["hyper_parameters"]
    elif path.is_file() and path.suffix == ".ckpt":
        told = read_checkpoint(path).get("hyper_parameters", {})
    else:
        return
    for name in SHARED:
        if name not in told:
            continue
        value = told[name] or ["A", "B"] if name == "labels" else told[name]
        if value != prompt[name]:
            raise InputError(
                f"model.{name}: {prompt[name]!r}, but the teacher {source} was trained with "
                f"{value!r}; set it to that"
            )


@evaluating
def teacher_scores(module: Any, records: Sequence[Ranking]) -> list[list[float]]:
    """Return the teacher's score for each document of each record's pool, an LLM pass a pair.

    Args:
        module: The student, which holds the teacher.
        records: What to rank.
    """
    grid, options = module.encoder().grid(records), module.encoder().option_ids
    head, norm = module.output_head
    found = read_pairs(
        module.lm,
        grid.heads,
        grid.tails,
        grid.pairs,
        lambda states: relevance_score(option_logits(states, norm, head, options)),
        slot=module.frozen.slot,
        everyone_done=module.everyone_done,
    )
    values = iter(found.tolist())
    return [[next(values) for _ in record.pool] for record in records]

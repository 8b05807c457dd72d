"""A prompt that asks both questions of the setting `steered`, chosen for a frozen model."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import replace
from typing import Any

import torch

from benchmarks.megan.settings import SAME_WORDS, UNTOLD, Records
from datamodules.task_views import HELD_OUT, WORDINGS

QUERIES = 40  # of the training split


def candidates() -> list[str]:
    """Return the prompt without a question, and wordings of both questions in either order."""
    views = (WORDINGS["clinc150 domain"], WORDINGS["clinc150 intent"])
    prompts = [UNTOLD]
    for pair in zip(*(view[:-HELD_OUT] for view in views), strict=True):
        if not SAME_WORDS & {*pair}:
            prompts += [" ".join(pair), " ".join(reversed(pair))]
    return prompts


def neutral_prompt(module: Any, records: Records) -> str:
    """Return the candidate under which a model wavers most between the answers to both questions.

    That is the smallest mean |log p(answer to one) - log p(answer to the other)|. A told model
    leans to one question under most prompts, by another amount for each seed, and betas of a
    bounded range shift that by a bounded amount.

    Args:
        module: The frozen model.
        records: Training records.
    """
    pairs: dict[str, Records] = defaultdict(list)
    for record in records:
        known = pairs[record.prompt]
        if record.task not in {each.task for each in known}:
            known.append(record)
    both = [pair for pair in pairs.values() if len(pair) == 2][:QUERIES]
    leanings = {
        prompt: statistics.mean(
            abs(log_probability(module, first, prompt) - log_probability(module, second, prompt))
            for first, second in both
        )
        for prompt in candidates()
    }
    return min(leanings, key=lambda prompt: leanings[prompt])


@torch.no_grad()
def log_probability(module: Any, record: Any, prompt: str) -> float:
    """Return log p of a record's answer under a system turn."""
    encoder = module.encoder()
    (example,) = encoder(replace(record, system=prompt, condition=""))
    batch = encoder.collate([example], {}).to(module.lm.device)
    return -float(module.losses(batch)["reply"].sum)

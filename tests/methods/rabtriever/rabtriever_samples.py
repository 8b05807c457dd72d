"""Records and tiny students for Rabtriever's fidelity tests (its sheet of arXiv 2604.23336).

What is expected comes from Hugging Face's own forward over padded rows and from the equations
written out here.
"""

from __future__ import annotations

from typing import Any

import torch

from zoo.decoding.option_logits import option_logits, relevance_score
from zoo.methods.lahore.encoder import PAIR
from zoo.methods.rabtriever.encoder import STATES
from zoo.module import evaluating
from zoo.ranking.pair_scoring import read_pairs
from zoo.records import Corpus, Document, Ranking

POOL = Corpus(
    {
        "ask": Document("ask", "Question"),
        "say": Document("say", "Restatement or Paraphrasing of all that was told"),  # cut to 32
        "fact": Document("fact", "a source", title="Information"),
    }
)
RECORDS = [
    Ranking("seeker: I lost my job.\nsupporter: When?", POOL, (("say", 1),), id="one"),
    Ranking("seeker: hi", POOL, (("ask", 1),), id="two"),
]


@evaluating
def teacher_scores(module: Any, records: list[Ranking]) -> list[list[float]]:
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


def student(make: Any, shape: str, **options: Any) -> Any:
    """Return a module whose states and predictions vary."""
    module = make("Rabtriever", shape, spread=8.0, **options)
    with torch.no_grad():
        for parameter in module.predictor.parameters():
            parameter.mul_(3)
    return module


def pairs_of(module: Any, records: list[Ranking] = RECORDS) -> list[Any]:
    return [pair for record in records for pair in module.encoder()(record)]


def batch_of(module: Any, records: list[Ranking] = RECORDS) -> Any:
    pairs = pairs_of(module, records)
    weights = {STATES: float(sum(len(p.tail) for p in pairs)), PAIR: float(len(pairs))}
    return module.encoder().collate(pairs, weights)


def padded(module: Any, pair: Any) -> torch.Tensor:
    """Run document (padded on the left to its slot) and query together, by Hugging Face."""
    slot = module.encoder().slot
    hole = slot - len(pair.head)
    ids = torch.tensor([[0] * hole + [*pair.head, *pair.tail]])
    mask = torch.tensor([[0] * hole + [1] * (len(pair.head) + len(pair.tail))])
    places = torch.arange(ids.shape[1])[None]
    out = module.lm.model(ids, attention_mask=mask, position_ids=places, use_cache=False)
    return out.last_hidden_state[0]  # after the final norm

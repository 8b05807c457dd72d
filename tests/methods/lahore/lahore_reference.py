"""LaHoRe's equations in plain PyTorch, from its sheet, and a small task with a hidden rationale.

Nothing here uses the method's code: prompts are strings, every sequence is run alone by Hugging
Face's own forward, labels are searched by position.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from datamodules.base import ZooDataModule
from zoo.ranking.metrics import mean_scores, query_scores
from zoo.records import Corpus, Document, Ranking, Record

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
END = "<|im_end|>"


def prompt(query: str, document: str, labels: Sequence[str] = ("A", "B")) -> str:
    """The paper's wording in a chat turn, document before query, question last."""
    asked = (
        "Can Q be appropriately responded with D? If you think the answer is true, please choose "
        f"{labels[0]}; otherwise choose {labels[1]}."
    )
    user = f"document: {document}\nquery: {query}\n{asked}"
    return f"{SYSTEM}<|im_start|>user\n{user}{END}\n<|im_start|>assistant\n"


def ids_of(module: Any, text: str) -> list[int]:
    return module.tokenizer(text, add_special_tokens=False)["input_ids"]


def next_logits(module: Any, text: str) -> torch.Tensor:
    """Logits of the token after a text, by Hugging Face."""
    ids = torch.tensor([ids_of(module, text)])
    return module.lm(ids, use_cache=False).logits[0, -1].float()


def log_odds(
    module: Any, query: str, document: str, labels: Sequence[str] = ("A", "B")
) -> torch.Tensor:
    """z = l_T - l_F at the last prompt position."""
    true, false = (ids_of(module, label)[0] for label in labels)
    logits = next_logits(module, prompt(query, document, labels))
    return logits[true] - logits[false]


def answer_log_prob(module: Any, query: str, document: str, label: str) -> torch.Tensor:
    """log pi(label, end-of-turn | prompt)."""
    text = prompt(query, document)
    start, ids = len(ids_of(module, text)), ids_of(module, text + label + END)
    log_probs = module.lm(torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(1)
    steps = [log_probs[i - 1, ids[i]] for i in range(start, len(ids))]
    assert len(steps) == 2
    return torch.stack(steps).sum()


# -- a small task: which mark belongs to which cue cannot be read off the letters ------------------

CUES, MARKS = "aei", "QWZ"
TASK = Corpus({mark: Document(mark, mark * 4) for mark in MARKS})
SHORT: dict[str, Any] = {"system": "", "relevance": False, "choice": False}


def task() -> list[Ranking]:
    """One query for each cue; three documents; the rationale is the place in the alphabet."""
    return [
        Ranking(cue * 4, TASK, ((mark, 1),), id=cue) for cue, mark in zip(CUES, MARKS, strict=True)
    ]


def train(module: Any, records: Sequence[Ranking], steps: int, lr: float = 3e-3) -> list[float]:
    """Train on all pairs at each step; return the loss of every step."""
    encoder = module.encoder()
    pairs = [pair for record in records for pair in encoder(record)]
    totals: dict[int, float] = {}
    for pair in pairs:
        for head, weight in pair.head_weights().items():
            totals[head] = totals.get(head, 0.0) + weight
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=0.0)
    module.log = lambda *_, **__: None
    module.train()
    losses = []
    order = random.Random(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min((step + 1) / 10, 1.0)
        batch = encoder.collate(order.sample(pairs, len(pairs)), totals)
        loss = module.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    module.eval()
    return losses


def quality(module: Any, records: Sequence[Ranking]) -> float:
    """Return MRR."""
    rows = zip(records, module.scores(records), strict=True)
    found = [query_scores(dict(zip(r.pool, row, strict=True)), dict(r.relevant)) for r, row in rows]
    return mean_scores(found)["MRR@10"]


class Data(ZooDataModule):
    """A data module of given records."""

    record_types = (Ranking,)

    def __init__(self, records: list[Ranking], **options: Any) -> None:
        super().__init__(**options)
        self.given = records

    def load(self, split: str) -> list[Record]:
        return [*self.given]

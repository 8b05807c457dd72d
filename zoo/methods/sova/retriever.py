"""The optional retriever: which principles fit a dilemma, learned with InfoNCE.

    (I1)  L = mean over queries q of the mean over its positives p+ of
              -log( exp(q p+ / t) / sum_p exp(q p / t) )

q is a dilemma and p a curated principle of the theory of `rule`: the mean of the agent's normed
states of its tokens, scaled to length 1, under a LoRA adapter that is off when the agent decides.
Positives are the principles of the labels that the expected action has [inferred, like all of
(I1)]. An example holds the tokens of a dilemma; the targets of its first tokens are the places of
its positives, each with an equal share of weight 1, so that L is exact over batches and processes.

Shapes: B dilemmas, P principles, N positives of all of them, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.decoding.prefix_cache import run_packed
from zoo.encoding import Batch, Example, unlearned
from zoo.losses.cross_entropy import Term
from zoo.markup import token_ids
from zoo.methods.sova.expected import RULES, expected_action
from zoo.methods.sova.principles import Principle, curated
from zoo.records import Dilemma

TEMPERATURE = 0.05


def candidates(rule: str) -> list[Principle]:
    """Return the curated principles that a rule's retriever tells apart, in their order."""
    return [principle for principle in curated() if principle.theory == RULES[rule][0]]


def positives(record: Dilemma, rule: str) -> list[int]:
    """Return the places, among `candidates`, of the principles that fit the expected action."""
    expected = expected_action(record, rule)
    labels = set(record.action(expected).of(RULES[rule][0])) if expected else set()
    return [place for place, item in enumerate(candidates(rule)) if item.label in labels]


def query(ids: Sequence[int], record: Dilemma, rule: str, head: int) -> Example:
    """Return a dilemma with its positives as targets; a text shorter than they are teaches fewer.

    Args:
        ids: Token ids of the dilemma.
        record: The dilemma.
        rule: Of expected actions.
        head: Which head the targets count for.
    """
    example = unlearned(ids, record)
    places = positives(record, rule)[: len(ids)]
    for i, place in enumerate(places):
        example.labels[i], example.head_ids[i] = place, head
        example.weights[i] = 1 / len(places)
    return example


def retriever_loss(lm: Any, tokenizer: Any, states_BLD: Tensor, batch: Batch, rule: str) -> Term:
    """Return L of (I1), summed over the queries of a batch.

    Args:
        lm: The agent's language model, its adapter on.
        tokenizer: Its tokenizer.
        states_BLD: States of the batch after the last block, before the final norm.
        batch: Made of `query` examples.
        rule: Of expected actions.
    """
    ids = [token_ids(tokenizer, item.rule) for item in candidates(rule)]
    states_LD = lm.model.norm(run_packed(lm, ids, [0] * len(ids)))
    principles_PD = means(list(states_LD.split([len(row) for row in ids])))
    queries_BD = means(sequences(lm.model.norm(states_BLD), batch))
    targets = sequences(batch.labels[..., None], batch)
    weights = sequences(batch.weights[..., None], batch)
    total = queries_BD.new_zeros(())
    for q_D, labels_L1, weights_L1 in zip(queries_BD, targets, weights, strict=True):
        learned = weights_L1[:, 0] > 0
        logps_P = (principles_PD @ q_D / TEMPERATURE).log_softmax(0)
        total = total - (weights_L1[learned, 0] * logps_P[labels_L1[learned, 0]]).sum()
    (normalizer,) = batch.normalizers.values() or (1.0,)
    return Term(total, batch.weights.sum(), normalizer)


def sequences(values: Tensor, batch: Batch) -> list[Tensor]:
    """Return what each sequence of a batch has of `(B, L, ...)` or packed `(1, N, ...)` values."""
    if batch.offsets is not None:
        return list(values[0].split(batch.lengths))
    return [row[:length] for row, length in zip(values, batch.lengths, strict=True)]


def means(parts: Sequence[Tensor]) -> Tensor:
    """Return the mean of each part's rows, scaled to length 1, float32."""
    return F.normalize(torch.stack([part.float().mean(0) for part in parts]), dim=1)

"""Terms of a loss: a head sees its own rows, and terms are weighed and summed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from random_logits import D, V
from torch.nn.functional import cross_entropy

from zoo.encoding import Batch
from zoo.losses.cross_entropy import Term, head_loss, total_loss


def batch_of(head_ids: list[int], labels: list[int], weights: list[float]) -> Batch:
    length = len(head_ids)
    return Batch(
        input_ids=torch.zeros(1, length, dtype=torch.long),
        labels=torch.tensor([labels]),
        head_ids=torch.tensor([head_ids]),
        weights=torch.tensor([weights]),
        position_ids=torch.arange(length)[None],
        lengths=[length],
        normalizers={0: 8.0, 1: 2.0},
    )


def test_a_head_sees_its_own_rows_only() -> None:
    hidden = torch.randn(1, 5, D, requires_grad=True)
    weight = torch.randn(V, D, requires_grad=True)
    batch = batch_of([0, -1, 1, 0, -1], [3, -100, 4, 5, -100], [1.0, 0, 1, 0.5, 0])
    norm = torch.nn.RMSNorm(D)
    term = head_loss(hidden, batch, 0, weight, norm)
    logits = norm(hidden[0, [0, 3]]) @ weight.t()
    losses = cross_entropy(logits, torch.tensor([3, 5]), reduction="none")
    want = losses[0] + 0.5 * losses[1]
    assert term.sum.item() == pytest.approx(want.item(), rel=1e-5)
    assert term.weight.item() == 1.5
    assert term.normalizer == 8
    assert term.loss.item() == pytest.approx(want.item() / 8, rel=1e-5)
    assert term.mean.item() == pytest.approx(want.item() / 1.5, rel=1e-5)
    term.loss.backward()
    assert hidden.grad[0].any(-1).tolist() == [True, False, False, True, False]


def test_a_head_without_rows_counts_nothing() -> None:
    hidden = torch.randn(1, 2, D, requires_grad=True)
    weight = torch.randn(V, D, requires_grad=True)
    term = head_loss(hidden, batch_of([0, -1], [1, -100], [1.0, 0]), 1, weight)
    assert (term.sum.item(), term.weight.item(), term.mean.item()) == (0, 0, 0)
    term.loss.backward()
    assert not weight.grad.any()


def test_without_a_normalizer_a_term_is_a_sum() -> None:
    batch = replace(batch_of([0], [1], [1.0]), normalizers={})
    term = head_loss(torch.randn(1, 1, D), batch, 0, torch.randn(V, D))
    assert term.loss == term.sum


def test_total_loss_weighs_terms() -> None:
    terms = {
        "a": Term(torch.tensor(6.0), torch.tensor(3.0), 2.0),
        "b": Term(torch.tensor(8.0), torch.tensor(1.0), 4.0),
        "filler": Term(torch.tensor(5.0), torch.tensor(1.0), math.inf),
    }
    assert total_loss(terms).item() == 5
    assert total_loss(terms, {"a": 0.5, "b": 2.0, "filler": 1.0}).item() == 5.5

"""The linear cross-entropy in chunks of rows and blocks of the vocabulary."""

from __future__ import annotations

import pytest
import torch
from random_logits import TOLERANCE, D, N, V, inputs, reference, rows
from torch import Tensor
from torch.nn.functional import cross_entropy

from zoo.losses import cross_entropy as cross_entropy_module
from zoo.losses.cross_entropy import (
    linear_cross_entropy,
    nll_in_place,
    plus_product,
    prepare_chunks,
)


@pytest.mark.parametrize("block", [1, 7, V - 1, V])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_of_the_head_by_blocks(
    dtype: torch.dtype, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the blocks of the vocabulary nor the chunks of the rows can be seen in it."""
    hidden, weight, labels, weights = inputs(dtype)
    whole = linear_cross_entropy(hidden, weight, labels, weights)
    (want,) = torch.autograd.grad(whole, weight)
    monkeypatch.setattr(cross_entropy_module, "VOCABULARY_BLOCK", block)
    parts = linear_cross_entropy(hidden, weight, labels, weights, budget=rows(7, dtype))
    (got,) = torch.autograd.grad(parts, weight)
    error = (got - want).abs().max() / want.abs().max()
    assert error < TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("width", "learns", "count", "per_chunk"),
    [
        (16, True, 900, 300),  # 128 MiB are 335 rows
        (900, False, 900, 300),
        (900, True, 900, 900),  # the head's gradient in float32 is as large as 900 rows
        (900, True, 1000, 500),
        (2000, True, 2000, 1000),  # 512 MiB are 1,342 rows
    ],
)
def test_rows_of_a_chunk(width: int, learns: bool, count: int, per_chunk: int) -> None:
    """The logits may be as large as the gradient of the head, at most 512 MiB; chunks are even.

    That gradient is summed in float32; of logits in bfloat16 twice as many rows fit.
    """
    for dtype, times in ((torch.float32, 1), (torch.bfloat16, 2)):
        weight = torch.empty(100_000, width, dtype=dtype, requires_grad=learns)  # never touched
        hidden = torch.empty(times * count, width, dtype=dtype, requires_grad=True)
        *_, found, needs = prepare_chunks(hidden, weight, None)
        assert (found, needs) == (times * per_chunk, (True, learns))


def test_chunks_are_summed_in_float32() -> None:
    """A sum of 300 products in bfloat16 would be off by percents."""
    hidden, weight, labels, weights = inputs(torch.bfloat16)
    _, _, want = reference(hidden, weight, labels, weights)
    errors = []
    for budget in (None, rows(1, torch.bfloat16)):
        loss = linear_cross_entropy(hidden, weight, labels, weights, budget=budget)
        (found,) = torch.autograd.grad(loss, weight)
        errors.append((found.double() - want).norm() / want.norm())
    assert errors[1] < 1.5 * errors[0]


def test_the_first_product_of_one_type_is_no_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head's gradient is as large as the head: no second one is laid out to be added to."""
    logits, hidden = torch.randn(N, V), torch.randn(N, D)
    wanted = logits.t() @ hidden
    found = plus_product(None, logits, hidden, torch.float64)
    torch.testing.assert_close(found, wanted.double(), rtol=1e-4, atol=1e-4)
    again = plus_product(found, logits, hidden, torch.float64)
    assert again is found, "added in place"
    torch.testing.assert_close(again, 2 * wanted.double(), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(cross_entropy_module.torch, "zeros", None)
    assert torch.equal(plus_product(None, logits, hidden, torch.float32), wanted)


def test_softmax_runs_over_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU over as many as its cache holds; the losses of all rows come back in order."""
    logits, labels = torch.randn(N, V), torch.randint(0, V, (N,))
    rows: list[int] = []
    plain = torch.log_softmax

    def counted(part: Tensor, *given: object, **named: object) -> Tensor:
        rows.append(len(part))
        return plain(part, *given, **named)

    monkeypatch.setattr(cross_entropy_module.torch, "log_softmax", counted)
    found = nll_in_place(logits.clone(), labels, keep=False)
    assert rows == [128, 128, N - 256]
    torch.testing.assert_close(found, cross_entropy(logits, labels, reduction="none"))

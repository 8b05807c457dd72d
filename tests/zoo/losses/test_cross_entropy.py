"""The linear cross-entropy against torch's own, on full logits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from zoo.encoding import Batch
from zoo.losses import cross_entropy as cross_entropy_module
from zoo.losses.cross_entropy import (
    LOGITS_BUDGET,
    Term,
    head_loss,
    linear_cross_entropy,
    nll_in_place,
    plus_product,
    prepare_chunks,
    total_loss,
)

N, D, V = 300, 16, 50  # more rows than the softmax takes at a time


def inputs(dtype: torch.dtype = torch.float32, scale: float = 1.0) -> tuple[Tensor, ...]:
    hidden = (torch.randn(N, D) * scale).to(dtype).requires_grad_()
    weight = torch.randn(V, D).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(0, V, (N,)), torch.rand(N) * 3


def reference(hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> list[Tensor]:
    """Value and both gradients in float64, from the rounded inputs."""
    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    value = (cross_entropy(h @ w.t(), labels, reduction="none") * weights.double()).sum()
    return [value.detach(), *torch.autograd.grad(value, (h, w))]


def rows(number: int, dtype: torch.dtype) -> int:
    """Return the budget for a number of rows per chunk."""
    return number * V * dtype.itemsize


# the value is a float32 scalar for every input type
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-6, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("per_chunk", [1, 7, 299, 300, None])
def test_value_and_gradients(dtype: torch.dtype, per_chunk: int | None) -> None:
    hidden, weight, labels, weights = inputs(dtype)
    budget = LOGITS_BUDGET if per_chunk is None else rows(per_chunk, dtype)
    value = linear_cross_entropy(hidden, weight, labels, weights, budget=budget)
    assert value.dtype == torch.float32
    grads = torch.autograd.grad(value, (hidden, weight))
    for got, leaf, want in zip(
        (value, *grads),
        (value, hidden, weight),
        reference(hidden, weight, labels, weights),
        strict=True,
    ):
        assert got.dtype == leaf.dtype
        error = (got.double() - want).abs().max() / want.abs().max()
        assert error < TOLERANCE[dtype]


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


def test_a_second_backward_pass_gives_the_same() -> None:
    """Methods that weigh tasks by their gradients ask for them more than once."""
    hidden, weight, labels, weights = inputs()
    loss = linear_cross_entropy(hidden, weight, labels, weights) * 3
    first, again = (torch.autograd.grad(loss, (hidden, weight), retain_graph=True) for _ in "ab")
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)


def test_the_weight_of_a_loss_is_not_rounded() -> None:
    """1/3 in bfloat16 is 0.2 percent too large; products of it are rounded once."""
    hidden, weight, labels, weights = inputs(torch.bfloat16)
    loss = linear_cross_entropy(hidden, weight, labels, weights)
    (whole,) = torch.autograd.grad(loss, weight, retain_graph=True)
    (third,) = torch.autograd.grad(loss / 3, weight)
    assert torch.equal(third, (whole.float() / 3).bfloat16())


def test_float64_gradients_in_one_chunk_are_exact() -> None:
    args = inputs(torch.float64)
    grads = torch.autograd.grad(linear_cross_entropy(*args), args[:2])
    for got, want in zip(grads, reference(*args)[1:], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_three_tokens_by_hand() -> None:
    """Logits 0, ln 2, ln 5 give probabilities 1/8, 2/8, 5/8; weights 1, 2 and 4."""
    weight = torch.tensor([[0.0], [math.log(2)], [math.log(5)]], requires_grad=True)
    hidden = torch.ones(3, 1, requires_grad=True)
    value = linear_cross_entropy(hidden, weight, torch.tensor([0, 1, 2]), torch.tensor([1.0, 2, 4]))
    assert value.item() == pytest.approx(math.log(8) + 2 * math.log(4) + 4 * math.log(8 / 5))
    value.backward()
    # column v: sum over rows of w_n (p_v - [y_n = v]); the weights sum to 7
    expected = [7 / 8 - 1, 7 * 2 / 8 - 2, 7 * 5 / 8 - 4]
    assert weight.grad.flatten().tolist() == pytest.approx(expected, rel=1e-5)
    mean = (2 * math.log(2) + 5 * math.log(5)) / 8  # sum_v p_v W_v
    rows_by_hand = [mean, 2 * (mean - math.log(2)), 4 * (mean - math.log(5))]
    assert hidden.grad.flatten().tolist() == pytest.approx(rows_by_hand, rel=1e-5)


def test_large_logits_stay_finite() -> None:
    hidden, weight, labels, weights = inputs(scale=1e3)
    value = linear_cross_entropy(hidden, weight, labels, weights)
    grads = torch.autograd.grad(value, (hidden, weight))
    assert all(x.isfinite().all() for x in (value, *grads))
    want = reference(hidden, weight, labels, weights)[0]
    assert value.item() == pytest.approx(want.item(), rel=1e-5)


def test_weights_default_to_one_and_zero_counts_nothing() -> None:
    hidden, weight, labels, _ = inputs()
    total = linear_cross_entropy(hidden, weight, labels)
    want = cross_entropy(hidden @ weight.t(), labels, reduction="sum")
    assert total.item() == pytest.approx(want.item(), rel=1e-6)
    half = torch.ones(N)
    half[N // 2 :] = 0
    value = linear_cross_entropy(hidden, weight, labels, half)
    value.backward()
    assert value.item() == pytest.approx(
        linear_cross_entropy(hidden[: N // 2], weight, labels[: N // 2]).item(), rel=1e-6
    )
    assert not hidden.grad[N // 2 :].any()
    assert hidden.grad[: N // 2].any()


def test_the_outer_gradient_scales_both() -> None:
    hidden, weight, labels, weights = inputs()
    once = torch.autograd.grad(
        linear_cross_entropy(hidden, weight, labels, weights), (hidden, weight)
    )
    third = linear_cross_entropy(hidden, weight, labels, weights) / 3
    for got, want in zip(torch.autograd.grad(third, (hidden, weight)), once, strict=True):
        torch.testing.assert_close(got, want / 3)


def test_no_rows_keep_the_graph_connected() -> None:
    """DDP and FSDP wait for a gradient of every parameter, so zero rows give zeros, not None."""
    hidden, weight, labels, _ = inputs()
    value = linear_cross_entropy(hidden[:0], weight, labels[:0])
    assert value.item() == 0
    assert value.dtype == torch.float32
    value.backward()
    assert torch.equal(hidden.grad, torch.zeros_like(hidden))
    assert torch.equal(weight.grad, torch.zeros_like(weight))


@pytest.mark.parametrize("budget", [rows(300, torch.float32), rows(9, torch.float32)])
def test_without_gradient(budget: int) -> None:
    hidden, weight, labels, weights = inputs()
    want = linear_cross_entropy(hidden, weight, labels, weights)
    with torch.no_grad():
        got = linear_cross_entropy(hidden, weight, labels, weights, budget=budget)
    assert not got.requires_grad
    assert got.item() == pytest.approx(want.item(), rel=1e-6)


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_one_side_frozen(frozen: str) -> None:
    hidden, weight, labels, weights = inputs()
    want = reference(hidden, weight, labels, weights)
    leaf = {"hidden": weight, "weight": hidden}[frozen]
    {"hidden": hidden, "weight": weight}[frozen].requires_grad_(False)
    for budget in (LOGITS_BUDGET, rows(9, torch.float32)):
        leaf.grad = None
        linear_cross_entropy(hidden, weight, labels, weights, budget=budget).backward()
        expected = want[2] if frozen == "hidden" else want[1]
        torch.testing.assert_close(leaf.grad.double(), expected, rtol=1e-4, atol=1e-5)


def test_autocast_multiplies_in_bfloat16_and_returns_float32_gradients() -> None:
    hidden, weight, labels, weights = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = linear_cross_entropy(hidden, weight, labels, weights)
    grads = torch.autograd.grad(value, (hidden, weight))
    rounded = linear_cross_entropy(hidden.bfloat16(), weight.bfloat16(), labels, weights)
    assert value.item() == rounded.item()
    want = reference(hidden, weight, labels, weights)
    assert value.item() == pytest.approx(want[0].item(), rel=1e-2)
    for got, expected in zip(grads, want[1:], strict=True):
        assert got.dtype == torch.float32
        assert (got.double() - expected).abs().max() / expected.abs().max() < 3e-2


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

"""The linear cross-entropy against torch's own, on full logits."""

from __future__ import annotations

import math

import pytest
import torch
from random_logits import TOLERANCE, N, inputs, reference, rows
from torch.nn.functional import cross_entropy

from zoo.losses.cross_entropy import LOGITS_BUDGET, linear_cross_entropy


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

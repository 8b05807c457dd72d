"""Log-probabilities in chunks against torch's own, on full logits."""

from __future__ import annotations

import pytest
import torch

from zoo.losses.preference import linear_log_probs

N, D, V = 300, 16, 50  # more rows than the softmax takes at a time
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}


@pytest.mark.parametrize("head", ["learns", "frozen"])
@pytest.mark.parametrize("states", ["learn", "frozen"])
@pytest.mark.parametrize("per_chunk", [1, 7, 299, 300])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_values_and_gradients(dtype: torch.dtype, per_chunk: int, states: str, head: str) -> None:
    hidden = torch.randn(N, D).to(dtype).requires_grad_(states == "learn")
    weight = torch.randn(V, D).to(dtype).requires_grad_(head == "learns")
    labels, slope = torch.randint(0, V, (N,)), torch.randn(N)
    learned = [x for x in (hidden, weight) if x.requires_grad]
    budget = per_chunk * V * dtype.itemsize
    values = linear_log_probs(hidden, weight, labels, budget=budget)
    assert values.dtype == torch.promote_types(dtype, torch.float32)
    h, w = (x.detach().double().requires_grad_(x.requires_grad) for x in (hidden, weight))
    wanted = (h @ w.t()).log_softmax(1).gather(1, labels[:, None])[:, 0]
    got, want = [values], [wanted]
    if learned:
        got += torch.autograd.grad((values * slope).sum(), learned)
        twins = [x for x in (h, w) if x.requires_grad]
        want += torch.autograd.grad((wanted * slope.double()).sum(), twins)
    for x, y in zip(got, want, strict=True):
        error = (x.detach().double() - y.detach()).abs().max()
        assert error <= TOLERANCE[dtype] * max(1.0, float(y.detach().abs().max()))


def test_no_rows_keep_the_graph() -> None:
    hidden, weight = torch.empty(0, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    values = linear_log_probs(hidden, weight, torch.empty(0, dtype=torch.long))
    assert values.shape == (0,)
    assert [g.abs().sum() for g in torch.autograd.grad(values.sum(), (hidden, weight))] == [0, 0]


def test_a_head_in_bfloat16_sums_its_chunks_in_float32() -> None:
    """A gradient of 300 chunks is as near to the exact one as that of a single chunk."""
    torch.manual_seed(0)
    hidden = torch.rand(300, 4, dtype=torch.bfloat16)
    labels = torch.randint(3, (300,))
    gradients = []
    for dtype, budget in ((torch.float64, 2**20), (torch.bfloat16, 3 * 2)):
        weight = torch.zeros(3, 4, dtype=dtype, requires_grad=True)
        linear_log_probs(hidden.to(dtype), weight, labels, budget=budget).sum().backward()
        gradients.append(weight.grad.double())
    exact, found = gradients
    assert (found - exact).abs().max() / exact.abs().max() < 5e-3

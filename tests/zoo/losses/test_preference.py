"""Log-probabilities in chunks against torch's own, on full logits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from zoo.encoding import Batch
from zoo.losses.preference import dpo_loss, linear_log_probs, sequence_log_probs

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


class Kept:
    """Counts the numbers that are kept for the backward pass."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __enter__(self) -> Kept:
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._add, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.hooks.__exit__(*error)

    def _add(self, tensor: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tensor.numel())
        return tensor


@pytest.mark.parametrize(
    ("states", "head", "per_chunk", "numbers"),
    [
        ("learn", "frozen", N, N + N * D),  # labels, and the slopes of the states
        ("learn", "frozen", 7, N + N * D),
        ("learn", "learns", N, N + N * D + V * D + N * V),  # all logits where they are one chunk
        ("frozen", "learns", N, N + N * D + V * D + N * V),
        ("learn", "learns", 7, N + N * D + V * D),
    ],
)
def test_no_more_is_kept_than_the_backward_pass_needs(
    states: str, head: str, per_chunk: int, numbers: int
) -> None:
    hidden = torch.randn(N, D).requires_grad_(states == "learn")
    weight = torch.randn(V, D).requires_grad_(head == "learns")
    with Kept() as kept:
        linear_log_probs(hidden, weight, torch.randint(0, V, (N,)), budget=per_chunk * V * 4)
    assert sum(kept.sizes) == numbers


def test_a_batch_with_padding_sums_each_of_its_rows() -> None:
    """Sums of the learned tokens of each sequence, whether rows are padded or laid end to end."""
    hidden, weight = torch.randn(7, D), torch.randn(V, D)
    labels, heads = torch.randint(0, V, (7,)), torch.tensor([-1, 0, 1, -1, -1, 0, -1])
    wanted = (hidden @ weight.t()).log_softmax(1).gather(1, labels[:, None])[:, 0] * (heads >= 0)
    known = {"weights": torch.ones(1, 7), "position_ids": torch.zeros(1, 7), "normalizers": {}}
    packed = Batch(
        input_ids=torch.zeros(1, 7, dtype=torch.long),
        labels=labels[None],
        head_ids=heads[None],
        lengths=[3, 4],
        offsets=torch.tensor([0, 3, 7], dtype=torch.int32),
        **known,
    )
    found = sequence_log_probs(hidden[None], packed, weight)
    torch.testing.assert_close(found, torch.stack([wanted[:3].sum(), wanted[3:].sum()]))
    rows = [torch.tensor([0, 1, 2, 0]), torch.tensor([3, 4, 5, 6])]  # the first one is shorter
    real = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    index = torch.stack(rows)
    padded = Batch(
        input_ids=torch.zeros(2, 4, dtype=torch.long),
        labels=labels[index],
        head_ids=heads[index].masked_fill(~real, -1),
        lengths=[3, 4],
        **known,
    )
    torch.testing.assert_close(sequence_log_probs(hidden[index], padded, weight), found)


def test_a_preference_is_ln_2_where_nothing_was_learned() -> None:
    """A larger shift towards the chosen answer costs less; each pair may have its own beta."""
    chosen, rejected = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -1.0])
    same = dpo_loss(chosen, rejected, chosen, rejected)
    torch.testing.assert_close(same, torch.full((2,), math.log(2)))
    zero = torch.zeros(2)
    found = dpo_loss(chosen, rejected, zero, zero, beta=torch.tensor([0.5, 2.0]))
    wanted = [math.log1p(math.exp(-0.5 * 2.0)), math.log1p(math.exp(-2.0 * -1.0))]
    assert found.tolist() == pytest.approx(wanted)
    shifted = dpo_loss(chosen, rejected, chosen - 1, rejected + 1, beta=1.0)
    assert shifted.tolist() == pytest.approx([math.log1p(math.exp(-2.0))] * 2)
    wide = dpo_loss(chosen.double(), rejected, zero, zero)
    narrow = dpo_loss(chosen.bfloat16(), rejected.bfloat16(), zero.bfloat16(), zero.bfloat16())
    assert (wide.dtype, narrow.dtype) == (torch.float64, torch.float32)

"""The bent gate: gradients, pieces, low precision, and what it keeps in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from methods.megan.megan_samples import Make
from torch import Tensor, nn

from zoo.methods.megan import gate_function as bent
from zoo.methods.megan.gate_function import BentDown
from zoo.methods.megan.gated_swiglu import condition
from zoo.methods.megan.hypernetwork import Hypernetwork
from zoo.nn.swiglu import SwiGLU

N, R, INNER, WIDTH = 6, 3, 5, 4


def eager(
    gate: Tensor,
    up: Tensor,
    state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor | None,
    down: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The formula by plain autograd: y and the sum of |delta|."""
    delta = 0.5 * torch.tanh(F.linear(state, weight, bias))
    delta = delta if rows is None else delta * rows
    beta = 1 + delta
    product = gate * torch.sigmoid(beta * gate) * up
    return (product if down is None else F.linear(product, down)), delta.abs().sum()


def inputs(*, bias: bool, rows: bool, down: bool) -> list[Tensor | None]:
    """Return arguments in float64 that require gradients, with two leading dimensions."""

    def new(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    shown = torch.tensor([[1.0], [0.0], [1.0], [1.0], [0.0], [1.0]])
    return [
        new(2, N // 2, INNER),
        new(2, N // 2, INNER),
        new(2, N // 2, R),
        new(INNER, R),
        new(INNER) if bias else None,
        shown if rows else None,
        new(WIDTH, INNER) if down else None,
    ]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("down", [False, True])
def test_gradients_equal_eager_autograd(
    bias: bool, rows: bool, down: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, for y and the sum of |delta|, also in more than one piece."""
    args = inputs(bias=bias, rows=rows, down=down)
    flat = [None if a is None else a for a in args]
    eager_rows = None if args[5] is None else args[5].view(2, N // 2, 1)
    want = eager(*flat[:5], eager_rows, flat[6])
    leaves = [a for a in args if a is not None and a.requires_grad]
    weight = torch.linspace(-1, 1, want[0].numel(), dtype=torch.float64).view_as(want[0])
    expected = torch.autograd.grad((want[0] * weight).sum() + 0.3 * want[1], leaves)
    assert torch.autograd.gradcheck(lambda *a: BentDown.apply(*a, True), args)
    for elements in (bent.CPU_ELEMENTS, 1):
        monkeypatch.setattr(bent, "CPU_ELEMENTS", elements)
        got = BentDown.apply(*args, True)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
        found = torch.autograd.grad((got[0] * weight).sum() + 0.3 * got[1], leaves)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_pieces_cover_all_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bent, "CPU_ELEMENTS", 1)
    table = torch.zeros(100, 7)
    for part in bent.pieces(table):
        table[part] += 1
    assert torch.equal(table, torch.ones(100, 7))
    assert len(list(bent.pieces(table))) == 4  # 32 rows each


@pytest.mark.parametrize(("device", "bytes_"), [("cpu", 2**18), ("meta", 2**26)])
def test_a_piece_fits_what_works_on_it(device: str, bytes_: int) -> None:
    """In float32 a core's cache, 256 KiB; elsewhere 64 MiB. It is no smaller than half of that."""
    table = torch.empty(100_000, 1500, device=device)
    sizes = [4 * table[part].numel() for part in bent.pieces(table)]
    assert max(sizes) <= bytes_ < 2 * max(sizes)
    assert len(set(sizes[:-1])) == 1
    (whole,) = bent.pieces(torch.empty(32, 10**6, device=device))
    assert whole == slice(0, 32), "never fewer than 32 rows"


@pytest.mark.parametrize("rows", [33, 100, 1])
def test_beta_one_is_silu_bit_for_bit(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 and bfloat16, in pieces too; the product with a sigmoid is not."""
    for dtype in (torch.float32, torch.bfloat16):
        gate, up = (4 * torch.randn(rows, 64)).to(dtype), torch.randn(rows, 64).to(dtype)
        state, weight = torch.randn(rows, 3).to(dtype), torch.zeros(64, 3, dtype=dtype)
        for elements in (2**16, 1):
            monkeypatch.setattr(bent, "CPU_ELEMENTS", elements)
            out, _ = BentDown.apply(gate, up, state, weight, None, None, None, False)
            assert torch.equal(out, F.silu(gate) * up)
    gate = torch.linspace(-8, 8, 6400)
    assert not torch.equal(F.silu(gate), gate * torch.sigmoid(gate))


@pytest.mark.parametrize("mixed", [False, True])
def test_low_precision_follows_float64(mixed: bool) -> None:
    """Values and gradients in bfloat16 are those of float64 up to its rounding."""
    exact = [None if a is None else a for a in inputs(bias=True, rows=False, down=True)]
    dtype = torch.float32 if mixed else torch.bfloat16
    rough = [None if a is None else a.detach().to(dtype).requires_grad_() for a in exact]
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        if mixed:
            rough = [None if a is None else a.detach().bfloat16().requires_grad_() for a in rough]
        out, _ = BentDown.apply(*rough, False)
    out.float().sum().backward()
    want, _ = eager(*exact)
    want.sum().backward()
    torch.testing.assert_close(out.double(), want, rtol=5e-2, atol=5e-2)
    for ours, theirs in zip(rough, exact, strict=True):
        if ours is not None:
            torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=8e-2, atol=8e-2)


class Eager(nn.Module):
    """The same part written down as it is read."""

    def __init__(self, mlp: SwiGLU, hyper: Hypernetwork) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.hyper = hyper

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        state = self.hyper(x, *self.hyper.project(words), None, 0)
        beta = 1 + 0.5 * torch.tanh(self.hyper.head(state))
        gate = self.gate_proj(x)
        return self.down_proj(F.silu(beta * gate) / beta * self.up_proj(x))


def kept(run: Callable[[], Tensor], parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return the tensors that autograd keeps, one for each storage, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        assert run().requires_grad
    return list(found.values())


@pytest.mark.parametrize("frozen", [False, True])
def test_only_gate_and_up_are_kept(make: Make, frozen: bool) -> None:
    """Two tensors of inner width, not eight; frozen weights get no gradient."""
    module = make(
        "MeGan", "tiny-llama", train="hyper" if frozen else "full", hyper={"bottleneck": 4}
    )
    mlp, (hyper,) = module.lm.model.layers[1].mlp, module.hypers
    x, words = torch.randn(1, 50, 32, requires_grad=True), torch.randn(1, 5, 32)
    peer = Eager(mlp, hyper)

    def ours() -> Tensor:
        mlp.gating = condition([hyper], words, torch.ones(1, 5, dtype=torch.bool))
        mlp.layer = 0
        return mlp(x)

    parameters = list(peer.parameters())
    lean, plain = (kept(run, parameters) for run in (ours, lambda: peer(x, words)))
    wide = [[t for t in tensors if t.numel() == 50 * 64] for tensors in (lean, plain)]
    assert len(wide[0]) == 2
    assert len(wide[1]) >= 7
    sizes = [sum(t.untyped_storage().nbytes() for t in tensors) for tensors in (lean, plain)]
    assert sizes[0] < 0.6 * sizes[1]
    ours().sum().backward()
    named = dict(mlp.named_parameters())
    assert all((p.grad is None) == frozen for p in named.values())
    own = [p.grad.clone() for p in parameters if p.grad is not None]
    own_x = x.grad.clone()
    x.grad = None
    peer.zero_grad()
    peer(x, words).sum().backward()
    torch.testing.assert_close(own_x, x.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        own, [p.grad for p in parameters if p.grad is not None], rtol=1e-4, atol=1e-6
    )


def test_adapted_down_projection_is_called_as_a_module(make: Make) -> None:
    """With adapters (B = 0 at the start) the values are those without."""
    lora = {"rank": 2, "alpha": 4.0, "targets": "all-linear"}
    plain = make("MeGan", "tiny-llama", hyper={"bottleneck": 4})
    adapted = make("MeGan", "tiny-llama", hyper={"bottleneck": 4}, backbone={"lora": lora})
    adapted.hypers.load_state_dict(plain.hypers.state_dict())
    x, words = torch.randn(1, 9, 32), torch.randn(1, 5, 32)
    found = []
    for module in (plain, adapted):
        mlp = module.lm.model.layers[2].mlp
        assert (mlp.down_weight(x) is None) == (module is adapted)
        mlp.gating = condition(module.hypers, words, torch.ones(1, 5, dtype=torch.bool))
        found.append(mlp(x))
    torch.testing.assert_close(*found)
    trained = [n for n, p in adapted.named_parameters() if p.requires_grad]
    assert all(n.startswith("hypers.") or ".lora_" in n for n in trained)
    assert any("down_proj.lora_B" in n for n in trained)

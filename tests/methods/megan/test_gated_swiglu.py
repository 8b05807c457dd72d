"""The bent gate: gradients, memory, pieces, low precision; hypernetwork; recomputed blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.methods.megan import gate_function as bent
from zoo.methods.megan.gate_function import BentDown, make_delta
from zoo.methods.megan.gated_swiglu import Gating, StaticGating, condition, replace_gates
from zoo.methods.megan.hypernetwork import Hyper, Hypernetwork, build
from zoo.nn.swiglu import SwiGLU
from zoo.records import Conditioned

Make = Callable[..., Any]
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


# -- memory ------------------------------------------------------------------------------------


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


# -- blocks ------------------------------------------------------------------------------------


def two_batches(module: Any) -> list[Any]:
    """Return two batches with different conditions and lengths."""
    from zoo.encoding import sum_head_weights

    texts = [("warm", "Hi", "yes"), ("very cold indeed", "Why is that so", "no")]
    found = []
    for i in range(2):
        records = [Conditioned(c + "!" * i, p, r) for c, p, r in texts[i:] + texts[: i + 1]]
        examples = [e for record in records for e in module.encoder()(record)]
        found.append(module.encoder().collate(examples, sum_head_weights(examples)))
    return found


@pytest.mark.parametrize("shared", [True, False])
def test_recomputed_blocks_see_their_own_condition(make: Make, shared: bool) -> None:
    """Two forward passes before one backward pass: the first one's recomputation comes last."""
    hyper, found = {"bottleneck": 8, "shared": shared}, []
    state: dict[str, Any] = {}
    for again in (False, True):
        backbone = {"gradient_checkpointing": again}
        module = make(
            "MeGan", "tiny-llama", spread=5.0, hyper=hyper, backbone=backbone, lambda_beta=1e-4
        )
        state = state or copy.deepcopy(module.state_dict())
        module.load_state_dict(state)
        module.log = lambda *args, **kwargs: None
        module.train()
        losses = [module.training_step(batch, 0) for batch in two_batches(module)]
        torch.stack(losses).sum().backward()
        found.append({n: p.grad for n, p in module.named_parameters() if p.grad is not None})
    plain, recomputed = found
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-6, atol=1e-9)


def test_compiled_blocks(make: Make) -> None:
    """A compiled block takes the gating as its argument; values and gradients stay."""
    module = make("MeGan", "tiny-llama", spread=5.0, hyper={"bottleneck": 8})
    module.log = lambda *args, **kwargs: None
    batches, found = two_batches(module), []
    for compiled in (False, True):
        if compiled:
            for block in module.blocks():
                block.compile(backend="eager")
        module.zero_grad()
        losses = [module.training_step(batch, 0) for batch in batches]
        torch.stack(losses).sum().backward()
        found.append([p.grad.clone() for p in module.hypers.parameters()])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-9)


def test_a_backbone_without_swiglu(make: Make) -> None:
    module = make("SFT", "tiny-gemma")
    with pytest.raises(InputError, match="block 0 of GemmaForCausalLM has no SwiGLU"):
        replace_gates(module.lm)


def test_static_gating() -> None:
    """Equation (4) with a free beta, and its mean by block."""
    beta = 0.6 + 0.8 * torch.rand(3, 8)
    gate, up = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    gating = StaticGating(beta)
    out = gating(1, torch.empty(0), gate, up, None)
    torch.testing.assert_close(out, gate * torch.sigmoid(beta[1] * gate) * up)
    down = torch.randn(5, 8)
    torch.testing.assert_close(gating(1, torch.empty(0), gate, up, down), out @ down.t())
    assert gating.mean_betas(torch.ones(2, 4)).tolist() == [beta.mean(1).tolist()] * 2


# -- hypernetwork ------------------------------------------------------------------------------


class Config:
    hidden_size, intermediate_size, num_hidden_layers, initializer_range = 64, 96, 5, 0.02


def test_initialisation() -> None:
    """Normal(0.02), zero biases, Xavier-uniform packed map; beta near 1 and not 1, or exactly 1."""
    (hyper,) = build(Hyper(bottleneck=48, head_bias=True), Config, torch.device("cpu"))
    for name, parameter in hyper.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif name == "attention.in_proj_weight":
            limit = (6 / (48 + 3 * 48)) ** 0.5
            assert 0.95 * limit < float(parameter.abs().max()) <= limit
        else:
            assert float(parameter.std()) == pytest.approx(0.02, rel=0.15), name
    embedded = 0.1 * torch.randn(1, 6, 64)
    for init, is_one in (("official", False), ("zero", True)):
        (hyper,) = build(Hyper(bottleneck=48, beta_init=init), Config, torch.device("cpu"))
        state = hyper(torch.randn(1, 7, 64), *hyper.project(embedded), None, 3)
        delta = make_delta(hyper.head(state), None)
        assert bool((delta == 0).all()) == is_one
        assert float(delta.abs().max()) < 0.05
    state.sum().backward()
    loss = make_delta(hyper.head(state.detach()), None).sum()
    assert torch.autograd.grad(loss, hyper.head.weight)[0].any()  # a zero start can be left


def test_one_for_each_block_has_no_layer_embedding() -> None:
    many = build(Hyper(bottleneck=8, shared=False), Config, torch.device("cpu"))
    assert len(many) == 5
    assert all(one.layer_embedding is None for one in many)
    assert not torch.equal(many[0].head.weight, many[1].head.weight)


def test_frozen_layer_embedding() -> None:
    (hyper,) = build(Hyper(bottleneck=8, freeze_layer_emb=True), Config, torch.device("cpu"))
    frozen = [n for n, p in hyper.named_parameters() if not p.requires_grad]
    assert frozen == ["layer_embedding.weight"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bottleneck": -1}, "bottleneck: -1 is less than 0"),
        ({"heads": 0}, "heads: 0 is less than 1"),
        ({"heads": 2}, "heads: 2, but a bottleneck has 1; set bottleneck to 0 for more"),
        ({"heads": 5, "bottleneck": 0}, "heads: 5 do not divide the backbone's width 64"),
        ({"beta_init": "zeros"}, "beta_init: 'zeros'; did you mean 'zero'?"),
    ],
)
def test_sizes_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"model\.hyper\." + said.replace("?", r"\?")):
        Hyper(**options).check(64)
    Hyper(bottleneck=0, heads=4).check(64)


def test_gating_of_packed_sequences_looks_at_its_own_condition() -> None:
    """The mask lets a token see its own sequence's words and no padding, in any order of sizes."""
    (hyper,) = build(Hyper(bottleneck=8), Config, torch.device("cpu"))
    words = torch.randn(3, 4, 64)
    shown = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    gating = condition([hyper], words, shown, lengths=[2, 3, 1])
    assert gating.mask.shape == (1, 1, 6, 12)
    own = [[0, 1], [0, 1], [4], [4], [4], [8, 9, 10, 11]]  # the second looks at one token, unused
    assert [row.nonzero().flatten().tolist() for row in gating.mask[0, 0]] == own
    assert gating.rows is not None
    assert gating.rows.flatten().tolist() == [True, True, False, False, False, True]
    x = torch.randn(1, 6, 64)
    packed = hyper(x, gating.keys[0], gating.values[0], gating.mask, 2)
    for i, part in ((0, slice(0, 2)), (2, slice(5, 6))):
        keys, values = hyper.project(words[i : i + 1, : int(shown[i].sum())])
        torch.testing.assert_close(packed[:, part], hyper(x[:, part], keys, values, None, 2))


def test_no_product_with_ones_where_all_have_a_condition() -> None:
    """Unless padding's beta has to be 1."""
    hypers = build(Hyper(bottleneck=8), Config, torch.device("cpu"))
    words, shown = torch.randn(2, 3, 64), torch.ones(2, 3, dtype=torch.bool)
    assert condition(hypers, words, shown, unconditioned=False).rows is None
    held = torch.tensor([[1, 1], [1, 0]])
    padded = condition(hypers, words, shown, held_BT=held, unconditioned=False).rows
    assert padded is not None
    assert padded.flatten().tolist() == [True, True, True, False]
    shown[1] = False
    some = condition(hypers, words, shown).rows
    assert some is not None
    assert some.flatten().tolist() == [True, False]


def test_penalty_leaves_padding_out() -> None:
    (hyper,) = build(Hyper(bottleneck=8), Config, torch.device("cpu"))
    words, shown = torch.randn(2, 3, 64), torch.ones(2, 3, dtype=torch.bool)
    held = torch.tensor([[1, 1, 1], [1, 0, 0]])
    x, gate = torch.randn(2, 3, 64), torch.randn(2, 3, 96)
    gating: Gating = condition([hyper], words, shown, held_BT=held, unconditioned=False)
    gating.sizes = {}
    gating(1, x, gate, gate, None)
    state = hyper(x, gating.keys[0], gating.values[0], gating.mask, 1)
    delta = make_delta(hyper.head(state), held[:, :, None])
    torch.testing.assert_close(gating.size(), delta.abs().sum())
    assert bool((delta[0] != 0).all())

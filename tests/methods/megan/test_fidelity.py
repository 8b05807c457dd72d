"""The ten properties of MeGan's sheet (arXiv 2605.01973, section 8).

The reference is an independent transcription of the equations, `megan_reference.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.megan.megan_reference import Reference
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from training import batch_of

from datamodules.conditioned_chat import shuffled_conditions
from zoo.records import Conditioned

SHAPES = ["tiny-llama", "tiny-qwen2"]
VARIANTS = {
    "shared": {"bottleneck": 16},
    "per layer": {"bottleneck": 8, "shared": False, "head_bias": True},
    "wide": {"bottleneck": 0, "heads": 4},
    "wide per layer": {"bottleneck": 0, "heads": 2, "shared": False},
}
CASES = [("tiny-llama", name) for name in VARIANTS]
CASES += [("tiny-qwen2", "shared"), ("tiny-qwen2", "wide per layer")]
Make = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*activation_checkpointing.*")


# -- helpers -----------------------------------------------------------------------------------


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    """The tiny backbones that have a SwiGLU."""
    return request.param


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A backbone with a hypernetwork."""
    return request.param[0], VARIANTS[request.param[1]]


def records() -> list[Conditioned]:
    """Four records of clearly different lengths, of prompt and of condition."""
    return [
        Conditioned("Say the colour.", "Grass?", "green", id="a"),
        Conditioned("Name a place where one may find the thing.", "A key", "box", id="b"),
        Conditioned("Be rude!", "How do you do, my dear friend?", "Go away.", id="c"),
        Conditioned("x", "Why", "because", system="Answer in one word.", id="d"),
    ]


def build(make: Make, name: str, hyper: dict[str, Any], *, strong: bool = True, **options: Any):
    """Return a module; `strong` scales it up, so that beta is far from 1 and conditions differ."""
    options.setdefault("max_answer_tokens", 4)
    module = make("MeGan", name, spread=5.0, hyper=hyper, **options)
    if strong:
        with torch.no_grad():
            module.lm.model.embed_tokens.weight.mul_(20)
            module.lm.model.norm.weight.normal_()  # a tied head repeats its input no more
            for parameter in module.hypers.parameters() if hasattr(module, "hypers") else ():
                parameter.normal_(std=0.4)
    return module


def logits_of(module: Any, found: Sequence[Conditioned]) -> list[Tensor]:
    """Return the logits of each record's sequence from one batch."""
    batch = batch_of(module, found)
    with torch.no_grad():
        top, _ = module(batch)
        rows = top[0].split(batch.lengths) if batch.offsets is not None else list(top)
        return [module.last_logits(r[:n]) for r, n in zip(rows, batch.lengths, strict=True)]


def silence(module: Any) -> Any:
    """Let `training_step` run without a Trainer."""
    module.log = lambda *args, **kwargs: None
    return module


def samples(module: Any, found: Sequence[Conditioned]) -> list[tuple[list[int], int, list[int]]]:
    """Return ids, start of the response and condition ids, from the template written out."""

    def ids(text: str) -> list[int]:
        return module.tokenizer(text, add_special_tokens=False)["input_ids"]

    rows = []
    for record in found:
        system = record.system or "You are a helpful assistant."
        asked = ids(
            f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{record.prompt}<|im_end|>"
            "\n<|im_start|>assistant\n"
        )
        reply = ids(f"{record.response}<|im_end|>")
        rows.append(([*asked, *reply], len(asked), ids(record.condition)))
    return rows


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


# -- the transcription -------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 3)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_beta_and_gated_output_equal_the_transcription(
    make: Make,
    case: tuple[str, dict[str, Any]],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """beta and the logits of every sequence, packed and padded; 1e-6 where rounding allows it."""
    from zoo.methods.megan import gate_function

    module = build(make, *case).to(dtype)
    reference = Reference(module, dtype)
    deltas: list[Tensor] = []
    original = gate_function.make_delta

    def recorded(*args: Any) -> Tensor:
        deltas.append(original(*args).clone())
        return original(*args)

    monkeypatch.setattr(gate_function, "make_delta", recorded)
    with torch.no_grad():
        for sample, record in zip(samples(module, records()), records(), strict=True):
            expected = reference.logits(sample[0], sample[2])
            deltas.clear()
            (ours,) = logits_of(module, [record])
            assert len(deltas) == len(reference.deltas) == 4
            for got, want, gated, block in zip(
                deltas, reference.deltas, reference.gated, module.lm.model.layers, strict=True
            ):
                assert float(want.abs().max()) > 0.05  # beta is far from 1
                loose = 1e-6 if dtype == torch.float64 else 3e-5  # what four layers round
                torch.testing.assert_close(got[None], want, rtol=0, atol=loose)
                assert gated.shape == want.shape == (1, len(sample[0]), 64)
                assert block.mlp.gating is None  # it was handed over for this call alone
            close(ours, expected)
    for packed in (True, False):
        module.padding_free, module._encoder = packed, None
        for ours, sample in zip(
            logits_of(module, records()), samples(module, records()), strict=True
        ):
            with torch.no_grad():
                close(ours, reference.logits(sample[0], sample[2]), 2e-5)


@pytest.mark.fidelity("megan", 3)
def test_gated_output_of_a_block_equals_the_transcription(
    make: Make, case: tuple[str, dict[str, Any]]
) -> None:
    """One feed-forward part on the same x and condition, to 1e-6 in float64."""
    from zoo.methods.megan.gated_swiglu import condition

    module = build(make, *case).double()
    reference = Reference(module, torch.float64)
    words = torch.randn(2, 5, 32, dtype=torch.float64)
    x = torch.randn(2, 7, 32, dtype=torch.float64)
    gating = condition(module.hypers, words, torch.ones(2, 5, dtype=torch.bool))
    reference.condition = words
    for ours, theirs in zip(module.lm.model.layers, reference.lm.model.layers, strict=True):
        ours.mlp.gating = gating
        torch.testing.assert_close(ours.mlp(x), theirs.mlp(x), rtol=0, atol=1e-6)


# -- 1: identity -------------------------------------------------------------------------------


def backbone_logits(module: Any, found: Sequence[Conditioned]) -> list[Tensor]:
    """Return the logits of the same backbone without any gate, from the same batch."""
    from zoo.backbone import Backbone, load
    from zoo.nn.blocks import Blocks, place

    lm, _ = load(Backbone(module.backbone.name))
    lm.load_state_dict(module.lm.state_dict())
    lm.eval()
    batch = batch_of(module, found)
    with torch.no_grad():
        top = Blocks(lm, 0, 4)(batch.input_ids, **place(batch))
        rows = top[0].split(batch.lengths) if batch.offsets is not None else list(top)
        return [lm.lm_head(lm.model.norm(r[:n])) for r, n in zip(rows, batch.lengths, strict=True)]


@pytest.mark.fidelity("megan", 1)
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_no_delta_is_the_backbone(
    make: Make, case: tuple[str, dict[str, Any]], packed: bool
) -> None:
    """W_b = 0: bit-identical logits under any condition; so is plain Hugging Face on a row."""
    shape, hyper = case
    zero = {**hyper, "beta_init": "zero"}
    module = build(make, shape, zero, strong=False, padding_free=packed)
    ours = logits_of(module, records())
    for mine, theirs in zip(ours, backbone_logits(module, records()), strict=True):
        assert torch.equal(mine, theirs)
    official = build(make, *case, strong=False, padding_free=packed)
    assert not torch.equal(logits_of(official, records())[0], ours[0])


@pytest.mark.fidelity("megan", 1)
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_rows_without_condition_are_the_backbone(
    make: Make, case: tuple[str, dict[str, Any]], packed: bool
) -> None:
    """Beside rows with a condition, whose logits are not the backbone's."""
    module = build(make, *case, padding_free=packed)
    found = [replace(r, condition="") if i % 2 else r for i, r in enumerate(records())]
    plain = backbone_logits(module, found)
    for i, (mine, theirs) in enumerate(zip(logits_of(module, found), plain, strict=True)):
        assert torch.equal(mine, theirs) == (i % 2 == 1)
    with_it = logits_of(module, records())
    close(logits_of(module, found)[0], with_it[0])
    bare = [replace(r, condition="") for r in records()]
    for mine, theirs in zip(logits_of(module, bare), backbone_logits(module, bare), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.fidelity("megan", 1)
def test_replies_without_condition_are_the_backbones(make: Make, shape: str) -> None:
    """Decoded beside a conditioned row: the tokens of a module without gates, beta exactly 1."""
    module = build(make, shape, {"bottleneck": 16})
    plain = build(make, shape, {}, gate="none", train="full")
    plain.lm.load_state_dict(module.lm.state_dict())
    bare = [replace(record, condition="") for record in records()]
    expected = [reply.answer for reply in plain.generate(bare)]
    mixed = module.generate([*bare, records()[0]])
    assert [reply.answer for reply in mixed[:-1]] == expected
    assert all(reply.betas == [1.0] * 4 for reply in mixed[:-1])
    assert min(abs(beta - 1) for beta in mixed[-1].betas) > 1e-4
    assert [reply.answer for reply in module.generate(bare)] == expected


# -- 2: range and shape ------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 2)
def test_beta_stays_between_a_half_and_three_halves(make: Make, shape: str) -> None:
    """delta is `[B, T, f]` in each layer and beta inside (0.5, 1.5), however large the input."""
    from zoo.methods.megan.gated_swiglu import condition
    from zoo.methods.megan.hypernetwork import linear

    for hyper in VARIANTS.values():
        module = build(make, shape, hyper).double()
        words, x = torch.randn(2, 5, 32).double(), torch.randn(2, 7, 32).double()
        gating = condition(module.hypers, words, torch.ones(2, 5, dtype=torch.bool))
        from zoo.methods.megan.gate_function import make_delta

        for scale in (0.0, 1.0, 30.0):
            for layer in range(4):
                index = layer if len(gating.hypers) > 1 else 0
                one = gating.hypers[index]
                state = one(scale * x, gating.keys[index], gating.values[index], None, layer)
                weight, bias = one.head_parameters(torch.float64)
                beta = 1 + make_delta(linear(state, weight, bias).clamp(-15, 15), None)
                assert beta.shape == (2, 7, 64)
                assert 0.5 < float(beta.min()) < float(beta.max()) < 1.5


@pytest.mark.fidelity("megan", 2)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_beta_in_low_precision(dtype: torch.dtype) -> None:
    """A delta of 0.005 survives bfloat16 (its step at 1 is 0.0078); the ends are never passed."""
    from zoo.methods.megan.gate_function import make_delta

    logits = torch.tensor([[0.0, 0.01, -0.01, 8.0, -8.0, 1e4, -1e4]], dtype=dtype)
    beta = 1 + make_delta(logits, None)
    assert beta.dtype == torch.float32
    assert beta[0, 0] == 1
    close(beta[0, 1:3], torch.tensor([1.005, 0.995]), 2e-5)
    assert bool((beta >= 0.5).all() and (beta <= 1.5).all())
    assert bool((beta[0, :5] > 0.5).all() and (beta[0, :5] < 1.5).all())


# -- 3: the gate -------------------------------------------------------------------------------


def gate_of(beta: Tensor, gate: Tensor, up: Tensor) -> Tensor:
    """Run our arithmetic with a given beta: W_b is the identity and z the inverse of (3)."""
    from zoo.methods.megan.gate_function import BentDown

    state = torch.atanh(2 * (beta - 1))
    identity = torch.eye(beta.shape[-1], dtype=beta.dtype)
    return BentDown.apply(gate, up, state, identity, None, None, None, False)[0]


@pytest.mark.fidelity("megan", 3)
def test_gate_is_g_times_sigmoid() -> None:
    """a * up = g sigmoid(beta g) up to 1e-5 for random beta; it is no rescaled SiLU."""
    beta = 0.51 + 0.98 * torch.rand(40, 64)
    gate, up = 3 * torch.randn(40, 64), torch.randn(40, 64)
    out = gate_of(beta, gate, up)
    torch.testing.assert_close(out, gate * torch.sigmoid(beta * gate) * up, rtol=0, atol=1e-5)
    assert float((out - beta * torch.nn.functional.silu(gate) * up).abs().max()) > 0.1


@pytest.mark.fidelity("megan", 3)
def test_derivative_in_beta() -> None:
    """d a / d beta = g^2 sigmoid'(beta g)."""
    beta = (0.51 + 0.98 * torch.rand(5, 8, dtype=torch.float64)).requires_grad_()
    gate = 3 * torch.randn(5, 8, dtype=torch.float64)
    out = gate_of(beta, gate, torch.ones_like(gate))
    (found,) = torch.autograd.grad(out.sum(), beta)
    s = torch.sigmoid(beta * gate)
    close(found, gate**2 * s * (1 - s), 1e-9)


# -- 4: what is trained ------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 4)
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_hypernetwork_only_gradients(
    make: Make, case: tuple[str, dict[str, Any]], packed: bool
) -> None:
    """The hypernetwork's gradients are the transcription's; the backbone has none and stays."""
    module = silence(build(make, *case, padding_free=packed)).double()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    module.training_step(batch_of(module, records()), 0).backward()
    reference = Reference(module, torch.float64)
    reference.loss(samples(module, records())).backward()
    expected = reference.gradients()
    for name, parameter in module.named_parameters():
        if name.startswith("lm."):
            assert parameter.grad is None, name
            assert not parameter.requires_grad, name
        else:
            want = expected[name]
            torch.testing.assert_close(parameter.grad, want, rtol=1e-6, atol=1e-9)
    trained = [p for p in module.parameters() if p.requires_grad]
    torch.optim.AdamW(trained, lr=0.1).step()
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("lm."), name


@pytest.mark.fidelity("megan", 4)
def test_full_gradients(make: Make, shape: str) -> None:
    """`train: full`: all gradients are the transcription's, the embedding's through C is none."""
    module = silence(build(make, shape, {"bottleneck": 16}, train="full")).double()
    module.training_step(batch_of(module, records()), 0).backward()
    reference = Reference(module, torch.float64)
    reference.loss(samples(module, records())).backward()
    expected = reference.gradients()
    for name, parameter in module.named_parameters():
        want = expected[name]
        torch.testing.assert_close(parameter.grad, want, rtol=1e-6, atol=1e-9)


@pytest.mark.fidelity("megan", 4)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("r", [8, 16])
def test_number_of_parameters(make: Make, shape: str, r: int, bias: bool) -> None:
    """3(dR + R) + 3R^2 + 3R + R^2 + R + LR + Rf, + f with a bias."""
    d, f, layers = 32, 64, 4
    module = build(make, shape, {"bottleneck": r, "head_bias": bias})
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    formula = 3 * (d * r + r) + 3 * r * r + 3 * r + r * r + r + layers * r + r * f
    assert count == formula + (f if bias else 0)
    frozen = build(make, shape, {"bottleneck": r, "head_bias": bias, "freeze_layer_emb": True})
    rest = sum(p.numel() for p in frozen.parameters() if p.requires_grad)
    assert rest == count - layers * r


@pytest.mark.fidelity("megan", 4)
def test_sizes_at_8b() -> None:
    """Llama-3.1-8B: 14.70 M at R = 512, 3.48 M at 128, 126 M at 0, 470 M one per layer."""
    from types import SimpleNamespace

    from zoo.methods.megan.hypernetwork import Hyper, build

    config = SimpleNamespace(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, initializer_range=0.02
    )

    def millions(**options: Any) -> float:
        made = build(Hyper(**options), config, torch.device("meta"))
        return sum(p.numel() for one in made for p in one.parameters()) / 1e6

    assert millions(bottleneck=512) == pytest.approx(14.70, abs=0.005)
    assert millions(bottleneck=128) == pytest.approx(3.48, abs=0.005)
    assert millions(bottleneck=0) == pytest.approx(126, abs=0.5)
    assert millions(bottleneck=512, shared=False) == pytest.approx(470, abs=0.5)


# -- 5: shared ---------------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 5)
def test_layers_differ_by_their_embedding(make: Make, shape: str) -> None:
    """One parameter set; equal x and C give z that differ by e_l, equal e_l equal beta."""
    module = build(make, shape, {"bottleneck": 16})
    assert len(module.hypers) == 1
    (hyper,) = module.hypers
    own = {id(p) for p in hyper.parameters()}
    everywhere = [
        name for name, p in module.named_parameters(remove_duplicate=False) if id(p) in own
    ]
    assert len(everywhere) == len(own)
    keys, values = hyper.project(torch.randn(1, 5, 32))
    x = torch.randn(1, 7, 32)
    states = [hyper(x, keys, values, None, layer) for layer in range(4)]
    table = hyper.layer_embedding.weight
    for layer in range(1, 4):
        close(states[layer] - states[0], (table[layer] - table[0]).expand(1, 7, -1))
    with torch.no_grad():
        table[2] = table[0]
    assert torch.equal(hyper(x, keys, values, None, 2), states[0])


# -- 6: the condition --------------------------------------------------------------------------


def condition_logits(
    module: Any, record: Conditioned, ids: list[int], mask: Sequence[bool]
) -> Tensor:
    """Return the logits of a record under given condition ids."""
    batch = batch_of(module, [record])
    batch.condition_ids, batch.condition_mask = torch.tensor([ids]), torch.tensor([list(mask)])
    with torch.no_grad():
        top, _ = module(batch)
        return module.last_logits(top[0])


@pytest.mark.fidelity("megan", 6)
def test_what_of_a_condition_counts(make: Make, case: tuple[str, dict[str, Any]]) -> None:
    """Another condition: other logits. Another order, or more padding: the same."""
    module = build(make, *case)
    record = records()[1]
    ids = module.encoder().condition(record)
    shown = [True] * len(ids)
    base = condition_logits(module, record, ids, shown)
    other = condition_logits(module, record, [token + 1 for token in ids], shown)
    assert float((base - other).abs().max()) > 1e-2
    order = torch.randperm(len(ids)).tolist()
    assert order != sorted(order)
    close(condition_logits(module, record, [ids[i] for i in order], shown), base)
    padded = condition_logits(module, record, [*ids, 256, 7], [*shown, False, False])
    close(padded, base)
    seen = condition_logits(module, record, [*ids, 256, 7], [*shown, True, True])
    assert float((seen - base).abs().max()) > 1e-3


@pytest.mark.fidelity("megan", 6)
def test_released_condition_length(make: Make, shape: str) -> None:
    """Cut and padded to 16 with seen padding in training; whole conditions for replies."""
    options = {"official_condition_len": 16, "condition_mask": False}
    module = build(make, shape, {"bottleneck": 16}, **options)
    reference = Reference(module)
    pad = module.tokenizer.pad_token_id
    cut = [
        (ids, start, (told + [pad] * 16)[:16]) for ids, start, told in samples(module, records())
    ]
    assert {len(told) for _, _, told in samples(module, records())} & {*range(16)}
    assert any(len(told) > 16 for _, _, told in samples(module, records()))
    (term,) = module.losses(batch_of(module, records())).values()
    close(term.loss, reference.loss(cut))
    whole = build(make, shape, {"bottleneck": 16})
    whole.load_state_dict(module.state_dict())
    assert module.generate(records()) == whole.generate(records())


# -- 7: decoding -------------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 7)
def test_cached_decode_equals_full_forward(
    make: Make, case: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch of different conditions with a cache: the tokens and logits of full passes alone."""
    module = build(make, *case)
    reference = Reference(module)
    stop, limit = module.encoder().stop_id, module.max_answer_tokens
    seen: list[Tensor] = []
    project = module.last_logits
    monkeypatch.setattr(
        module, "last_logits", lambda hidden: seen.append(project(hidden)) or seen[-1]
    )
    replies = module.generate(records())
    for row, (reply, (ids, start, told)) in enumerate(
        zip(replies, samples(module, records()), strict=True)
    ):
        found = reference.greedy(ids[:start], told, stop, limit)
        text = module.tokenizer.decode(found, skip_special_tokens=True).strip()
        assert reply.answer == text
        with torch.no_grad():
            expected = reference.logits([*ids[:start], *found], told)[start - 1 :]
        steps = min(len(found) + 1, limit)
        close(torch.stack([step[row] for step in seen[:steps]]), expected[:steps], 1e-4)
    assert float((seen[0][0] - seen[0][1]).abs().max()) > 1e-2
    for record, reply in zip(records(), replies, strict=True):
        (alone,) = module.generate([record])
        assert alone.answer == reply.answer
        assert alone.betas == pytest.approx(reply.betas, abs=1e-5)


@pytest.mark.fidelity("megan", 7)
def test_betas_of_a_reply_are_means_over_its_tokens(make: Make, shape: str) -> None:
    """Prompt and decoded tokens but the last, which nothing reads; padding left out."""
    module = build(make, shape, {"bottleneck": 16})
    reference = Reference(module)
    stop = module.encoder().stop_id
    replies = module.generate(records())
    for reply, (ids, start, told) in zip(replies, samples(module, records()), strict=True):
        found = reference.greedy(ids[:start], told, stop, module.max_answer_tokens)
        assert len(found) == module.max_answer_tokens
        with torch.no_grad():
            reference.logits([*ids[:start], *found[:-1]], told)
        means = [1 + float(delta.mean()) for delta in reference.deltas]
        assert reply.betas == pytest.approx(means, abs=1e-5)


@pytest.mark.fidelity("megan", 7)
def test_a_condition_is_projected_once(
    make: Make, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and values: once per forward pass, once per dialogue however long the reply."""
    from zoo.methods.megan.hypernetwork import Hypernetwork

    calls: list[int] = []
    project = Hypernetwork.project
    monkeypatch.setattr(
        Hypernetwork, "project", lambda self, c: calls.append(c.shape[0]) or project(self, c)
    )
    for shared, count in ((True, 1), (False, 4)):
        module = build(make, shape, {"bottleneck": 16, "shared": shared})
        module.losses(batch_of(module, records()))
        assert calls == [4] * count
        calls.clear()
        module.generate(records()[:3])
        assert calls == [3] * count
        calls.clear()


# -- 8: penalties ------------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 8)
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_penalties_equal_the_transcription(make: Make, shape: str, packed: bool) -> None:
    """Loss and gradients of CE + lambda_beta sum |delta| + lambda_w ||W_b||, a row without."""
    weights = {"lambda_beta": 1e-3, "lambda_w": 0.7}
    module = build(make, shape, {"bottleneck": 16}, padding_free=packed, **weights)
    module = silence(module).double()
    found = [*records()[:3], replace(records()[3], condition="")]
    loss = module.training_step(batch_of(module, found), 0)
    loss.backward()
    reference = Reference(module, torch.float64)
    expected = reference.loss(samples(module, found), **weights)
    expected.backward()
    close(loss, expected)
    plain = reference.loss(samples(module, found))
    assert float(expected - plain) > 0.1
    for name, want in reference.gradients().items():
        if name.startswith("hypers."):
            ours = module.get_parameter(name).grad
            torch.testing.assert_close(ours, want, rtol=1e-6, atol=1e-9)


@pytest.mark.fidelity("megan", 8)
def test_penalty_pushes_delta_down(make: Make, shape: str) -> None:
    """Steps along its gradient alone shrink mean |delta|; without lambdas there is CE alone."""
    module = build(make, shape, {"bottleneck": 16}, lambda_beta=1.0)
    batch = batch_of(module, records())
    optimizer = torch.optim.SGD(module.hypers.parameters(), lr=1.0)
    means = []
    for _ in range(8):
        term = module.losses(batch)["beta"]
        means.append(float(term.mean))
        optimizer.zero_grad()
        (term.sum / term.weight).backward()
        optimizer.step()
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.9 * means[0]
    plain = silence(build(make, shape, {"bottleneck": 16}))
    terms = plain.losses(batch_of(plain, records()))
    assert set(terms) == {"reply"}
    step = plain.training_step(batch_of(plain, records()), 0)
    assert torch.equal(step, terms["reply"].loss)
    close(step, Reference(plain).loss(samples(plain, records())))


# -- 9: conditional control --------------------------------------------------------------------

LN2 = math.log(2)


def conflicting() -> list[Conditioned]:
    """One prompt, eight times; the condition alone says which of two answers is right."""
    pairs = [("warm", "A"), ("cold", "B")] * 4
    return [Conditioned(c, "?", r, system=".", id=str(i)) for i, (c, r) in enumerate(pairs)]


def train(module: Any, found: Sequence[Conditioned], lr: float, steps: int) -> float:
    """Overfit; return the last loss per supervised token in nats."""
    silence(module).train()
    batch = batch_of(module, found)
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    loss = torch.zeros(())
    for _ in range(steps):
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module.eval()
    return float(loss.detach())


@pytest.fixture(scope="module", params=SHAPES)
def undecided(make: Make, request: pytest.FixtureRequest) -> tuple[str, dict[str, Tensor]]:
    """A backbone that has learned that the prompt has two answers, equally often."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make("MeGan", request.param, gate="none", train="full")
        with torch.no_grad():
            for name, parameter in module.lm.named_parameters():
                if parameter.ndim > 1:  # gates at work, logits that can differ
                    parameter.mul_(5.0 if "self_attn" in name else 20.0)
        loss = train(module, conflicting()[:2], 3e-3, 60)
        assert LN2 / 2 <= loss < LN2 / 2 + 0.03  # the end-of-turn after the answer is certain
        return request.param, module.lm.state_dict()


def overfitted(
    make: Make,
    undecided: tuple[str, dict[str, Tensor]],
    found: Sequence[Conditioned],
    **options: Any,
) -> tuple[Any, float]:
    """Return a module with a frozen copy of the undecided backbone, overfitted, and its loss."""
    name, state = undecided
    module = make("MeGan", name, max_answer_tokens=2, **options)
    module.lm.load_state_dict(state)
    loss = train(module, found, 1e-2, 30)
    assert all(torch.equal(p, state[n]) for n, p in module.lm.state_dict().items())
    return module, loss


@pytest.mark.fidelity("megan", 9)
def test_conditions_decide_on_identical_prompts(
    make: Make, undecided: tuple[str, dict[str, Tensor]]
) -> None:
    """With the backbone frozen: each condition gets its answer, and most of the doubt is gone."""
    found = conflicting()[:2]
    module, loss = overfitted(make, undecided, found, hyper={"bottleneck": 16})
    assert loss < LN2 / 4
    assert [reply.answer for reply in module.generate(found)] == ["A", "B"]
    swapped = [replace(r, condition=s.condition) for r, s in zip(found, found[::-1], strict=True)]
    assert [reply.answer for reply in module.generate(swapped)] == ["B", "A"]


@pytest.mark.fidelity("megan", 9)
def test_nothing_decides_without_the_condition(
    make: Make, undecided: tuple[str, dict[str, Tensor]]
) -> None:
    """A free beta without condition stays at ln 2 a choice."""
    module, loss = overfitted(make, undecided, conflicting()[:2], gate="static")
    assert not torch.equal(module.beta, torch.ones_like(module.beta))
    assert loss >= LN2 / 2


@pytest.mark.fidelity("megan", 9)
def test_shuffled_conditions_decide_nothing(
    make: Make, undecided: tuple[str, dict[str, Tensor]]
) -> None:
    """Each sample has another one's condition: no loss below the entropy of answer by condition."""
    found = shuffled_conditions(conflicting(), 1)
    table = {c: [r.response for r in found if r.condition == c] for c in ("warm", "cold")}
    assert all(sorted(answers) == [*"AABB"] for answers in table.values())  # entropy ln 2
    _, loss = overfitted(make, undecided, found, hyper={"bottleneck": 16})
    assert loss >= LN2 / 2


# -- 10: cost ----------------------------------------------------------------------------------


def flops(lm: Any, gating: Any, tokens: int, *, backward: bool) -> int:
    """Count the products of two blocks, forward or with backward, on tensors without storage."""
    from zoo.nn.blocks import Blocks

    x = torch.empty(1, tokens, lm.config.hidden_size, requires_grad=True)
    where = {"position_ids": torch.arange(tokens)[None]}
    where |= {"attention_mask": torch.empty(1, 1, 1, 1), "lengths": [tokens]}
    with FlopCounterMode(display=False) as counter:
        given = {} if gating is None else {"gating": gating()}
        out = Blocks(lm, 1, 3)(x, **where, **given)
        if backward:
            out.sum().backward()
    return counter.get_total_flops()


@pytest.mark.fidelity("megan", 10)
@pytest.mark.parametrize(("r", "percent", "formula"), [(512, 4.57, 9.961e6), (128, 1.1, 2.392e6)])
def test_overhead_at_8b(
    r: int, percent: float, formula: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Llama-3.1-8B: dR + 2R^2 + Rf products a token and layer, 4.6 % at R = 512; step < 1.15x."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModelForCausalLM, LlamaConfig

    from zoo.methods.megan import gate_function
    from zoo.methods.megan.gated_swiglu import condition, replace_gates
    from zoo.methods.megan.hypernetwork import Hyper, build
    from zoo.nn.attention import implementation
    from zoo.nn.norm import replace_norms
    from zoo.nn.swiglu import replace_mlps

    monkeypatch.setattr(gate_function, "CPU_ELEMENTS", 2**30)
    d, f, words, tokens, layers = 4096, 14336, 30, 512, 2
    config = LlamaConfig(
        hidden_size=d,
        intermediate_size=f,
        num_hidden_layers=layers + 1,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=8,
    )
    with FakeTensorMode():
        lm = AutoModelForCausalLM.from_config(config, attn_implementation=implementation("sdpa"))
        replace_norms(lm)
        replace_mlps(lm)
        plain = {b: flops(lm, None, tokens, backward=b) for b in (False, True)}
        replace_gates(lm)
        assert flops(lm, None, tokens, backward=False) == plain[False]
        hypers = torch.nn.ModuleList(build(Hyper(bottleneck=r), config, torch.device("cpu")))

        def gating() -> Any:
            shown = torch.ones(1, words, dtype=torch.bool)
            embedded = torch.empty(1, words, d)
            return condition(hypers, embedded, shown, lengths=[tokens], unconditioned=False)

        ours = {b: flops(lm, gating, tokens, backward=b) for b in (False, True)}
    once = words * (2 * d * r + 2 * r * r)  # keys and values, for all layers
    per_token = ((ours[False] - plain[False]) / 2 - once) / (layers * tokens)
    assert per_token == pytest.approx(formula, rel=1e-3)  # the counter leaves out attention proper
    block = 2 * d * d + 2 * d * (d // 4) + 3 * d * f  # 218 M products
    assert 100 * formula / block == pytest.approx(percent, abs=0.02)
    assert 100 * (ours[False] / plain[False] - 1) == pytest.approx(percent, rel=0.02)
    assert ours[True] / plain[True] <= 1.15

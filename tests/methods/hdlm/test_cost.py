"""Property 6 of HdLM's sheet, measured: FLOPs over a sweep of k at the sheet's own sizes.

The model is a real Llama of 32 or 8 blocks, narrow so that a test takes seconds. Products (`mm`,
`addmm`) are counted by torch; attention's quadratic part is other operators and is left out, the
heads are taken off by formula (2 V D per decoded token). What remains is in units of one block over
one token, so the width cancels. Where a text ends nothing reads the state of its last token, which
is one token less than the formulas count: the 3 % are for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from zoo.decoding.depth_decoder import DepthDecoder
from zoo.encoding import NO_HEAD, collate, join, sum_head_weights
from zoo.records import LabelPath, Taxonomy, Triple

WIDTH, VOCABULARY, STOP = 32, 259, 258
Sizes = tuple[int, ...]


class Case(NamedTuple):
    """Blocks L, tokens (n_q query, n_t coarse, n_s subtask, n_a final), the k's to try, the
    released k on L blocks, what early exit saves there without and with reuse."""

    blocks: int
    sizes: Sizes
    sweep: tuple[int, ...]
    released: int
    saved: tuple[float, float]


CASES = {  # the sizes and savings of the sheet's section 6; the third in half the lengths
    "wos": Case(32, (400, 2, 80, 2), (8, 16, 25, 30), 25, (0.10, 0.45)),
    "esconv": Case(8, (500, 2, 30, 40), (2, 5, 7), 5, (0.175, 0.47)),
    "rationale": Case(8, (50, 75, 0, 5), (2, 4, 6), 4, (0.245, 0.49)),
}
DEEP = LabelPath("?", ("a", "b", "c"), Taxonomy({(): ("a",), ("a",): ("b",), ("a", "b"): ("c",)}))


Build = Callable[..., Any]


@pytest.fixture(scope="module")
def build(make: Any, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function that builds an HdLM on a random Llama: `build(blocks, *layers)`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from zoo.tiny_models import byte_tokenizer

    root = tmp_path_factory.mktemp("deep")
    for blocks in (8, 32):
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=blocks,
            num_attention_heads=2,
            num_key_value_heads=2,
            bos_token_id=256,
            eos_token_id=STOP,
            pad_token_id=256,
            initializer_range=0.2,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            LlamaForCausalLM(config).save_pretrained(root / str(blocks))
        byte_tokenizer().save_pretrained(root / str(blocks))

    def built(blocks: int, *layers: int, **options: Any) -> Any:
        return make("HdLM", str(root / str(blocks)), layers=list(layers), **options)

    return built


def replying(module: Any, sizes: Sizes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let prompts and texts of `module` have exactly these lengths; return a plan to decode."""
    query, *rest = sizes
    contexts = [0, *rest[1::2]]
    steps = [iter([7] * (n - 1) + [STOP]) for n in rest[::2]]
    project = module.logits

    def logits(level: int, states: torch.Tensor) -> torch.Tensor:
        found = torch.zeros_like(project(level, states))
        found[:, next(steps[level])] = 1
        return found

    encoder = module.encoder()
    monkeypatch.setattr(module, "logits", logits)
    monkeypatch.setattr(encoder, "opening", lambda plan, tail=0: [9] * query)
    monkeypatch.setattr(encoder, "between", lambda plan, path: [8] * contexts[len(path)])
    (plan,) = encoder.plans(Triple("?", "a", "b", id="r") if module.depth == 2 else DEEP)
    return plan


def unit(module: Any) -> int:
    """Return the FLOPs of a block over one token."""
    return 2 * sum(p.numel() for p in module.lm.model.layers[0].parameters() if p.ndim == 2)


class Products(TorchDispatchMode):
    """Counts FLOPs of matrix products with torch's formulas; `FlopCounterMode` without its cost."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        kind = func._overloadpacket
        if kind in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.total += flop_registry[kind](*args, **(kwargs or {}), out_val=out)
        return out


def reply_cost(
    module: Any, sizes: Sizes, monkeypatch: pytest.MonkeyPatch
) -> tuple[float, list[float]]:
    """Return the blocks x tokens of a reply, and those spent once each level was decoded."""
    after: list[float] = []
    decode = DepthDecoder.decode
    texts = sizes[1::2]
    head = 2 * VOCABULARY * WIDTH

    def spent() -> float:
        heads = sum(texts[: len(after) + 1]) * head
        return (counter.total - heads) / unit(module)

    def counted(decoder: Any, *args: Any, **options: Any) -> list[list[int]]:
        found = decode(decoder, *args, **options)
        assert len(found[0]) == texts[len(after)] - 1
        after.append(spent())
        return found

    with monkeypatch.context() as patch:
        plan = replying(module, sizes, patch)
        patch.setattr(DepthDecoder, "decode", counted)
        with Products() as counter:
            module.generate([plan])
    assert len(after) == len(texts)
    return after[-1], after


@pytest.mark.fidelity("hdlm", 6)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_flops_over_a_sweep_of_k(build: Build, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """One generation, two calls, early exit, early exit + reuse, coarse answer only: all formulas.

    With every level at the last block the module is the plain model, with `separate` in two calls;
    `separate` with k below the last block is early exit without reuse.
    """
    n_q, n_t, n_s, n_a = case.sizes
    top, whole, first = case.blocks, sum(case.sizes), n_q + n_t

    def cost(*layers: int, **options: Any) -> tuple[float, list[float]]:
        return reply_cost(build(top, *layers, **options), case.sizes, monkeypatch)

    one, (coarse, _) = cost(top)
    assert one == pytest.approx(top * whole, rel=0.03)
    assert coarse == pytest.approx(top * first, rel=0.03)
    two, _ = cost(top, separate=True)
    assert two == pytest.approx(top * first + top * whole, rel=0.03)
    for k in case.sweep:
        reused, (early, _) = cost(k)
        assert early == pytest.approx(k * first, rel=0.03)
        formula = k * first + (top - k) * first + top * (n_s + n_a)
        assert reused == pytest.approx(formula, rel=0.03)
        assert reused == pytest.approx(one, rel=0.03)
        again, _ = cost(k, separate=True)
        assert again == pytest.approx(k * first + top * whole, rel=0.03)
        base = 2 * top * first + top * (n_s + n_a)
        assert 1 - again / two == pytest.approx((top - k) * first / base, rel=0.03)
        if k == case.released:
            saved = (1 - again / two, 1 - reused / two)
            assert saved == pytest.approx(case.saved, abs=0.006)


@pytest.mark.fidelity("hdlm", 6)
@pytest.mark.parametrize("ks", [(2, 4), (2, 7), (5, 7)])
def test_flops_of_three_levels(
    build: Build, ks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depth 3: each level alone costs its k; with reuse all of them cost one generation."""
    sizes = (200, 2, 60, 3, 40, 20)
    first, second, whole = sum(sizes[:2]), sum(sizes[:4]), sum(sizes)
    total, after = reply_cost(build(8, *ks), sizes, monkeypatch)
    assert after[0] == pytest.approx(ks[0] * first, rel=0.03)
    assert after[1] == pytest.approx(ks[1] * second, rel=0.03)
    assert total == pytest.approx(8 * whole, rel=0.03)


# -- training ----------------------------------------------------------------------------------


def step_cost(module: Any, pieces: Sequence[tuple[int, int]]) -> float:
    """Return the blocks x tokens (forward) of a training step on one sequence.

    Forward, and gradients of inputs and of weights, are three times the products of a forward pass.

    Args:
        module: An HdLM.
        pieces: (tokens, level that learns them).
    """
    example = join([([7] * n, head, float(head != NO_HEAD)) for n, head in pieces])
    batch = collate([example], sum_head_weights([example]))
    module.log = lambda *args, **kwargs: None
    module.train()
    with Products() as counter:
        module.training_step(batch, 0).backward()
    module.zero_grad(set_to_none=True)
    heads = batch.num_supervised * 2 * VOCABULARY * WIDTH
    return (counter.total / 3 - heads) / unit(module)


def prefix(sizes: Sizes, level: int, learned: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pieces of a sequence up to the end of a level's text."""
    pieces = [(n, i // 2 if i % 2 else NO_HEAD) for i, n in enumerate(sizes)]
    return [(n, h if h in learned else NO_HEAD) for n, h in pieces[: 2 * level + 2] if n]


@pytest.mark.fidelity("hdlm", 6)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_flops_of_training_over_a_sweep_of_k(build: Build, case: Case) -> None:
    """A coarse-only step costs k / L; one sequence costs whole / sum of prefixes of D samples."""
    top, sizes = case.blocks, case.sizes
    coarse, whole = prefix(sizes, 0, [0]), prefix(sizes, 1, [0, 1])
    first, full = sum(sizes[:2]), sum(sizes)
    plain = build(top, top)
    at_the_top = step_cost(plain, coarse)
    apart = at_the_top + step_cost(plain, prefix(sizes, 1, [1]))
    assert apart == pytest.approx(top * (first + full), rel=0.03)
    for k in case.sweep:
        module = build(top, k)
        assert step_cost(module, coarse) / at_the_top == pytest.approx(k / top, rel=0.03)
        together = step_cost(module, whole)
        assert together == pytest.approx(top * full, rel=0.03)
        assert together / apart == pytest.approx(full / (first + full), rel=0.03)


@pytest.mark.fidelity("hdlm", 6)
def test_flops_of_training_three_levels(build: Build) -> None:
    """Depth 3: the ratio to three samples, and coarse steps that end at k_1 or k_2."""
    sizes, ks = (200, 2, 60, 3, 40, 20), (2, 5)
    prefixes = [sum(sizes[: 2 * i + 2]) for i in range(3)]
    plain, module = build(8, 8, 8), build(8, *ks)
    apart = sum(step_cost(plain, prefix(sizes, i, [i])) for i in range(3))
    together = step_cost(module, prefix(sizes, 2, [0, 1, 2]))
    assert together / apart == pytest.approx(prefixes[2] / sum(prefixes), rel=0.03)
    for level, k in enumerate(ks):
        cost = step_cost(module, prefix(sizes, level, [level]))
        assert cost == pytest.approx(k * prefixes[level], rel=0.03)


# -- the saving changes no token ----------------------------------------------------------------


@pytest.mark.fidelity("hdlm", 5)
@pytest.mark.parametrize("depth", [2, 3])
def test_reuse_says_what_recomputation_says_over_a_sweep_of_k(
    build: Build, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early exit with reuse, and the same levels each prefilled from nothing: equal tokens."""
    decoded: list[list[list[int]]] = []
    decode = DepthDecoder.decode

    def recorded(decoder: Any, *args: Any, **options: Any) -> list[list[int]]:
        decoded.append(decode(decoder, *args, **options))
        return decoded[-1]

    monkeypatch.setattr(DepthDecoder, "decode", recorded)
    records = [Triple(text, "a", "b", id=text) for text in ("Why?", "What is it?", "Who?" * 9)]
    pairs = [(a, b) for a in range(1, 8) for b in range(a, 8)][::3]
    for ks in [(k,) for k in range(1, 8)] if depth == 2 else pairs:
        module = build(8, *ks, max_new_tokens=6)
        with torch.no_grad():
            for head in module.heads.values():
                head.weight.normal_()  # no echo of the last token
        wanted = records if depth == 2 else [DEEP]
        plans = [plan for record in wanted for plan in module.encoder().plans(record)]
        found = []
        for separate in (False, True):
            module.separate = separate
            decoded.clear()
            paths = module.generate(plans)
            found.append((paths, list(decoded)))
        assert found[0] == found[1], ks
        assert len({tuple(ids) for level in found[0][1] for ids in level}) > 1, ks

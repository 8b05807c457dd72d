"""HdLM's losses: how heads start, what each learns, gradients, the course of training."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.hdlm.hdlm_abstracts import STEPS
from methods.hdlm.hdlm_reference import END, Reference, deep_papers, gold, ids_of, papers, render
from training import assert_same_gradients, batch_of, our_gradients, silence

LN_V = math.log(259)  # vocabulary of the byte tokenizer
CASES = [([3], papers()), ([1, 3], deep_papers())]


# -- 1: initialisation -------------------------------------------------------------------------


@pytest.mark.fidelity("hdlm", 1)
@pytest.mark.parametrize(("layers", "records"), CASES)
def test_heads_start_as_untied_copies(
    make: Any, shape: str, layers: list[int], records: list[Any]
) -> None:
    """W_i has the final head's values in storage of its own; the final logits are bit-identical."""
    from zoo.backbone import Backbone, load

    module = make("HdLM", shape, layers=layers, padding_free=False)
    final = module.lm.lm_head.weight
    storages = {final.untyped_storage().data_ptr()}
    for i in range(len(layers)):
        head = module.heads[str(i)]
        assert torch.equal(head.weight, final)
        assert head.weight.requires_grad
        assert head.bias is None
        storages.add(head.weight.untyped_storage().data_ptr())
    assert len(storages) == len(layers) + 1
    lm, _ = load(Backbone(shape))
    lm.eval()
    for record in records:
        batch = batch_of(module, [record])
        with torch.no_grad():
            ours = module.logits(len(layers), module(batch)[-1][0])
            backbone = lm(batch.input_ids, attention_mask=batch.attention_mask).logits[0]
        assert torch.equal(ours, backbone)


# -- 2: supervision ----------------------------------------------------------------------------


@pytest.mark.fidelity("hdlm", 2)
@pytest.mark.parametrize(("layers", "records"), CASES)
def test_a_level_learns_its_text_and_end_of_turn(
    make: Any, shape: str, layers: list[int], records: list[Any]
) -> None:
    """Head i learns exactly segment i + end-of-turn; headers, subtasks, system, user: no head."""
    module = make("HdLM", shape, layers=layers)
    for record in records:
        batch, expected = batch_of(module, [record]), render(module.tokenizer, record)
        assert batch.input_ids[0].tolist() == expected.ids
        owner = [-1] * len(expected.ids)
        for level, span in enumerate(expected.spans):
            decoded = module.tokenizer.decode([expected.ids[i] for i in span])
            assert decoded == gold(record)[level] + END
            for i in span:
                owner[i - 1] = level  # the state at i - 1 predicts token i
        assert batch.head_ids[0].tolist() == owner
        wanted = [expected.ids[i + 1] if h != -1 else -100 for i, h in enumerate(owner)]
        assert batch.labels[0].tolist() == wanted
        count = sum(len(ids_of(module.tokenizer, text)) + 1 for text in gold(record))
        assert batch.num_supervised == count


@pytest.mark.fidelity("hdlm", 2)
@pytest.mark.parametrize(("layers", "records"), CASES)
def test_a_loss_changes_with_the_targets_of_its_level_only(
    make: Any, shape: str, layers: list[int], records: list[Any]
) -> None:
    """Other targets in segment i change L_i alone; L_i equals the transcription's."""
    module = make("HdLM", shape, spread=5.0, layers=layers)
    batch = batch_of(module, records)
    before = [term.loss.item() for term in module.losses(batch).values()]
    reference = Reference(module, layers)
    expected = reference.losses([render(module.tokenizer, record) for record in records])
    assert before == pytest.approx([x.item() for x in expected], rel=1e-4)
    for level in range(len(layers) + 1):
        other = batch_of(module, records)
        other.labels[other.head_ids == level] = ord("z")
        after = [term.loss.item() for term in module.losses(other).values()]
        changed = [a != b for a, b in zip(after, before, strict=True)]
        assert changed == [i == level for i in range(len(layers) + 1)]


# -- 3: gradients ------------------------------------------------------------------------------


WEIGHTED = [
    ([3], papers(), [0.0, 1.0]),
    ([2], papers(), [1.0, 0.0]),
    ([3], papers(), [2.0, 1.0]),
    ([1, 3], deep_papers(), [0.0, 0.0, 1.0]),
    ([1, 3], deep_papers(), [1.0, 1.0, 0.0]),
    ([1, 3], deep_papers(), [1.0, 0.0, 0.0]),
    ([1, 3], deep_papers(), [1.0, 1.0, 4.0]),
]


@pytest.mark.fidelity("hdlm", 3)
@pytest.mark.parametrize(("layers", "records", "weights"), WEIGHTED)
def test_gradients_are_those_of_the_weighted_sum(
    make: Any, shape: str, layers: list[int], records: list[Any], weights: list[float]
) -> None:
    """Zero coarse weights are answer-only SFT; w_D = 0 leaves what is above k_{D-1} alone.

    Where the final head is tied to the embedding, its gradient as an embedding is legitimate; the
    transcription has exactly that part.
    """
    module = make("HdLM", shape, spread=5.0, layers=layers, weights=weights)
    ours = our_gradients(module, batch_of(module, records))
    samples = [render(module.tokenizer, record) for record in records]
    expected = Reference(module, layers).gradients(samples, weights)
    assert_same_gradients(ours, expected)
    deepest = max(k for k, w in zip([*layers, 4], weights, strict=True) if w)
    alone = [f"heads.{i}." for i, w in enumerate(weights[:-1]) if not w]
    alone += [f"lm.model.layers.{j}." for j in range(deepest, 4)]
    alone += ["lm.model.norm.", "lm.lm_head."] if not weights[-1] else []
    for name, gradient in ours.items():
        silent = gradient is None or not gradient.any()
        if name.startswith(tuple(alone)):
            assert silent, name
        elif name.startswith("lm.model.layers.") and "weight" in name:
            assert not silent, name


@pytest.mark.fidelity("hdlm", 3)
def test_no_coarse_weight_equals_the_sft_module(make: Any, shape: str, triples: Any) -> None:
    """Coarse weights 0: the backbone's gradients are those of SFT on the answer, same sequence."""
    module = make("HdLM", shape, spread=5.0, weights=[0.0, 1.0])
    sft = make("SFT", shape, spread=5.0, learn_thought=True)
    batch = batch_of(module, triples)
    ours = our_gradients(module, batch)
    head = ours.pop("heads.0.weight")
    assert head is None or not head.any()
    answers = batch_of(module, triples)
    answers.head_ids = torch.where(batch.head_ids == 1, 0, -1)
    answers.normalizers = {0: batch.normalizers[1]}
    assert_same_gradients(ours, our_gradients(sft, answers))


# -- 10: the course of training ----------------------------------------------------------------


@pytest.mark.fidelity("hdlm", 10)
def test_the_coarse_loss_starts_at_ln_v_and_falls_fast(trained: SimpleNamespace) -> None:
    """L_1 starts at ln V (a tiny random stream is near zero) and halves in a tenth of training."""
    coarse = [point[0] for point in trained.curve]
    shown = [round(coarse[i], 2) for i in range(0, STEPS, STEPS // 12)]
    print(f"coarse loss: {shown}, last {coarse[-1]:.4f}")
    assert coarse[0] > LN_V - 0.05
    assert min(coarse[: STEPS // 10]) < coarse[0] / 2
    assert coarse[-1] < 0.1
    assert all(math.isfinite(x) for point in trained.curve for x in point)


@pytest.mark.fidelity("hdlm", 10)
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gemma"])
def test_a_large_raw_stream_starts_above_ln_v(make: Any, name: str) -> None:
    """Without a norm L_1 starts above ln V on a stream of a trained model's size; with one not."""
    start = {}
    for norm in (False, True):
        module = make("HdLM", name, head_norm=norm)
        with torch.no_grad():
            heads = module.lm.lm_head.weight.detach().clone()
            module.lm.model.embed_tokens.weight.mul_(2000)
            for head in (module.lm.lm_head, module.heads["0"]):  # the heads keep their size
                head.weight = torch.nn.Parameter(heads.clone())
        terms = module.losses(batch_of(module, papers()))
        start[norm] = terms["level_1"].mean.item()
    assert start[False] > LN_V + 1
    assert abs(start[True] - LN_V) < 0.3


@pytest.mark.fidelity("hdlm", 10)
@pytest.mark.parametrize(("layers", "records"), CASES)
def test_small_steps_lower_every_level(
    make: Any, shape: str, layers: list[int], records: list[Any]
) -> None:
    """Full-batch gradient descent with a small rate: every L_i and L fall at every step."""
    module = silence(make("HdLM", shape, layers=layers))
    batch = batch_of(module, records)
    curve = []
    for _ in range(6):
        module.zero_grad()
        terms = module.losses(batch)
        module.training_step(batch, 0).backward()
        curve.append([term.loss.item() for term in terms.values()])
        with torch.no_grad():
            for p in module.parameters():
                if p.grad is not None:
                    p -= 0.02 * p.grad
    for before, after in zip(curve, curve[1:], strict=False):
        assert all(b < a for a, b in zip(before, after, strict=True)), curve

"""HdLM with a call for each level says and learns what it does in one call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dialogues import TALK
from methods.hdlm.hdlm_records import PAPER, QUESTION, THREE, encoder, rendered

from zoo.encoding import NO_HEAD, sum_head_weights
from zoo.losses.cross_entropy import total_loss
from zoo.records import LabelPath, Triple


@pytest.mark.parametrize(
    ("record", "depth", "guide"),
    [
        (PAPER, 2, ("strategy",)),
        (LabelPath("t", ("a", "c", "f"), THREE, id="t"), 3, ("strategy",)),
        (Triple("Q?", "Because.", "Yes.", id="r"), 2, ("strategy",)),
        (QUESTION, 2, ("strategy",)),
        (TALK, 2, ("strategy",)),
        (TALK, 3, ("emotion", "strategy")),
    ],
)
def test_separate_levels_are_the_sequence_up_to_them(
    record: Any, depth: int, guide: tuple[Any, ...]
) -> None:
    """Call i reads what was asked and said before, and learns level i alone.

    Two calls hold (n_q + n_t) + (n_q + n_t + n_s + n_a) tokens.
    """
    joint = encoder(depth, guide=guide)(record)
    apart = encoder(depth, guide=guide, separate=True)(record)
    assert len(apart) == depth * len(joint)
    for i, whole in enumerate(joint):
        for level, example in enumerate(apart[depth * i : depth * (i + 1)]):
            assert set(example.head_ids) == {level, NO_HEAD}
            end = 2 + max(j for j, head in enumerate(whole.head_ids) if head == level)
            assert example.input_ids == whole.input_ids[:end]
            assert [h == level for h in example.head_ids[: end - 1]] == [
                h == level for h in whole.head_ids[: end - 1]
            ]


@pytest.mark.parametrize("record", [PAPER, QUESTION, TALK])
def test_separate_calls_of_one_plain_model_learn_what_one_call_learns(
    make: Any, record: Any
) -> None:
    """All levels at the last block: the calls have the losses and gradients of the sequence."""
    found = []
    for separate in (False, True):
        module = make("HdLM", "tiny-llama", layers=[4], separate=separate, spread=5.0)
        module.zero_grad(set_to_none=True)
        examples = module.encoder()(record)
        batch = module.encoder().collate(examples, sum_head_weights(examples))
        terms = module.losses(batch)
        total_loss(terms).backward()
        gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
        found.append({"loss": torch.stack([t.loss.detach() for t in terms.values()]), **gradients})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("record", [PAPER, Triple("Q?", "So.", "Yes.", id="r"), QUESTION, TALK])
def test_the_second_call_reads_the_first_ones_words(
    make: Any, monkeypatch: pytest.MonkeyPatch, record: Any
) -> None:
    """Each call is prefilled from nothing with all that was asked and decoded before."""
    from zoo.decoding.depth_decoder import DepthDecoder

    fed: list[tuple[Any, str]] = []
    decoded: list[str] = []
    feed, decode = DepthDecoder.feed, DepthDecoder.decode
    module = make("HdLM", "tiny-llama", layers=[4], separate=True, spread=12.0, max_new_tokens=3)

    def feeding(decoder: DepthDecoder, ids: Any, level: int) -> None:
        fed.append((decoder, module.tokenizer.decode(ids[0])))
        feed(decoder, ids, level)

    def decoding(decoder: DepthDecoder, *args: Any, **options: Any) -> list[list[int]]:
        found = decode(decoder, *args, **options)
        decoded.append(module.tokenizer.decode(found[0]))
        return found

    monkeypatch.setattr(DepthDecoder, "feed", feeding)
    monkeypatch.setattr(DepthDecoder, "decode", decoding)
    plan = module.encoder().plans(record)[-1]
    (path,) = module.generate([plan])
    (first, second), prompts = (d for d, _ in fed), [text for _, text in fed]
    assert first is not second
    assert prompts[0].endswith("\n<|im_start|>thought\n")
    between = module.tokenizer.decode(module.encoder().between(plan, path[:1]))
    assert prompts[1] == prompts[0] + decoded[0] + "<|im_end|>" + between
    fed.clear()
    module.generate([plan], forced=[[plan.names[0]]])
    fine = rendered(module.encoder(), record)[-1]
    assert fed[0][1] == fine.removesuffix(plan.gold[1] + "<|im_end|>")


@pytest.mark.parametrize("depth", [2, 3])
def test_one_plain_model_says_the_same_in_one_call_and_in_several(make: Any, depth: int) -> None:
    record = {2: TALK, 3: LabelPath("t", ("a", "c", "f"), THREE, id="t")}[depth]
    found = []
    for separate in (False, True):
        torch.manual_seed(0)
        layers = [4] * (depth - 1)
        module = make(
            "HdLM", "tiny-llama", layers=layers, separate=separate, spread=12.0, max_new_tokens=9
        )
        found.append(module.generate(module.encoder().plans(record)))
    assert found[0] == found[1]

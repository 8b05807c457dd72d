"""MeTHanol's two passes of inference: blocks that run, and kept states as good as a new prefill."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.methanol.methanol_reference import Reference, render
from methods.methanol.methanol_tasks import choices, personas, stories

from zoo.records import Triple


class Recorder:
    """Records the tokens each block is given, the thinking logits and the decoded ids."""

    def __init__(self, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from zoo.decoding.depth_decoder import DepthDecoder

        self.calls: list[tuple[int, int]] = []  # (block, number of tokens)
        self.logits: list[torch.Tensor] = []
        self.decoded: list[list[list[int]]] = []
        self.marks: list[int] = []  # number of block calls when a phase has been decoded
        self.hooks = [
            block.register_forward_hook(
                lambda _, inputs, __, j=j: self.calls.append((j, inputs[0].shape[1]))
            )
            for j, block in enumerate(module.lm.model.layers)
        ]
        think, decode = module.think_logits, DepthDecoder.decode

        def think_logits(states: torch.Tensor) -> torch.Tensor:
            self.logits.append(think(states))
            return self.logits[-1]

        def recorded(decoder: Any, *args: Any, **kwargs: Any) -> list[list[int]]:
            self.decoded.append(decode(decoder, *args, **kwargs))
            self.marks.append(len(self.calls))
            return self.decoded[-1]

        monkeypatch.setattr(module, "think_logits", think_logits)
        monkeypatch.setattr(DepthDecoder, "decode", recorded)

    def tokens(self, block: int, start: int, stop: int | None = None) -> int:
        return sum(n for j, n in self.calls[start:stop] if j == block)

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.mark.fidelity("methanol", 5)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_first_pass_runs_k_blocks(
    make: Any, shape: str, triples: Any, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    """Pass 1 runs exactly k blocks, once per token; its logits are those of a full forward."""
    module = make(
        "MeTHanol", shape, spread=5.0, thinking_layer=k, max_thought_tokens=7, max_answer_tokens=3
    )
    reference = Reference(module)
    record = triples[0]
    recorder = Recorder(module, monkeypatch)
    module.generate([record])
    recorder.close()
    thought, answer = (rows[0] for rows in recorder.decoded)
    assert thought
    prompt = render(module.tokenizer, record)
    fed = [*prompt.ids[: prompt.spans["T"].start], *thought]
    between = len(recorder.calls[: recorder.marks[0]])
    for j in range(4):  # prompt, thought and its end-of-turn: each token once through k blocks
        assert recorder.tokens(j, 0, between) == (len(fed) + 1 if j < k else 0)
    header = len(module.tokenizer("\n<|im_start|>assistant\n", add_special_tokens=False).input_ids)
    later = header + min(len(answer), module.max_answer_tokens - 1)  # the last is not fed
    for j in range(4):  # pass 2: only blocks above k see Q and T, and each token only once
        caught_up = 0 if j < k else len(fed) + 1
        assert recorder.tokens(j, between) == caught_up + later
    with torch.no_grad():
        expected = reference.logits(fed)[0][prompt.spans["T"].start - 1 :]
    steps = min(len(thought) + 1, module.max_thought_tokens)  # after the last, the stop is forced
    got, expected = torch.cat(recorder.logits)[:steps], expected[:steps]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def assert_replies_equal_reprefill(
    module: Any, records: Sequence[Triple], limit: int, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[list[int], list[int]]]:
    module.max_thought_tokens = module.max_answer_tokens = limit
    reference = Reference(module)
    expected = [reference.reply(module.tokenizer, record, limit) for record in records]
    with monkeypatch.context() as patch:
        recorder = Recorder(module, patch)
        replies = module.generate(records)
        recorder.close()
    assert list(zip(*recorder.decoded, strict=True)) == expected
    decode = module.tokenizer.decode
    texts = [tuple(decode(i, skip_special_tokens=True).strip() for i in pair) for pair in expected]
    assert [(reply.thought, reply.answer) for reply in replies] == texts
    return expected


@pytest.mark.fidelity("methanol", 6)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_reuse_equals_reprefill(
    make: Any, shape: str, triples: Any, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    """Pass 2 on kept states gives the tokens of a second full prefill (random weights)."""
    module = make("MeTHanol", shape, spread=12.0, thinking_layer=k)
    with torch.no_grad():  # a random head of its own: T is no echo of the last token
        module.thinking_head.weight.normal_()
    expected = assert_replies_equal_reprefill(module, triples, 9, monkeypatch)
    assert len({tuple(t) for t, _ in expected}) > 1
    assert any(t for t, _ in expected)


@pytest.mark.fidelity("methanol", 6)
def test_reuse_equals_reprefill_for_unequal_thoughts(
    trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on a trained model: prompts and thoughts of one batch differ in length."""
    module = trained.module
    limits = module.max_thought_tokens, module.max_answer_tokens
    records = [stories()[1], choices()[0], *personas(), Triple("I am", "", "", system="A boss.")]
    expected = assert_replies_equal_reprefill(module, records, 20, monkeypatch)
    module.max_thought_tokens, module.max_answer_tokens = limits
    assert len({len(thought) for thought, _ in expected}) >= 3
    assert len({len(answer) for _, answer in expected}) >= 2

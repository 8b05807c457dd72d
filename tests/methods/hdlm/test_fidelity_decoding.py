"""HdLM's decoding: the blocks that a level runs, and kept states as good as a new prefill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.hdlm.hdlm_abstracts import Recorder, abstracts, plans_of
from methods.hdlm.hdlm_reference import TWO, Reference, contexts, deep_papers, ids_of, render

from zoo.records import LabelPath


@pytest.mark.fidelity("hdlm", 4)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_coarse_pass_runs_k_blocks(
    make: Any, shape: str, triples: Any, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    """Decoding level 1 runs k blocks, once per token; its logits are those of a full forward."""
    module = make("HdLM", shape, spread=5.0, layers=[k], max_new_tokens=7)
    reference = Reference(module, [k])
    recorder = Recorder(module, monkeypatch)
    module.generate(plans_of(module, triples[:1]))
    recorder.close()
    (coarse,), (fine,) = recorder.decoded
    assert coarse
    sample = render(module.tokenizer, triples[0])
    fed = [*sample.ids[: sample.spans[0].start], *coarse]
    assert recorder.after[0] == Counter({j: len(fed) + 1 for j in range(k)})  # 1: end-of-turn
    header = len(ids_of(module.tokenizer, contexts(triples[0], 2)([""])))
    later = header + min(len(fine), module.max_new_tokens - 1)  # the last is not fed
    assert recorder.after[1] == Counter({j: len(fed) + 1 + later for j in range(4)})
    with torch.no_grad():
        expected = reference.logits(fed)[0][sample.spans[0].start - 1 :]
    steps = min(len(coarse) + 1, module.max_new_tokens)
    got = torch.cat(recorder.logits[0])[:steps]
    torch.testing.assert_close(got, expected[:steps], rtol=1e-4, atol=1e-4)


@pytest.mark.fidelity("hdlm", 4)
def test_every_coarse_pass_of_three_levels_runs_its_blocks(
    make: Any, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depth 3: level i is decoded with k_i blocks per token and no more."""
    module = make("HdLM", shape, spread=5.0, layers=[1, 3], max_new_tokens=3)
    recorder = Recorder(module, monkeypatch)
    module.generate(plans_of(module, deep_papers()[:1]))
    recorder.close()
    for after, k in zip(recorder.after, (1, 3, 4), strict=True):
        assert set(after) == set(range(k))
        assert len(set(after.values())) == 1  # each token once through each block


def assert_tokens_equal_reprefill(
    module: Any, layers: list[int], records: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> list[list[list[int]]]:
    reference = Reference(module, layers)
    limit = module.max_new_tokens
    expected = [reference.reply(module.tokenizer, record, limit) for record in records]
    with monkeypatch.context() as patch:
        recorder = Recorder(module, patch)
        module.generate(plans_of(module, records))
        recorder.close()
    assert [list(levels) for levels in zip(*recorder.decoded, strict=True)] == expected
    return expected


@pytest.mark.fidelity("hdlm", 5)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_reuse_equals_reprefill(
    make: Any, shape: str, triples: Any, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    """Levels on kept states have the tokens of a full prefill per token (random weights)."""
    module = make("HdLM", shape, spread=12.0, layers=[k], max_new_tokens=9)
    with torch.no_grad():
        module.heads["0"].weight.normal_()  # no echo of the last token
    expected = assert_tokens_equal_reprefill(module, [k], triples, monkeypatch)
    assert len({tuple(levels[0]) for levels in expected}) > 1


@pytest.mark.fidelity("hdlm", 5)
def test_reuse_equals_reprefill_with_three_levels(
    make: Any, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same through two subtasks, after a coarse text that means no class."""
    module = make("HdLM", shape, spread=12.0, layers=[1, 3], max_new_tokens=5)
    with torch.no_grad():
        module.heads["0"].weight.normal_()
    assert_tokens_equal_reprefill(module, [1, 3], deep_papers(), monkeypatch)


@pytest.mark.fidelity("hdlm", 5)
def test_reuse_equals_reprefill_on_a_trained_model(
    trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with real numbers and subtasks of unequal length in one batch."""
    records = [*abstracts()[::13], LabelPath("F" * 9, ("art", "clay"), TWO, id="new")]
    expected = assert_tokens_equal_reprefill(trained.module, [3], records, monkeypatch)
    assert len({str(levels[0]) for levels in expected}) == 3

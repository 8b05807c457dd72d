"""MeGan's replies: decoding with a cache, their mean betas, the condition projected once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.megan.megan_reference import Reference
from methods.megan.megan_samples import Make, build, close, records, samples
from torch import Tensor
from training import batch_of

pytestmark = pytest.mark.filterwarnings("ignore:.*activation_checkpointing.*")


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

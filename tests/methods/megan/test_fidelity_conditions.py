"""MeGan's condition: what of it counts, and that it alone decides between equal prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.megan.megan_reference import Reference
from methods.megan.megan_samples import SHAPES, Make, build, close, records, samples, silence
from torch import Tensor
from training import batch_of

from datamodules.conditioned_chat import shuffled_conditions
from zoo.records import Conditioned

pytestmark = pytest.mark.filterwarnings("ignore:.*activation_checkpointing.*")


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

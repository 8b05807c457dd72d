"""straQ*'s loss and its target copy, and what the discount decides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from methods.straq.straq_dialogue import DIALOGUE, LORA, TWO, batch_of, repeated
from methods.straq.straq_reference import Reference
from training import quiet_trainer, silence

import zoo
from zoo.methods.straq.encoder import Transition
from zoo.methods.straq.rewards import Judged
from zoo.methods.straq.temporal_difference import td_errors, td_targets
from zoo.records import SUPPORTER, Turn
from zoo.support.decisions import Decision


def bare(ids: list[int], following: list[int] | None, *judged: tuple[int, float]) -> Transition:
    """Return a transition between prompts."""
    record = Decision((), Turn(SUPPORTER, ""), 0, following is None)
    ends = (following is None,) * len(judged)
    pairs = tuple(Judged(action, reward, False) for action, reward in judged)
    return Transition(ids, following or ids[:1], pairs, ends, record)


LITTLE, MUCH, COST, OTHER = 1.0, 4.0, -0.2, -1.0  # rewards of a chain of four states


def chain(module: Any) -> Any:
    """Return all transitions of a chain as one batch.

    A leaves with a little; B moves on, with much after the last state; C moves back at a cost; the
    other actions leave with less than nothing.
    """
    ids = [module.encoder().ids(f"State {name}. Answer:") for name in ("one", "two", "three", "4")]
    examples = []
    for s, state in enumerate(ids):
        last = s == len(ids) - 1
        ends = ((0, LITTLE), *((action, OTHER) for action in range(3, 8)))
        examples.append(bare(state, None, *ends))
        examples.append(bare(state, None if last else ids[s + 1], (1, MUCH if last else 0.0)))
        examples.append(bare(state, ids[max(s - 1, 0)], (2, COST)))
    return batch_of(module, examples)


def value_iteration(gamma: float) -> torch.Tensor:
    """Return Q of the chain, `(4, 8)`."""
    q = torch.zeros(4, 8)
    for _ in range(300):
        values, q = q.max(1).values, torch.full((4, 8), OTHER)
        for s in range(4):
            q[s, 0], q[s, 2] = LITTLE, COST + gamma * values[max(s - 1, 0)]
            q[s, 1] = MUCH if s == 3 else gamma * values[s + 1]
    return q


# -- 3: the target value and the loss ----------------------------------------------------------


@pytest.mark.fidelity("straq", 3)
def test_the_example_of_the_sheet() -> None:
    """r = 1, gamma = 0.85, max Q' = 0.4, Q = 0.3: y = 1.34, loss 1.0816; done: y = r."""
    following = torch.tensor([[0.1, 0.4, -2.0], [0.1, 0.4, -2.0]])
    done = torch.tensor([False, True])
    y = td_targets(torch.tensor([1.0, 1.0]), following, done, 0.85)
    torch.testing.assert_close(y, torch.tensor([1.34, 1.0]))
    errors = td_errors(torch.tensor([0.3, 0.3]), y)
    torch.testing.assert_close(errors, torch.tensor([1.0816, 0.49]))


LOSSES = [("mean_logit", True), ("mean_logit", False), ("token_prob", True)]


@pytest.mark.fidelity("straq", 3)
@pytest.mark.fidelity("straq", 4)
@pytest.mark.parametrize(("readout", "packed"), LOSSES)
@pytest.mark.parametrize("two", TWO)
def test_loss_and_gradient_of_a_dialogue(make: Any, two: str, readout: str, packed: bool) -> None:
    """All transitions of a dialogue, with a target that differs: the reference's L and gradient."""
    module = make("StraQ", two, spread=4.0, readout=readout, padding_free=packed)
    reference = Reference(module, readout)
    other = reference.perturbed()
    module.target.sync(module)
    for name, parameter in other.lm.named_parameters():
        module.target.values[f"lm.{name}"].copy_(parameter)

    examples = module.encoder()(DIALOGUE)
    judged = {len(e.record.turns): [(one.action, one.reward) for one in e.judged] for e in examples}
    assert list(judged) == [1, 3, 4, 6]
    batch = batch_of(module, examples)
    loss = silence(module).training_step(batch, 0)
    loss.backward()
    wanted, expected = reference.gradients(DIALOGUE, judged, other)
    torch.testing.assert_close(loss.detach(), wanted, rtol=1e-4, atol=1e-5)
    for name, parameter in module.named_parameters():
        want = expected[name]
        scale = want.abs().max().item()
        torch.testing.assert_close(parameter.grad, want, rtol=1e-3, atol=1e-4 * scale + 1e-8)

    theirs = module.next_values(batch)
    module.target.sync(module)
    own = module.next_values(batch)
    assert (own - theirs).abs().max() > 0.05 * own.abs().max(), "the target must matter"


# -- 4: the target ----------------------------------------------------------------------------


class Watch(Callback):
    """Keeps trained weights and target after every optimiser step."""

    def __init__(self) -> None:
        self.online: list[dict[str, torch.Tensor]] = []
        self.target: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step > len(self.online):
            named = module.named_parameters()
            self.online.append({n: p.detach().clone() for n, p in named if p.requires_grad})
            self.target.append({n: t.clone() for n, t in module.target.values.items()})


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


@pytest.mark.fidelity("straq", 4)
@pytest.mark.parametrize(
    ("name", "lora"), [("tiny-llama", None), ("tiny-gemma", None), ("tiny-llama", LORA)]
)
def test_target_is_copied_every_tenth_step(name: str, lora: Any) -> None:
    """Equal to online right after steps 10 and 20, constant in between, never a gradient."""
    optimizer = {"lr": 1e-3, "schedule": "constant", "warmup_ratio": 0.0}
    module = zoo.StraQ(backbone={"name": name, "lora": lora}, optimizer=optimizer)
    assert module.sync_every == 10
    module.configure_model()
    start = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
    watch = Watch()
    run = quiet_trainer(max_steps=22, accumulate_grad_batches=2, callbacks=[watch])
    run.fit(module, repeated(chain(module), 44))
    assert len(watch.online) == 22
    for step, (online, target) in enumerate(zip(watch.online, watch.target, strict=True), 1):
        expected = start if step < 10 else watch.online[step // 10 * 10 - 1]
        assert same(target, expected), step
        assert same(target, online) == (step % 10 == 0), step
    assert not any(t.requires_grad or t.grad is not None for t in module.target.values.values())
    assert not same(start, watch.online[0])


@pytest.mark.fidelity("straq", 4)
def test_a_second_run_starts_with_its_own_target() -> None:
    """At the first step of every fit the target is online: of a trained module, of new weights."""
    optimizer = {"lr": 1e-3, "schedule": "constant", "warmup_ratio": 0.0}
    module = zoo.StraQ(backbone={"name": "tiny-llama"}, optimizer=optimizer)
    module.configure_model()
    apart: list[float] = []

    class First(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            if trainer.global_step == 0:
                differences = [
                    (parameter - module.target.values[name]).abs().max().item()
                    for name, parameter in module.named_parameters()
                ]
                apart.append(max(differences))

    def fit(steps: int) -> None:
        run = quiet_trainer(max_steps=steps, callbacks=[First()])
        run.fit(module, repeated(chain(module), steps))

    fit(13)
    fit(1)
    module.load_state_dict({name: value / 2 for name, value in module.state_dict().items()})
    fit(1)
    assert apart == [0.0, 0.0, 0.0]


@pytest.mark.fidelity("straq", 4)
def test_the_target_is_without_dropout(make: Any) -> None:
    """In a training step Q_theta drops out, Q_phi is what it is in evaluation, and no graph."""
    module = make("StraQ", "tiny-llama", backbone={"lora": LORA | {"alpha": 64.0, "dropout": 0.5}})
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.add_(0.1 * ("lora_" in name))
    module.target.sync(module)
    batch = batch_of(module, module.encoder()(DIALOGUE))
    wanted = module(batch.after).detach()
    module.train()
    values = module.next_values(batch)
    assert torch.equal(values, wanted)
    assert not values.requires_grad
    _, drawn = module.losses_and_values(batch)
    _, again = module.losses_and_values(batch)
    assert not torch.equal(drawn, again)
    assert module.training


# -- 6: long-run and myopic choices ------------------------------------------------------------


@pytest.mark.fidelity("straq", 6)
@pytest.mark.parametrize(("gamma", "best"), [(0.85, "B"), (0.0, "A")])
@pytest.mark.parametrize("two", TWO)
def test_discount_decides(two: str, gamma: float, best: str) -> None:
    """The language model's Q is value iteration's; the discount decides between B and A."""
    torch.manual_seed(0)  # 500 steps settle it from this start
    module = zoo.StraQ(
        backbone={"name": two},
        optimizer={"lr": 3e-3, "schedule": "linear", "warmup_ratio": 0.0, "weight_decay": 0.0},
        gamma=gamma,
    )
    module.configure_model()
    batch = chain(module)
    quiet_trainer(max_steps=500).fit(module, repeated(batch, 500))
    with torch.no_grad():
        q = module.eval()(batch.now)[::3]
    torch.testing.assert_close(q, value_iteration(gamma), rtol=0, atol=1e-2)
    assert "AB"[int(q[0].argmax())] == best

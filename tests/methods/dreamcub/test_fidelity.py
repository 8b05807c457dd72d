"""DreamCUB's properties, written from the equations of its sheet (a reconstruction)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.dreamcub.dreamcub_reference import dialogue, module_of, ppo_losses
from training import silence

from zoo.adapters import adapter_of, using
from zoo.encoding import sum_head_weights
from zoo.losses.cross_entropy import total_loss
from zoo.methods.dreamcub.encoder import State
from zoo.methods.dreamcub.imagination import imagine
from zoo.methods.dreamcub.world_losses import balanced_kl
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions


@pytest.fixture(scope="module")
def module(make: Any) -> Any:
    """One module for the tests that leave it as it is."""
    return module_of(make)


def states_of(module: Any, count: int = 2) -> list[State]:
    """Return the second state of some dialogues, with the labels of the data."""
    talks = [decisions(dialogue(i), module.labels)[1] for i in range(count)]
    return [module.encoder().state(decision) for decision in talks]


def batch_of(module: Any, records: list[Dialogue]) -> Any:
    encoder = module.encoder()
    examples = [example for record in records for example in encoder(record)]
    return encoder.collate(examples, sum_head_weights(examples))


def world_loss(module: Any, states: list[State]) -> dict[str, Any]:
    names = [state.decision.id for state in states]
    worse = [Turn(SUPPORTER, "No.")] * len(states)
    return module.world.losses(states, {}, names=names, worse=worse)


@pytest.mark.fidelity("dreamcub", 1)
def test_one_interface_gives_beliefs_utterance_and_reward(module: Any) -> None:
    (state,) = states_of(module, 1)
    seen = module.foresee(state.decision, Turn(SUPPORTER, "Welcome."))
    for factor, label, following in zip(module.factors, seen.belief, seen.next_belief, strict=True):
        assert label in factor.labels
        assert following in factor.labels
    assert [factor.name for factor in module.factors] == ["emotion", "sentiment", "intention"]
    assert isinstance(seen.utterance, str)
    assert seen.utterance
    other = module.foresee(state.decision, Turn(SUPPORTER, "Go away."))
    assert seen.reward != other.reward


@pytest.mark.fidelity("dreamcub", 2)
def test_kl_is_zero_between_equals_and_linear_in_beta(module: Any) -> None:
    q, p = torch.randn(5, 7).log_softmax(-1), torch.randn(5, 7).log_softmax(-1)
    assert (balanced_kl(q, p, 0.8) > 0).all()
    assert balanced_kl(q, q, 0.8).abs().max() == 0
    by_hand = (q.exp() * (q - p)).sum(1)
    torch.testing.assert_close(balanced_kl(q, p, 0.8), by_hand)
    terms = world_loss(module, states_of(module))
    assert terms["kl"].sum > 0
    totals = []
    for beta in (0.0, 1.0, 3.0):
        weights = {**module.loss_weights, "kl": beta}
        totals.append(total_loss(terms, weights).item())
    assert totals[2] - totals[0] == pytest.approx(3 * (totals[1] - totals[0]), abs=1e-5)


@pytest.mark.fidelity("dreamcub", 3)
def test_other_beliefs_are_other_utterances_and_rewards(module: Any) -> None:
    states = states_of(module)
    beliefs = [("anger", "negative", "question"), ("surprise", "neutral", "commissive")]
    shuffled = [replace(state, belief=b) for state, b in zip(states, beliefs, strict=True)]
    for told, changes in ((None, True), ([], False)):
        module.belief_in = frozenset(["observation", "reward"] if told is None else told)
        one, other = (module.world.utterances(s, 1.0).sum for s in (states, shuffled))
        replies = [state.decision.target for state in states]
        first, second = (module.world.rewards(s, replies) for s in (states, shuffled))
        assert bool((one - other).abs() > 1e-5) is changes
        assert bool(((first - second).abs() > 1e-6).all()) is changes
    module.belief_in = frozenset(["observation", "reward", "policy"])


@pytest.mark.fidelity("dreamcub", 4)
def test_the_prior_never_sees_the_utterance(module: Any) -> None:
    (state,) = states_of(module, 1)
    turns = (*state.decision.turns[:-1], Turn(SEEKER, "Help!", strategy="directive"))
    other = replace(state, decision=replace(state.decision, turns=turns), belief=None)
    encoder, path = module.encoder(), [0, 0, 0]
    for name, same in (("prior", True), ("posterior", False)):
        prompts = [getattr(encoder, name)(s) for s in (state, other)]
        with torch.no_grad():
            found = module.world.factor_logps(prompts, [path, path])
        for logp in found:
            assert torch.allclose(logp[0], logp[1], atol=1e-6) is same
    assert encoder.prior(state) != encoder.prior(replace(state, previous=None))
    assert module_of_previous(module, state) == module_of_previous(module, other)


def module_of_previous(module: Any, state: State) -> list[int]:
    """Return the prior's prompt where b_{t-1} is dropped."""
    encoder = replace(module.encoder(), use_previous=False)
    assert encoder.prior(state) == encoder.prior(replace(state, previous=None))
    return encoder.prior(state)


@pytest.mark.fidelity("dreamcub", 5)
@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_imagination_has_h_turns_and_no_future(make: Any, horizon: int) -> None:
    """What the data go on with does not matter, and nothing imagined has a gradient."""
    module = module_of(make, horizon=horizon)
    starts = [State(decisions(dialogue(i), module.labels)[0]) for i in range(2)]
    assert all(start.decision.target.text for start in starts)
    rolled = []
    for changed in (False, True):
        target = Turn(SUPPORTER, "quite another reply")
        given = [State(replace(s.decision, target=target)) if changed else s for s in starts]
        torch.manual_seed(3)
        rolled.append(imagine_quietly(module, given))
    for state, start in zip(rolled[0].states, starts, strict=True):
        new = state.decision.turns[len(start.decision.turns) :]
        assert [turn.speaker for turn in new] == [SUPPORTER, SEEKER] * horizon
    assert len(rolled[0].buffer) == horizon * len(starts)
    assert [s.decision.turns for s in rolled[0].states] == [
        s.decision.turns for s in rolled[1].states
    ]
    tensors = [v for v in rolled[0].buffer.state().values() if isinstance(v, torch.Tensor)]
    assert not any(value.requires_grad for value in tensors)


def imagine_quietly(module: Any, starts: list[State]) -> Any:
    return module.quietly(lambda: imagine(module, starts, [s.decision.id for s in starts]))


@pytest.mark.fidelity("dreamcub", 7)
@pytest.mark.parametrize("what", ["world", "speak", "policy", "value"])
def test_each_loss_moves_its_own_adapter(make: Any, what: str) -> None:
    module = module_of(make, horizon=1)
    states = states_of(module)
    if what == "world":
        loss = total_loss(world_loss(module, states), module.loss_weights)
    elif what == "speak":
        loss = total_loss(module.speak_loss(batch_of(module, [dialogue()])))
    else:
        buffer = imagine_quietly(module, states).buffer
        buffer.advantages = torch.tensor([1.0, -1.0])
        loss = module.actor.behaviour_losses(buffer)[what].loss
    loss.backward()
    owner = {"reward_head.weight": "world_model", "value_head.weight": "critic"}
    moved = {
        owner.get(name) or adapter_of(name)
        for name, p in module.named_parameters()
        if p.grad is not None and p.grad.any()
    }
    wanted = {"world": "world_model", "speak": "policy", "policy": "policy", "value": "critic"}
    assert moved == {wanted[what]}


@pytest.mark.fidelity("dreamcub", 8)
def test_one_turn_without_bootstrap_and_belief_is_ppo(make: Any) -> None:
    """G is the reward with the KL in it; the losses are those of a transcription with loops."""
    module = module_of(make, horizon=1, gamma=0.0, belief_in=[], kappa=0.1)
    states = states_of(module, 3)
    rollout = imagine_quietly(module, states)
    buffer = rollout.buffer
    bare = [replace(state, belief=None) for state in states]
    prompts = [module.encoder().reply(state) for state in bare]
    assert buffer.prompts == prompts, "the belief is told"
    lengths = [len(reply) for reply in buffer.replies]
    with torch.no_grad(), using(module.lm, None):
        base = module.actor.reply_logps(prompts, buffer.replies).split(lengths)
    texts = [module.tokenizer.decode(r, skip_special_tokens=True) for r in buffer.replies]
    replies = [module.encoder().read_reply(text) for text in texts]
    with torch.no_grad():
        rewards = module.world.rewards(bare, replies)
    old = buffer.old_logp.split(lengths)
    returns = [
        float(r - 0.1 * (mine - theirs).sum())
        for r, mine, theirs in zip(rewards, old, base, strict=True)
    ]
    assert buffer.returns.tolist() == pytest.approx(returns, abs=1e-5)
    raw = torch.tensor(returns) - buffer.old_values
    wanted = ((raw - raw.mean()) / raw.std(correction=0)).tolist()
    assert buffer.advantages.tolist() == pytest.approx(wanted, abs=1e-3)
    with torch.no_grad():  # as after a step: away from where the replies were written
        for name, p in module.named_parameters():
            if adapter_of(name) in ("policy", "critic"):
                p.add_(torch.randn_like(p) * 0.1)
    terms = module.actor.behaviour_losses(buffer)
    with torch.no_grad(), using(module.lm, "policy"):
        now = module.actor.reply_logps(prompts, buffer.replies).split(lengths)
        values = module.actor.values(prompts)
    policy, value = ppo_losses(
        [row.tolist() for row in now],
        [row.tolist() for row in old],
        wanted,
        values.tolist(),
        buffer.old_values.tolist(),
        returns,
        0.2,
    )
    assert terms["policy"].loss.item() == pytest.approx(policy, abs=1e-3)
    assert terms["value"].loss.item() == pytest.approx(value, abs=1e-4)


@pytest.mark.fidelity("dreamcub", 9)
def test_missing_factors_add_nothing(make: Any) -> None:
    """ESConv has no intention: no loss, no gradient; without any label neither CE nor KL."""
    module = module_of(make, weights={"prior": 1.0})
    (state,) = states_of(module, 1)
    losses = {}
    for name, belief in {
        "all": ("happiness", "positive", "inform"),
        "two": ("happiness", "positive", ""),
        "none": ("", "", ""),
    }.items():
        losses[name] = world_loss(module, [replace(state, belief=belief)])
    assert losses["two"]["belief"].weight == 1, "it is one state"
    for term in ("belief", "kl", "prior"):
        assert losses["none"][term].sum == 0
        assert losses["all"][term].sum > losses["two"][term].sum > 0
    prompts = [module.encoder().posterior(state)]
    logps = module.world.factor_logps(prompts, [[4, 2, 0]])
    by_hand = -(logps[0][0, 4] + logps[1][0, 2])
    assert losses["two"]["belief"].sum.item() == pytest.approx(by_hand.item(), abs=1e-5)


@pytest.mark.parametrize("left_out", ["observation", "kl"])
def test_a_term_of_weight_zero_is_left_out(make: Any, left_out: str) -> None:
    """Utterances cost a pass of their own; the other terms stay as they are."""
    plain, less = module_of(make), module_of(make, weights={left_out: 0.0})
    whole, rest = (world_loss(module, states_of(module)) for module in (plain, less))
    assert whole.keys() - rest.keys() == {left_out}
    for name, term in rest.items():
        assert term.sum.item() == pytest.approx(whole[name].sum.item(), rel=1e-6)


@pytest.mark.fidelity("dreamcub", 10)
def test_visits_fill_the_replay_and_the_world_model_learns_from_it(make: Any) -> None:
    schedule = {"policy": 0, "world": 0, "reward": 0, "world_per_cycle": 1, "interact_every": 1}
    user = {"kind": "scripted", "visits": 2}
    options = {"user": user, "horizon": 1, "dataset": "esconv"}
    module = module_of(make, schedule=schedule, labels="support", **options)
    silence(module)
    batch = batch_of(module, [dialogue_of_esconv()])
    sizes, kinds = [], []
    for step in range(4):
        module._trainer = FakeTrainer(step)
        terms = module.learning.losses(batch, step)
        kinds.append(set(terms))
        module.learning.replay.commit()
        sizes.append(len(module.learning.replay.kept))
    assert sizes[2] > sizes[1] == sizes[0] > 0, "a visit at the start of every cycle"
    assert {"graded", "met", "reward"} <= kinds[2], "the world model is refit on it"
    assert kinds[1] == kinds[3] == {"policy", "value"}
    saved = module.learning.state()
    module.learning.load(saved)
    assert len(module.learning.replay.kept) == sizes[-1]


class FakeTrainer:
    """What the learning asks a trainer."""

    accumulate_grad_batches, world_size, global_rank = 1, 1, 0

    def __init__(self, step: int) -> None:
        self.global_step = step
        self.loggers: list[Any] = []
        self.logger = None


def dialogue_of_esconv() -> Dialogue:
    turns = (Turn(SEEKER, "I cry."), Turn(SUPPORTER, "Why?", strategy="Question"))
    return Dialogue(turns, emotion="sadness", id="e:1")

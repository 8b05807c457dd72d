"""Imagined dialogues: in a batch, log-probabilities kept, planning, rewards, advantages."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.dreamcub.dreamcub_reference import dialogue, module_of, states_of

import zoo
from zoo.adapters import using
from zoo.methods.dreamcub import imagination
from zoo.methods.dreamcub.behaviour import normalized
from zoo.methods.dreamcub.belief import belief_line
from zoo.methods.dreamcub.encoder import State
from zoo.methods.dreamcub.environment import Answer, ScriptedEnv
from zoo.methods.dreamcub.imagination import MAX_REWARD, imagine, planned, roll
from zoo.methods.dreamcub.replay import Replay
from zoo.methods.dreamcub.roles import POLICY
from zoo.support.decisions import decisions
from zoo.support.labels import ACTS


def test_log_probabilities_are_kept_while_a_reply_is_written(make: Any) -> None:
    """They are those of a pass over prompt and reply, also where texts end early; float32 alone."""
    module = module_of(make, temperature=0.7, max_new_tokens=8, moved=0.2)
    module.lm.generation_config.eos_token_id = list(range(90))  # some of its tokens end a text
    states = [State(d) for i in range(4) for d in decisions(dialogue(i), ACTS)]
    prompts = [module.actor.prompt(state) for state in states]
    torch.manual_seed(4)
    replies, logp = module.quietly(lambda: module.actor.write(prompts))
    assert len({len(reply) for reply in replies}) > 2, "all replies are of one length"
    with torch.no_grad(), using(module.lm, POLICY):
        again = module.actor.reply_logps(prompts, replies)
    torch.testing.assert_close(logp, again, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("precise", "passes"), [(True, 0), (False, 1)])
def test_rounded_states_of_decoding_are_not_used(
    make: Any, monkeypatch: pytest.MonkeyPatch, precise: bool, passes: int
) -> None:
    """In bfloat16 the ratios of the first step of PPO are 1 only after a pass of its own."""
    module, read = module_of(make), []
    states = [State(decisions(dialogue(i), ACTS)[0]) for i in range(2)]
    prompts = [module.actor.prompt(state) for state in states]
    reply_logps = module.actor.reply_logps
    monkeypatch.setattr(module.actor, "reply_logps", lambda *a: read.append(a) or reply_logps(*a))
    with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
        replies, logp = module.quietly(lambda: module.actor.write(prompts))
        assert len(read) == passes
        with torch.no_grad(), using(module.lm, POLICY):
            again = reply_logps(prompts, replies)
    assert precise or torch.equal(logp, again)


def test_imagination_in_a_batch_is_that_of_single_dialogues(make: Any) -> None:
    """Near-greedy, every belief from its own seed: same replies and utterances, same numbers."""
    module = module_of(make, horizon=2, temperature=1e-4, moved=0.2)
    with torch.no_grad():
        module.lm.lm_head.weight.mul_(30)  # random logits are nearly tied
    states = [State(decisions(dialogue(i), module.labels)[i % 2]) for i in range(3)]
    names = [f"n{i}" for i in range(3)]
    together = module.quietly(lambda: imagine(module, states, names))
    for i, state in enumerate(states):
        alone = module.quietly(lambda s=state, i=i: imagine(module, [s], names[i : i + 1]))
        assert alone.states[0].decision.turns == together.states[i].decision.turns
        assert alone.states[0].belief == together.states[i].belief


def test_a_planned_reply_has_the_best_imagined_return(make: Any) -> None:
    """Of several candidates for each of two states; a module that plans replies with it."""
    module = module_of(make, horizon=1, candidates=3, moved=0.2)
    states = [State(decisions(dialogue(i), module.labels)[1]) for i in range(2)]
    states = module.quietly(lambda: module.world.infer(states))
    many = [state for state in states for _ in range(3)]
    names = [f"{state.decision.id}-plan-{i % 3}" for i, state in enumerate(many)]
    torch.manual_seed(5)
    rolled = module.quietly(lambda: imagine(module, many, names, known=True)).buffer
    torch.manual_seed(5)
    chosen = module.quietly(lambda: planned(module, states, 3))
    returns = rolled.returns.tolist()
    for i, reply in enumerate(chosen):
        mine = range(3 * i, 3 * i + 3)
        assert reply == rolled.replies[max(mine, key=lambda n: returns[n])]
    torch.manual_seed(5)
    answers = module.respond([state.decision for state in states])
    texts = [module.tokenizer.decode(reply, skip_special_tokens=True) for reply in chosen]
    assert [answer.words for answer in answers] == texts


def test_the_belief_that_is_shown_is_told_to_every_candidate(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """b is the likeliest one, inferred once for a state; each candidate is written for it."""
    module, told = module_of(make, horizon=2, candidates=4, moved=0.2), list[list[int]]()
    write = module.actor.write
    monkeypatch.setattr(module.actor, "write", lambda rows: told.extend(rows) or write(rows))
    points = [decisions(dialogue(i), module.labels)[1] for i in range(2)]
    states = [State(point) for point in points]
    drawn = module.quietly(lambda: module.world.infer(states, ["sampled"] * 2))
    answers = module.respond(points)
    first = [module.tokenizer.decode(row) for row in told[: 2 * 4]]  # two turns are imagined
    for i, (answer, state) in enumerate(zip(answers, drawn, strict=True)):
        line = dict(answer.steps)["belief"]
        assert line != belief_line(module.factors, state.belief), "samples are the likeliest ones"
        for prompt in first[4 * i : 4 * i + 4]:
            assert f"The seeker's state: {line}\n" in prompt


def test_advantages_of_a_buffer_are_normalised() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 100.0]])
    learned = torch.tensor([[True, True], [True, False]])
    kept = normalized(values, learned)[learned]
    assert kept.mean().item() == pytest.approx(0, abs=1e-6)
    assert kept.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_the_reward_of_a_turn(make: Any) -> None:
    """(7): clamped, then minus kappa times the divergence and plus the bonus of surprise."""
    module = module_of(make, gamma=0.0, kappa=0.5, entropy_bonus=2.0)
    raw = torch.tensor([MAX_REWARD + 5, -MAX_REWARD - 5, 1.0])
    goes_on = iter([[True, False, True], [True, True, True]])

    def respond(now: Any, replies: Any, k: int) -> Any:
        alive = next(goes_on)
        return raw, [True] * 3, [s if a else None for s, a in zip(now, alive, strict=True)]

    rollout = module.quietly(lambda: roll(module, states_of(0, 1, 2), 2, respond))
    assert len(rollout.buffer) == 5, "a dialogue that has ended has no more turns"
    assert rollout.buffer.prompts[3:] == [rollout.buffer.prompts[i] for i in (0, 2)]
    lengths = [len(reply) for reply in rollout.buffer.replies]
    with torch.no_grad(), zoo.adapters.using(module.lm, None):
        base = module.actor.reply_logps(rollout.buffer.prompts, rollout.buffer.replies)
    pairs = zip(rollout.buffer.old_logp.split(lengths), base.split(lengths), strict=True)
    changes = [float(0.5 * (a - b).sum() + 2.0 * a.mean()) for a, b in pairs]
    clamped = [MAX_REWARD, -MAX_REWARD, 1.0, MAX_REWARD, 1.0]
    wanted = [r - change for r, change in zip(clamped, changes, strict=True)]
    assert rollout.buffer.returns.tolist() == pytest.approx(wanted, abs=1e-4)
    scores = rollout.scores
    assert scores["reward"] == pytest.approx(float(raw[[0, 1, 2, 0, 2]].mean()))
    assert scores["return"] == pytest.approx(sum(wanted[:3]) / 3, abs=1e-4)
    assert scores["entropy"] == pytest.approx(
        -sum(float(p.mean()) for p in rollout.buffer.old_logp.split(lengths)) / 5, abs=1e-5
    )
    assert scores["value"] == pytest.approx(float(rollout.buffer.old_values.mean()), abs=1e-5)


class Rater(ScriptedEnv):
    """Ends every dialogue with the grade of its number; None where nobody rated."""

    def __init__(self, grades: list[float | None]) -> None:
        super().__init__()
        self.grades = grades

    def answer(self, decision: Any, reply: Any) -> Answer:
        return Answer(None, self.grades[int(decision.dialogue.partition(":")[2])])


def test_a_turn_that_nobody_rated_is_neutral(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among grades from 1 to 5 it has their mean, and the logged mean is that of rated turns."""
    monkeypatch.setattr(imagination, "MAX_REWARD", 4.5)
    settings = {"gamma": 0.0, "kappa": 0.0, "user": {"kind": "scripted"}, "belief_in": []}
    module = module_of(make, rollouts="environment", **settings)
    module._trainer = SimpleNamespace(global_step=0, world_size=1, global_rank=0)
    for grades, wanted in (
        ([1.0, None, 4.0, 2.5], [1.0, 2.5, 4.0, 2.5]),
        ([5.0, None], [4.5, 4.5]),
        ([None, None], [0.0, 0.0]),
    ):
        module.learning.env, module.learning.replay = Rater(grades), Replay()
        count = len(grades)
        rollout = module.quietly(lambda n=count: module.learning.live(n, 1))
        assert rollout.buffer.returns.tolist() == pytest.approx(wanted)
        rated = [grade for grade in grades if grade is not None]
        assert ("reward" in rollout.scores, "return" in rollout.scores) == (bool(rated),) * 2
        assert [each.reward for each in module.learning.replay.fresh] == grades
        if rated:
            assert rollout.scores["reward"] == pytest.approx(sum(rated) / len(rated))
            clamped = [min(4.5, grade) for grade in rated]
            assert rollout.scores["return"] == pytest.approx(sum(clamped) / len(rated))


def test_a_neutral_reward_is_that_of_all_turns(make: Any) -> None:
    """A turn of which no dialogue is rated has the grades of the others; who has left has none."""
    module = module_of(make, gamma=0.0, kappa=0.0)
    raw = [torch.tensor([1.0, 3.0, 9.0]), torch.tensor([7.0, 7.0, 7.0])]
    rated, goes_on = [[True, True, False], [False] * 3], [[True, False, True], [True] * 3]

    def respond(now: Any, replies: Any, k: int) -> Any:
        return raw[k], rated[k], [s if a else None for s, a in zip(now, goes_on[k], strict=True)]

    rollout = module.quietly(lambda: roll(module, states_of(0, 1, 2), 2, respond))
    assert rollout.buffer.returns.tolist() == pytest.approx([1, 3, 2, 2, 2])
    assert rollout.scores["reward"] == pytest.approx(2)
    assert rollout.scores["return"] == pytest.approx(3), "of the dialogue that is rated whole"


def test_prior_and_posterior_disagree_in_a_share_of_the_turns(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all imagined turns: what was foreseen before the words, beside what they tell."""
    felt, other = ("fear", "negative", "question"), ("anger", "negative", "inform")
    told = iter([[felt, other], [other, other]])
    monkeypatch.setattr(module.world, "foresee", lambda *a: (next(told), ["Yes.", "No."]))
    monkeypatch.setattr(
        module.world, "infer", lambda states, names: [replace(s, belief=felt) for s in states]
    )
    rollout = module.quietly(lambda: imagine(module, states_of(0, 1), ["a", "b"]))
    assert module.horizon == 2
    assert rollout.scores["disagreement"] == 3 / 4
    assert [state.decision.turns[-1].text for state in rollout.states] == ["Yes.", "No."]

"""Dialogues that the policy leads: with the world model, which imagines, or with a user.

    a_k ~ pi(a | s_k),  r_k = r(s_k, a_k),  b ~ p(b | h),  o_{k+1} ~ p(o | h, b),  b_{k+1} ~ q

All rows are written together. Nothing here has a gradient: what policy and critic learn from is the
text, the log-probabilities when it was written, and the returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.adapters import using
from zoo.methods.dreamcub.behaviour import Buffer, lambda_returns, normalized, sums
from zoo.methods.dreamcub.encoder import State, heard
from zoo.records import Turn

if TYPE_CHECKING:
    from zoo.methods.dreamcub.module import DreamCUB

MAX_REWARD = 10.0
Responses = tuple[Tensor, list[bool], list[State | None]]
Respond = Callable[[Sequence[State], Sequence[Turn], int], Responses]
"""Given states, replies and the turn k: the rewards `(N,)`, whether anybody rated, and the next
states, None at the end."""


@dataclass(frozen=True)
class Rollout:
    """What was said, and what is logged of it.

    Attributes:
        buffer: To learn from.
        states: The last state of each dialogue.
        scores: Means by name: `reward` of the turns that the world model or the user rated and
            `return` of the dialogues in which every turn is rated, both left out where there are
            none; `kl` to the reference per reply, `entropy` (of the sampled tokens) per token,
            `value`.
    """

    buffer: Buffer
    states: list[State]
    scores: dict[str, float]


def roll(module: DreamCUB, states: Sequence[State], turns: int, respond: Respond) -> Rollout:
    """Lead dialogues for some turns; one that nobody rated has the mean reward of the others.

    Args:
        module: Policy and critic.
        states: Where they begin, N of them, with the belief that the policy is told.
        turns: H.
        respond: The world model or a user.
    """
    now, alive = list(states), [True] * len(states)
    steps: list[dict[str, Any]] = []
    for k in range(turns):
        step = write_turn(module, now)
        raw, rated, following = respond(now, step["turns"], k)
        step |= {"penalty": module.kappa * step["kl"] - module.entropy_bonus * step["surprise"]}
        step |= {"raw": raw, "alive": list(alive), "rated": rated}
        step |= {"goes_on": [state is not None for state in following]}
        alive = [a and state is not None for a, state in zip(alive, following, strict=True)]
        now = [state or old for state, old in zip(following, now, strict=True)]
        steps.append(step)
    last_N = module.actor.values([module.actor.prompt(state) for state in now])
    values = torch.stack([*(step["value"] for step in steps), last_N])
    raw_HN = torch.stack([step["raw"] for step in steps])
    raw_HN = filled(raw_HN, _mask(steps, "rated", values), _mask(steps, "alive", values))
    returns = lambda_returns(
        raw_HN.clamp(-MAX_REWARD, MAX_REWARD) - torch.stack([step["penalty"] for step in steps]),
        values[1:],
        module.gamma,
        module.lam,
        _mask(steps, "goes_on", values).float(),
    )
    return Rollout(_buffer(steps, values[:-1], returns), now, _scores(steps, returns))


def write_turn(module: DreamCUB, states: Sequence[State]) -> dict[str, Any]:
    """Return one reply in each state, with its log-probabilities and the states' values."""
    prompts = [module.actor.prompt(state) for state in states]
    ids, logp_T = module.actor.write(prompts)
    with using(module.lm, None):
        reference_T = module.actor.reply_logps(prompts, ids)
    lengths = [len(row) for row in ids]
    texts = [module.tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    return {
        "prompts": prompts,
        "ids": ids,
        "turns": [module.encoder().read_reply(text) for text in texts],
        "logp": list(logp_T.split(lengths)),
        "kl": sums(logp_T - reference_T, lengths),
        "surprise": sums(-logp_T, lengths) / torch.tensor(lengths, device=logp_T.device),
        "value": module.actor.values(prompts),
    }


def filled(rewards_HN: Tensor, rated_HN: Tensor, alive_HN: Tensor) -> Tensor:
    """Return rewards, `(H, N)`, with a neutral one where nobody rated.

    It is the mean of the rated turns that took place, 0 without any: among grades from 1 to 5 a 0
    would say that the reply is the worst.
    """
    given = rewards_HN[alive_HN & rated_HN]
    neutral = given.mean() if len(given) else rewards_HN.new_zeros(())
    return torch.where(rated_HN, rewards_HN, neutral)


def _mask(steps: Sequence[Mapping[str, Any]], name: str, like: Tensor) -> Tensor:
    return torch.tensor([step[name] for step in steps], device=like.device)


def _buffer(steps: Sequence[Mapping[str, Any]], values_HN: Tensor, returns_HN: Tensor) -> Buffer:
    """Lay out the turns of dialogues that had not ended, turn by turn."""
    alive_HN = _mask(steps, "alive", values_HN)
    advantages_HN = normalized(returns_HN - values_HN, alive_HN)
    kept = [(k, n) for k, step in enumerate(steps) for n, a in enumerate(step["alive"]) if a]
    return Buffer(
        [steps[k]["prompts"][n] for k, n in kept],
        [steps[k]["ids"][n] for k, n in kept],
        torch.cat([steps[k]["logp"][n] for k, n in kept]),
        *(value[alive_HN] for value in (values_HN, returns_HN, advantages_HN)),
    )


def _scores(steps: Sequence[Mapping[str, Any]], returns_HN: Tensor) -> dict[str, float]:
    alive_HN, rated_HN = (_mask(steps, name, returns_HN) for name in ("alive", "rated"))

    def kept(name: str, mask_HN: Tensor) -> Tensor:
        return torch.stack([step[name] for step in steps])[mask_HN]

    found = {
        "reward": kept("raw", alive_HN & rated_HN),
        "return": returns_HN[0, ~(alive_HN & ~rated_HN).any(0)],
        "kl": kept("kl", alive_HN),
        "entropy": kept("surprise", alive_HN),
        "value": kept("value", alive_HN),
    }
    return {name: float(values.mean()) for name, values in found.items() if len(values)}


def imagine(
    module: DreamCUB, states: Sequence[State], names: Sequence[str], *, known: bool = False
) -> Rollout:
    """Lead imagined dialogues of H turns from real states.

    Args:
        module: Policy, critic and world model.
        states: Real states.
        names: Seeds of the sampled beliefs.
        known: The states hold beliefs that were inferred; else one is sampled from q for each.
    """
    world = module.world
    agreed: list[bool] = []

    def respond(now: Sequence[State], replies: Sequence[Turn], k: int) -> Any:
        rewards = world.rewards(now, replies)
        after = [heard(state, reply) for state, reply in zip(now, replies, strict=True)]
        seeds = [f"{name}-{k}" for name in names]
        beliefs, words = world.foresee(after, seeds, module.temperature_of_policy)
        following = [heard(*rest) for rest in zip(now, replies, words, strict=True)]
        following = world.infer(following, [f"{seed}-q" for seed in seeds])
        agreed.extend(state.belief == b for state, b in zip(following, beliefs, strict=True))
        return rewards, [True] * len(now), following

    begun = states if known else world.infer(states, names)
    rollout = roll(module, begun, module.horizon, respond)
    rollout.scores["disagreement"] = 1 - sum(agreed) / max(1, len(agreed))
    return rollout


def planned(module: DreamCUB, states: Sequence[State], candidates: int) -> list[list[int]]:
    """Return the reply with the highest imagined return G_0 in each state, as token ids.

    All candidates for a state are told its one belief.

    Args:
        module: Policy, critic and world model.
        states: Where a reply is awaited, with the belief that was inferred.
        candidates: Replies that are sampled and imagined in each.
    """
    many = [state for state in states for _ in range(candidates)]
    names = [f"{state.decision.id}-plan-{i % candidates}" for i, state in enumerate(many)]
    rollout = imagine(module, many, names, known=True)
    buffer = rollout.buffer  # the first turns of all dialogues come first
    best = buffer.returns[: len(many)].view(-1, candidates).argmax(1).tolist()
    return [buffer.replies[i * candidates + place] for i, place in enumerate(best)]

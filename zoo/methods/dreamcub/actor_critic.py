"""Policy and critic behind their adapters: what they read, log-probabilities, values, losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.adapters import using
from zoo.encoding import NO_HEAD, collate, join, unlearned
from zoo.losses.cross_entropy import Term
from zoo.losses.preference import dpo_loss, linear_log_probs
from zoo.methods.dreamcub.behaviour import Buffer, policy_loss, sums, value_loss
from zoo.methods.dreamcub.encoder import State
from zoo.methods.dreamcub.roles import CRITIC, POLICY
from zoo.records import Turn
from zoo.support.encoder import SPEAK

if TYPE_CHECKING:
    from zoo.methods.dreamcub.module import DreamCUB


class ActorCritic:
    """pi and V of a module.

    Args:
        module: Holds the language model and the value head.
    """

    def __init__(self, module: DreamCUB) -> None:
        self.module = module

    def prompt(self, state: State) -> list[int]:
        """Return what policy and critic read."""
        told = state if self.module.believes("policy") else replace(state, belief=None)
        return self.module.encoder().reply(told)

    def reply_logps(self, prompts: Sequence[list[int]], replies: Sequence[list[int]]) -> Tensor:
        """Return log pi of the replies' tokens under the active adapter, end to end, `(T,)`."""
        pairs = zip(prompts, replies, strict=True)
        examples = [join([(a, NO_HEAD, 0.0), (b, SPEAK, 1.0)]) for a, b in pairs]
        batch = collate(examples, {}).to(self.module.device)
        rows_T = (batch.head_ids[0] != NO_HEAD).nonzero()[:, 0]
        return self.token_logps(self.module.run_blocks(batch)[0, rows_T], batch.labels[0, rows_T])

    def token_logps(self, states_TD: Tensor, tokens_T: Tensor) -> Tensor:
        """Return log pi of tokens, `(T,)`, given the states before them.

        It is that of the distribution that is sampled from: logits / temperature.
        """
        weight, norm = self.module.output_head
        hidden_TD = norm(states_TD) / self.module.temperature_of_policy
        return linear_log_probs(hidden_TD, weight, tokens_T)

    def write(self, prompts: Sequence[list[int]]) -> tuple[list[list[int]], Tensor]:
        """Return a reply to each prompt, and log pi of their tokens as `reply_logps` does.

        In float32 the states of decoding are those of a pass over prompt and reply up to rounding,
        so that pass is saved. In bfloat16 the ratios of PPO would not begin at 1.
        """
        module = self.module
        with using(module.lm, POLICY):
            replies, states_TD = module.written(prompts, module.temperature_of_policy)
            if torch.is_autocast_enabled(states_TD.device.type) or states_TD.dtype != torch.float32:
                return replies, self.reply_logps(prompts, replies)
            tokens_T = torch.tensor([token for reply in replies for token in reply])
            return replies, self.token_logps(states_TD, tokens_T.to(states_TD.device))

    def values(self, prompts: Sequence[list[int]]) -> Tensor:
        """Return V of each prompt, `(R,)`."""
        batch = collate([unlearned(ids) for ids in prompts], {}).to(self.module.device)
        with using(self.module.lm, CRITIC):
            last_RD = self.module.run_blocks(batch)[0, batch.ends]
        return self.module.value_head(self.module.lm.model.norm(last_RD))[:, 0].float()

    def behaviour_losses(self, part: Buffer) -> dict[str, Term]:
        """Return L_pi and L_V of imagined turns, equation (6)."""
        with using(self.module.lm, POLICY):
            logp_T = self.reply_logps(part.prompts, part.replies)
        lengths = [len(reply) for reply in part.replies]
        policy_R = policy_loss(logp_T, part.old_logp, part.advantages, lengths, self.module.clip)
        values_R = self.values(part.prompts)
        critic_R = value_loss(values_R, part.old_values, part.returns, self.module.value_clip)
        count = torch.tensor(float(len(part)), device=policy_R.device)
        terms = {"policy": policy_R, "value": critic_R}
        return {name: Term(loss.sum(), count, float(len(part))) for name, loss in terms.items()}

    def preference_losses(
        self, states: Sequence[State], better: Sequence[Turn], worse: Sequence[list[int]]
    ) -> dict[str, Term]:
        """Return DPO of the data's replies before sampled ones (baseline)."""
        encoder, prompts = self.module.encoder(), [self.prompt(state) for state in states]
        good = [encoder.said(encoder.reply_text(turn)) for turn in better]
        both, lengths = [*good, *worse], [len(ids) for ids in (*good, *worse)]
        with using(self.module.lm, POLICY):
            now = sums(self.reply_logps([*prompts, *prompts], both), lengths)
        with torch.no_grad(), using(self.module.lm, None):
            base = sums(self.reply_logps([*prompts, *prompts], both), lengths)
        loss_S = dpo_loss(*now.chunk(2), *base.chunk(2))
        count = float(len(states))
        return {"dpo": Term(loss_S.sum(), torch.tensor(count, device=loss_S.device), count)}

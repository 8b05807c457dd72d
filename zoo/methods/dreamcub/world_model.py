"""The dialogue world model: belief, transition and reward behind one adapter.

    q(b_t | h_t, o_t),  p(b_t | h_t),  p(o_t | h_t, b_t),  r(h_t, o_t, b_t, a_t)

Its losses are those of `world_losses.py`. Shapes: S states, F factors, K labels of a factor.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.adapters import using
from zoo.decoding.option_logits import option_logits
from zoo.encoding import NO_HEAD, collate, join, unlearned
from zoo.losses.cross_entropy import Term
from zoo.losses.preference import sequence_log_probs
from zoo.methods.dreamcub.belief import Belief, indices
from zoo.methods.dreamcub.encoder import MOMENTS, BeliefStateEncoder, State
from zoo.methods.dreamcub.roles import WORLD, Component
from zoo.methods.dreamcub.world_losses import kl_term, label_term
from zoo.records import Turn
from zoo.support.decisions import ROLES

if TYPE_CHECKING:
    from zoo.methods.dreamcub.module import DreamCUB

OBSERVED = 0  # the one head of an utterance
NAMES = tuple(f"{name}:" for name in ROLES.values())  # what another turn begins with
Graded = tuple[State, Turn, float | None]
"""A state, the reply in it, and the reward that an environment gave; None where nobody rated."""


class WorldModel:
    """q, p, the observation model and the reward of a module, under its adapter.

    Args:
        module: Holds the language model and the reward head.
    """

    def __init__(self, module: DreamCUB) -> None:
        self.module = module

    @property
    def encoder(self) -> BeliefStateEncoder:
        """The module's encoder."""
        encoder: BeliefStateEncoder = self.module.encoder()
        return encoder

    # -- belief --------------------------------------------------------------------------------

    def factor_logps(
        self, prompts: Sequence[list[int]], paths: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        """Return the log-probabilities of each factor along paths, F tensors `(S, K)`.

        A prompt that is asked along equal paths is read once; the last letter is never read.

        Args:
            prompts: Of posterior or prior.
            paths: Index of each factor's label; only those before a factor change it.
        """
        pairs = [self.encoder.chain(*pair) for pair in zip(prompts, paths, strict=True)]
        rows = {tuple(ids): None for ids, _ in pairs}
        row_of = {ids: i for i, ids in enumerate(rows)}
        states_ND, offsets = self._states([list(ids) for ids in rows])
        begins = offsets[[row_of[tuple(ids)] for ids, _ in pairs], None]
        places = begins + torch.tensor([p for _, p in pairs], device=offsets.device)
        weight, norm = self.module.output_head
        return [
            option_logits(
                states_ND[places[:, i]], norm, weight, self.encoder.letter_ids[: len(f.labels)]
            ).log_softmax(-1)
            for i, f in enumerate(self.encoder.factors)
        ]

    def draw(
        self, prompts: Sequence[list[int]], names: Sequence[str] | None
    ) -> tuple[list[list[int]], list[Tensor]]:
        """Write a belief for each prompt, factor by factor.

        Args:
            prompts: Of posterior or prior.
            names: Sample each with a seed made of its name; None takes the likeliest letters.

        Returns:
            The paths, and the probabilities of each factor, F tensors `(S, K)`.
        """
        encoder, module = self.encoder, self.module
        seeds = [torch.Generator().manual_seed(zlib.crc32(name.encode())) for name in names or ()]
        paths: list[list[int]] = [[] for _ in prompts]
        found = []
        weight, norm = module.output_head
        with torch.no_grad(), using(module.lm, WORLD):
            decoder = module.new_decoder(len(prompts))
            decoder.open([[*prompt, *encoder.fields[0]] for prompt in prompts])
            for i, factor in enumerate(encoder.factors):
                if i:
                    last = [encoder.letter_ids[path[-1]] for path in paths]
                    decoder.feed([[token, *encoder.fields[i]] for token in last], 0)
                letters = encoder.letter_ids[: len(factor.labels)]
                chance = option_logits(decoder.state(), norm, weight, letters).softmax(-1)
                chosen = (
                    [
                        int(torch.multinomial(row.cpu(), 1, generator=seed))
                        for row, seed in zip(chance, seeds, strict=True)
                    ]
                    if seeds
                    else chance.argmax(-1).tolist()
                )
                for path, index in zip(paths, chosen, strict=True):
                    path.append(index)
                found.append(chance)
        return paths, found

    def belief_of(self, path: Sequence[int]) -> Belief:
        """Return the labels of a path."""
        pairs = zip(self.encoder.factors, path, strict=True)
        return tuple(factor.labels[index] for factor, index in pairs)

    def infer(self, states: Sequence[State], names: Sequence[str] | None = None) -> list[State]:
        """Return states with b_t ~ q(b_t | h_t, o_t); see `draw`."""
        paths, _ = self.draw([self.encoder.posterior(state) for state in states], names)
        return [
            replace(state, belief=self.belief_of(path))
            for state, path in zip(states, paths, strict=True)
        ]

    # -- transition and reward -----------------------------------------------------------------

    def foresee(
        self, states: Sequence[State], names: Sequence[str] | None, temperature: float
    ) -> tuple[list[Belief], list[str]]:
        """Return b_{t+1} ~ p and o_{t+1} ~ p(o | h, b) for states that end with a reply."""
        encoder, module = self.encoder, self.module
        paths, _ = self.draw([encoder.prior(state) for state in states], names)
        beliefs = [self.belief_of(path) for path in paths]
        told = beliefs if module.believes("observation") else [None] * len(states)
        asked = [replace(state, belief=b) for state, b in zip(states, told, strict=True)]
        with using(module.lm, WORLD):
            ids = module.write([encoder.observation(state) for state in asked], temperature)
        texts = [module.tokenizer.decode(row, skip_special_tokens=True) for row in ids]
        return beliefs, [of_seeker(text) for text in texts]

    def rewards(self, states: Sequence[State], replies: Sequence[Turn]) -> Tensor:
        """Return r(h_t, o_t, b_t, a_t), `(S,)`."""
        rows = [
            [*self.encoder.reply(self._told(state, "reward")), *self._said(reply)]
            for state, reply in zip(states, replies, strict=True)
        ]
        states_ND, offsets = self._states(rows)
        last_SD = self.module.lm.model.norm(states_ND[offsets[1:].long() - 1])
        return self.module.reward_head(last_SD)[:, 0].float()

    # -- losses --------------------------------------------------------------------------------

    def losses(
        self,
        states: Sequence[State],
        normalizers: dict[int, float],
        *,
        names: Sequence[str],
        worse: Sequence[Turn] | None = None,
        graded: Sequence[Graded] = (),
    ) -> dict[str, Term]:
        """Return the terms of L by name.

        Args:
            states: With the labels of the data as belief.
            normalizers: States of the whole step, under `MOMENTS`.
            names: Seeds of the paths (see `draw`).
            worse: A reply for each state that the one of the data is preferred to; None leaves the
                reward out.
            graded: What an environment rewarded.
        """
        weights, encoder = self.module.weights, self.encoder
        gold = torch.tensor([indices(encoder.factors, s.belief or ()) for s in states])
        gold = gold.to(self.module.device)
        asked = [encoder.posterior(state) for state in states]
        sampled, _ = self.module.quietly(lambda: self.draw(asked, names))
        paths = torch.where(gold >= 0, gold, torch.tensor(sampled, device=gold.device)).tolist()
        moments = normalizers.get(MOMENTS, 1.0)
        drawn = sampled if weights.kl else []  # one pass reads both paths of a prompt
        found = self.factor_logps([*asked, *asked[: len(drawn)]], [*paths, *drawn])
        terms = {"belief": label_term([f[: len(states)] for f in found], gold, moments)}
        if weights.observation:
            terms["observation"] = self.utterances(states, moments)
        if weights.kl:
            q = [f[len(states) :] for f in found]
            p = self.factor_logps([encoder.prior(s) for s in states], sampled)
            terms["kl"] = kl_term(q, p, gold, moments, weights.balance)
        if weights.prior:
            p = self.factor_logps([encoder.prior(s) for s in states], paths)
            terms["prior"] = label_term(p, gold, moments)
        if worse is not None:
            terms["reward"] = self._preference(states, worse, moments)
        if graded:
            terms["graded"] = self._grades(graded)
        return terms

    def utterances(self, states: Sequence[State], moments: float) -> Term:
        """Return L_obs of the last utterance of each state; one that ends with a reply has none."""
        examples = []
        for state in states:
            prompt = self.encoder.observation(self._told(state, "observation"))
            text = state.decision.query
            said = self.encoder.said(text)
            learned = [(prompt, NO_HEAD, 0.0), (said, OBSERVED, 1.0)]
            examples.append(join(learned) if text else unlearned(prompt))
        batch = self._batch(examples)
        with using(self.module.lm, WORLD):
            hidden = self.module.run_blocks(batch)
        weight, norm = self.module.output_head
        logp_S = sequence_log_probs(hidden, batch, weight, norm)
        sizes = [sum(head != NO_HEAD for head in example.head_ids) for example in examples]
        sizes_S = torch.tensor(sizes, device=logp_S.device)
        count = (sizes_S > 0).sum().float()
        return Term((-logp_S / sizes_S.clamp_min(1)).sum(), count, moments)

    def _preference(self, states: Sequence[State], worse: Sequence[Turn], moments: float) -> Term:
        better = [state.decision.target for state in states]
        both = self.rewards([*states, *states], [*better, *worse])
        margin_S = both[: len(states)] - both[len(states) :]
        count = torch.tensor(float(len(states)), device=margin_S.device)
        return Term(-F.logsigmoid(margin_S).sum(), count, moments)

    def _grades(self, graded: Sequence[Graded]) -> Term:
        states, replies, given = zip(*graded, strict=True)
        target = torch.tensor([grade or 0.0 for grade in given], device=self.module.device)
        rated = torch.tensor([grade is not None for grade in given], device=target.device)
        errors = 0.5 * (self.rewards(states, replies) - target) ** 2 * rated
        return Term(errors.sum(), rated.sum().float(), max(1.0, float(rated.sum())))

    # -- parts ---------------------------------------------------------------------------------

    def _told(self, state: State, component: Component) -> State:
        return state if self.module.believes(component) else replace(state, belief=None)

    def _said(self, reply: Turn) -> list[int]:
        return self.encoder.said(self.encoder.reply_text(reply))

    def _states(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Return the states of all tokens end to end, `(N, D)`, and where each row begins."""
        batch = self._batch([unlearned(row) for row in rows])
        with using(self.module.lm, WORLD):
            return self.module.run_blocks(batch)[0], batch.offsets

    def _batch(self, examples: Sequence[Any]) -> Any:
        return collate(examples, {}).to(self.module.device)


def of_seeker(text: str) -> str:
    """Return the lines that a seeker says in a text that may go on with somebody's next turn.

    Several messages in a row are learned as lines, so they are heard as lines. `...` where there is
    nothing.
    """
    lines = text.strip().split("\n")
    own = takewhile(lambda line: not line.lstrip().startswith(NAMES), lines)
    return "\n".join(filter(None, (" ".join(line.split()) for line in own))) or "..."

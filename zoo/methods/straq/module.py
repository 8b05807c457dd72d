"""straQ*: convert language model into a value-based strategic planner.

arXiv 2505.06987 (ACL 2025 Industry). Emotional support as a Markov decision process whose actions
are the strategies of the next supporter turn. A causal language model is the Q-network, without any
new parameter: asked a multiple-choice question about the state, the score that it gives a letter is
the value of that strategy. It learns by temporal differences instead of cross-entropy; the best
letter is the plan, and any other dialogue model writes the reply.

    (1)  s_t = (description, emotion, history, query),  a_t in A..H,  s' = s_{t+1} as logged
    (2)  Q_theta(s, a) = score of the letter a at the last position of I(s)
    (3)  y = r + gamma (1 - done) max_a' Q_phi(s', a')             no gradient
    (4)  L = mean over (s, a) of (Q_theta(s, a) - y)^2
    (5)  phi <- theta after every C-th optimiser step
    (6)  a* = argmax_a Q_theta(s, a),  reply = responder(s, a*, definition of a*)

straQ*-imit: r = +1 for the logged strategy, -1 for another one, as many of these as of those.
straQ*-distill: r is a judge's grade, 0 to 5.

Shapes: S states, N judged pairs (s, a), K strategies, D width.

Follows: the language model as Q-network with all K values in one pass, plain max with the target
network (not double DQN), gamma 0.85, C = 10, the optimiser of the released training script (Adam
0.9/0.95, no decay, clip 1, 5e-6, 3 % warm-up, cosine to a tenth).
Deviates: the pairs of one state share its pass, so they are always in one batch; the released code
has one pair a row. The release copies the target every 3 steps and hands over one module as both
networks; here the target is a real copy, of what is trained only. The release leaves out the body
of its reward function. Actions are letters, one token each: there is no averaging over the tokens
of longer actions.
Unknown in the paper, chosen here: Q is the letter's raw logit, `mean_logit` (the account says both
"average log-probability" and "average logit", and a letter is one token, so there is nothing to
average). A log-probability cannot reach a positive target; `token_prob`, the released code's
softmax over the whole vocabulary, saturates, so grades are scaled by (1 - gamma) / 5 with it. The
state after a strategy that was not used is not known: the logged one stands in. Nothing follows the
last decision. The target runs without dropout. Ties go to the first strategy.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.backbone import Backbone, as_config
from zoo.decoding.option_logits import option_logits
from zoo.encoding import Batch
from zoo.errors import InputError, SaidOnce
from zoo.losses.cross_entropy import Term, total_loss
from zoo.methods.straq.encoder import VALUES, TransitionBatch, TransitionEncoder
from zoo.methods.straq.evaluation import PlanningModule, Respond
from zoo.methods.straq.grading import FEEDBACK, Distilled, open_grader
from zoo.methods.straq.responder import Responder
from zoo.methods.straq.rewards import Imitated, Reward
from zoo.methods.straq.temporal_difference import td_errors, td_targets
from zoo.module import evaluating
from zoo.optimizer import Optimizer
from zoo.records import Dialogue
from zoo.support.evaluation import DEFAULTS
from zoo.support.judging import MAX_GRADE, SupportJudge
from zoo.weight_copy import WeightCopy

log = logging.getLogger(__name__)
log.addFilter(SaidOnce())  # settings are checked more than once
READOUTS = Literal["mean_logit", "mean_logprob", "token_prob", "value_head"]


class StraQ(PlanningModule):
    """A language model that plans support strategies by their values.

    Args:
        backbone: The planner.
        optimizer: AdamW and its schedule; by default that of the released script.
        reward: `imit`: +1 for the logged strategy, -1 for another; `distill`: grades of a judge.
        grades: With `distill`: `feedback`, the seekers' own ratings (only of logged strategies), or
            a JSONL file of recorded grades (`zoo.judges.recorded`).
        judge: With a file of grades: a model to ask for those that are not there, which are added.
            Do that in one process before training in several. None replays only. In Python,
            `module.judge` may be any `zoo.support.judging.SupportJudge`.
        alternatives: With `distill`: strategies to grade beside the logged one; 7 for all. None:
            1, and with `feedback` 0, so that no alternative learns a value.
        reuse_next: A strategy that was not used is followed by the logged next state; False: by
            nothing.
        readout: What Q is: the letter's `mean_logit`, `mean_logprob` or `token_prob`, or the
            ablation `value_head`, a linear head of K values on the last hidden state.
        objective: `td`, or the ablation `cross_entropy` on the letter (autoregressive).
        gamma: Discount of the next state's value.
        sync_every: C, optimiser steps between copies to the target.
        labels: `support` (ESConv's 8 strategies) or `acts` (DailyDialog's 4).
        responder: Writes the replies; None for plans alone.
        max_length: Window of a prompt in tokens, the responder's too; the oldest turns are left
            out.
        padding_free: Lay prompts end to end instead of padding them.
        max_new_tokens: Limit of a reply.
        max_generated: Decisions with a reply in each validation or test; None for all.
        seed: Seed of the strategies that are drawn beside the logged ones.
    """

    takes: ClassVar[tuple[type, ...]] = (Dialogue,)
    passes: ClassVar[tuple[str, ...]] = ()  # a step runs two: online and target

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer = DEFAULTS,
        reward: Literal["imit", "distill"] = "imit",
        grades: str = "feedback",
        judge: Backbone | None = None,
        alternatives: int | None = None,
        reuse_next: bool = True,
        readout: READOUTS = "mean_logit",
        objective: Literal["td", "cross_entropy"] = "td",
        gamma: float = 0.85,
        sync_every: int = 10,
        labels: Literal["support", "acts"] = "support",
        responder: Backbone | None = None,
        max_length: int = 2048,
        padding_free: bool = True,
        max_new_tokens: int = 64,
        max_generated: int | None = 8,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, optimizer, labels=labels, max_generated=max_generated)
        self.save_hyperparameters()
        self.reward, self.grades = reward, grades
        self.judge: SupportJudge | Backbone | None = judge and as_config(Backbone, judge)
        self.alternatives = alternatives
        self.reuse_next, self.seed = reuse_next, seed
        self.readout, self.objective = readout, objective
        if objective == "cross_entropy":
            self.readout = "mean_logprob"  # what it learns; the order of values is that of logits
        self.gamma, self.sync_every = gamma, sync_every
        self.max_length, self.padding_free = max_length, padding_free
        self.responder: Respond | None = None
        if responder is not None:
            config = as_config(Backbone, responder)
            window = {"max_length": max_length, "max_new_tokens": max_new_tokens}
            self.responder = Responder(config, self.labels, **window)
        self.target = WeightCopy()

    def validate(self) -> None:
        """Check the settings against each other.

        Raises:
            InputError: They do not fit.
        """
        rest = len(self.labels.names) - 1
        if not 0 <= self.gamma < 1:
            raise InputError(f"model.gamma: {self.gamma} is not in 0..1 (1 excluded)")
        if isinstance(self.judge, Backbone) and self.grades == "feedback":
            raise InputError(
                "model.judge: its grades are kept in a file; name one: model.grades: grades.jsonl"
            )
        if not 0 <= (self.alternatives or 0) <= rest:
            raise InputError(f"model.alternatives: {self.alternatives} is not in 0..{rest}")
        if self.rated and self.alternatives:
            raise InputError(
                "model.alternatives: seekers rate the strategy that was used alone; take 0, or "
                "name a file of grades: model.grades: grades.jsonl"
            )
        if self.rated:
            log.warning("model.grades: feedback: the value of an alternative is never learned")
        if self.objective == "cross_entropy" and self.reward == "distill":
            raise InputError("model.reward: distill needs model.objective: td")
        if self.objective == "cross_entropy" and self.hparams["readout"] == "value_head":
            raise InputError("model.objective: cross_entropy learns a letter, value_head has none")
        if self.readout == "mean_logprob" and self.objective == "td":
            log.warning(
                "model.readout: a log-probability cannot reach a positive target; use mean_logit"
            )

    @property
    def rated(self) -> bool:
        """Whether the seekers' own ratings are the rewards."""
        return self.reward == "distill" and self.grades == FEEDBACK and self.judge is None

    def install(self) -> None:
        """Add nothing to the language model, or the ablation's head."""
        if self.readout == "value_head":
            weight = self.lm.lm_head.weight
            size = weight.shape[1], len(self.labels.names)
            self.value_head = nn.Linear(*size, device=weight.device)
            if weight is not self.lm.model.embed_tokens.weight:
                weight.requires_grad_(False)  # nothing reads it

    def build_encoder(self, tokenizer: Any) -> TransitionEncoder:
        """Return the encoder: states, judged strategies, next states."""
        if self.objective == "td" and self.reward == "distill":
            scale = (1 - self.gamma) / MAX_GRADE if self.readout == "token_prob" else 1.0
            default = 0 if self.rated else 1
            reward: Reward = Distilled(
                lambda: open_grader(self.grades, self.judge, self.labels),
                self.labels,
                default if self.alternatives is None else self.alternatives,
                self.seed,
                scale,
            )
        else:
            negatives = 0 if self.objective == "cross_entropy" else 1
            reward = Imitated(self.labels, negatives, self.seed)
        return TransitionEncoder(
            tokenizer,
            self.labels,
            reward,
            self.reuse_next,
            max_length=self.max_length,
            packed=self.padding_free,
        )

    # -- values --------------------------------------------------------------------------------

    def forward(self, prompts: Batch) -> Tensor:
        """Return Q_theta(s, .) of equation (2) for every prompt, `(S, K)`, in float32."""
        last_SD = self.run_blocks(prompts).flatten(0, 1)[prompts.ends]
        letters, (weight, norm) = self.encoder().letter_ids, self.output_head
        if self.readout == "value_head":
            head = self.value_head
            return option_logits(last_SD, norm, head.weight, range(len(letters))) + head.bias
        if self.readout == "mean_logit":
            return option_logits(last_SD, norm, weight, letters)
        logprob_SK = self.last_logits(last_SD).float().log_softmax(1)[:, letters]
        return logprob_SK.exp() if self.readout == "token_prob" else logprob_SK

    @evaluating
    def next_values(self, batch: TransitionBatch) -> Tensor:
        """Return Q_phi(s', .) of the target, `(S, K)`."""
        with self.target.used(self):
            return self(batch.after)

    def losses_and_values(self, batch: TransitionBatch) -> tuple[dict[str, Term], Tensor]:
        """Return L of equation (4), or the cross-entropy of the letter; and Q_theta, `(S, K)`."""
        if self.objective == "cross_entropy":
            values_SK = self(batch.now)
            errors_N = -values_SK[batch.state, batch.action]
        else:  # the target first: its weights take the place of those that a graph would need
            next_NK = self.next_values(batch)[batch.state]
            targets_N = td_targets(batch.reward, next_NK, batch.done, self.gamma)
            values_SK = self(batch.now)
            errors_N = td_errors(values_SK[batch.state, batch.action], targets_N)
        count = torch.tensor(float(len(errors_N)), device=errors_N.device)
        normalizer = batch.normalizers.get(VALUES, 1.0)
        return {self.objective: Term(errors_N.sum(), count, normalizer)}, values_SK

    def training_step(self, batch: TransitionBatch, batch_idx: int) -> Tensor:
        """Return L."""
        terms, values_SK = self.losses_and_values(batch)
        self.log_terms("train", terms)
        self.log("train/value", values_SK.detach().mean(), batch_size=len(values_SK))
        return total_loss(terms)

    # -- the target ----------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Start with target = online, or go on with what a checkpoint holds; equation (5)."""
        if self.global_step == 0:  # a new run, whatever an earlier one has left
            self.target = WeightCopy()
        self.target.attach(self)
        if not self.target.values and self.objective == "td":
            self.target.sync(self)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step; after every C-th step copy theta to phi, before anything else sees the weights."""
        super().optimizer_step(*args, **kwargs)
        if self.objective == "td" and (self.global_step + 1) % self.sync_every == 0:
            self.target.sync(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the target."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["target"] = self.target.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the target."""
        super().on_load_checkpoint(checkpoint)
        if checkpoint.get("target"):  # a cross-entropy run has none
            self.target.load(checkpoint["target"])

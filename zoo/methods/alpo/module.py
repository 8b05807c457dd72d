"""ALPO: adaptive local preference optimisation for expressive subtitle translation.

arXiv 2602.01068 (ICLR 2026). Subtitles want free, vivid lines, and only some lines of a block can
be rendered better. DPO over whole outputs spreads one preference over all of them; ALPO compares
candidates of each segment alone, after a translated prefix, and lets how far a judge tells them
apart say how much each pair counts.

    (1)  L_SFT = mean over the response's tokens of CE
    (2)  t_i^c, t_i^r, g_i   of candidates T_i = {reference, samples} with scores r   choose.py
    (3)  w_i = g_i |T_i| / sum_j |T_j|
    (4)  beta_i = beta_scale gap_i / max_{g_j = 1} gap_j,   gap_i = r(t_i^c) - r(t_i^r)
    (5)  p_{i+1} = p_i + t_i^c with probability lambda(t), else + any of T_i
         lambda(t) = 0.2 + 0.4 t / T
    (6)  h_i = [log pi(t_i^c|p_i) - log pi_0(t_i^c|p_i)] - [log pi(t_i^r|p_i) - log pi_0(t_i^r|p_i)]
    (7)  L = mean over blocks of sum_i w_i softplus(-beta_i h_i)

All p_i of a block and step grow along one chain, so its pairs are the leaves of a tree, which one
pass runs (zoo/trees.py). pi_0 is the policy as the run starts, in a pass without gradient.

Shapes: B blocks, L tokens, S leaves, P pairs, D width.

Follows: (2) with its ties, scores rounded before the gate, no verdict (gate closed, the reference
carries the prefix); chosen drawn once per block; sums of log-probabilities over the segment's
tokens, no length average; no SFT term; SFT on the response only.
Deviates from the released code: weights are not divided by their sum in a micro-batch, which there
is one pair, where w cancels (`normalize: pairs`); lambda follows the training step, not a file's
order (`mixing_stages: 5` in its five stages); the reference is run in the step, since prefixes
change; an example is a block and not a pair; a block that is longer than the window is refused
instead of cut on the left; blocks without an open gate are left out of the mean; segment DPO leaves
out pairs whose chosen side does not score above its rejected one (frequent below 5 candidates),
where the release has no gate; a judge sees no line beyond the block (rubric.py), where it is shown
7 on each side; a block's terms come from a glossary whose entries stand in its
lines, where the paper trains a model to find them.
Unknown, chosen here: from other accounts of the paper beta is normalised over the block, not the
batch, and the gate reads the range (`gate_statistic: variance` the other reading). Judge, segments
and sampling: scoring.py, segments.py, candidates.py.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.backbone import Backbone
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term, head_loss, total_loss
from zoo.losses.preference import dpo_loss, node_log_probs
from zoo.methods.alpo.choose import PairRule, Statistic, mixing
from zoo.methods.alpo.encoder import TRANSLATION, BlockEncoder, Objective, PreferenceEncoder
from zoo.methods.alpo.evaluation import TranslatingModule
from zoo.methods.alpo.figures import Margins, pair_figures
from zoo.methods.alpo.preference_tree import BLOCK, PreferenceBatch
from zoo.module import evaluating
from zoo.optimizer import Optimizer, total_steps
from zoo.records import ScoredBlock, SubtitleBlock
from zoo.trees import TreeBatch, tree_attention
from zoo.weight_copy import WeightCopy


class ALPO(TranslatingModule):
    """A translator of subtitle blocks, learned from references or from preferences of segments.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        objective: `sft`, equation (1), on blocks with a translation; `alpo`, equation (7), on
            blocks with scored candidates; its baselines `segment_dpo` (chosen prefixes, and
            alike every segment whose chosen side scores above the rejected one) and `outcome_dpo`
            (whole blocks).
        beta_scale: Factor of beta of equation (4), 1 / nats.
        dpo_beta: beta of the baselines, 1 / nats.
        min_beta: Smallest beta of an open gate, 0 to 1, before `beta_scale`.
        gate_statistic: Of a segment's scores: `range`, or `variance`.
        gate_spread: A gate opens where that is above this, in points (or their square).
        normalize: `blocks`, equation (7); `pairs`, the mean over pairs without w, which is the
            released code's with its one pair in a micro-batch; `micro_batch` divides by the sum of
            the weights of a micro-batch of blocks, so that pairs of a block still count by n_i.
        mixing_stages: Let lambda rise in so many stages; None for every step.
        seed: Of what is drawn once per block, and of the prefixes.
        max_length: Window in tokens.
        max_answer_tokens: Limit of a translated block.
        max_generated: Blocks to translate in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (SubtitleBlock, ScoredBlock)
    passes: ClassVar[tuple[str, ...]] = ()  # a step runs two: the reference and the policy

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        objective: Objective = "sft",
        beta_scale: float = 1.0,
        dpo_beta: float = 0.1,
        min_beta: float = 0.0,
        gate_statistic: Statistic = "range",
        gate_spread: float = 5.0,
        normalize: Literal["blocks", "micro_batch", "pairs"] = "blocks",
        mixing_stages: int | None = None,
        seed: int = 0,
        max_length: int = 8192,
        max_answer_tokens: int = 1300,
        max_generated: int | None = 16,
    ) -> None:
        super().__init__(
            backbone, optimizer, max_answer_tokens=max_answer_tokens, max_generated=max_generated
        )
        self.save_hyperparameters()
        self.objective, self.beta_scale, self.dpo_beta = objective, beta_scale, dpo_beta
        self.gate_statistic, self.gate_spread, self.min_beta = gate_statistic, gate_spread, min_beta
        self.normalize, self.mixing_stages, self.seed = normalize, mixing_stages, seed
        self.max_length = max_length
        self.reference, self.restored = WeightCopy(), False  # by this fit, from a checkpoint
        self.recent: deque[Margins] = deque(maxlen=100)  # of the last steps, for the figures

    def validate(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            InputError: One stage, a beta that is not above 0, or a smallest one beyond 0 to 1.
        """
        if self.mixing_stages is not None and self.mixing_stages < 2:
            raise InputError(f"model.mixing_stages: {self.mixing_stages} is below 2")
        for name in ("beta_scale", "dpo_beta"):
            if getattr(self, name) <= 0:
                raise InputError(f"model.{name}: {getattr(self, name)} is not above 0")
        if not 0 <= self.min_beta <= 1:
            raise InputError(f"model.min_beta: {self.min_beta} is not from 0 to 1")

    def pair_rule(self) -> PairRule:
        """Return the gate, equation (3) and equation (4); override it for another rule."""
        weighted = self.normalize != "pairs"
        return PairRule(self.gate_statistic, self.gate_spread, self.min_beta, weighted)

    def build_encoder(self, tokenizer: Any) -> BlockEncoder | PreferenceEncoder:
        """Return the encoder of the objective: sequences, or trees of equations (2) to (5)."""
        if self.objective == "sft":
            return BlockEncoder(tokenizer, max_length=self.max_length)
        return PreferenceEncoder(
            tokenizer,
            max_length=self.max_length,
            objective=self.objective,
            rule=self.pair_rule(),
            beta=self.dpo_beta,
            seed=self.seed,
        )

    # -- losses --------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Return the residual stream after the last block, `(B, L, D)`; trees under their mask."""
        if isinstance(batch, TreeBatch):
            return self.run_blocks(batch, attention_mask=tree_attention(self.lm, batch))
        return self.run_blocks(batch)

    def log_probs(self, batch: PreferenceBatch) -> Tensor:
        """Return log pi(t | p) of each leaf, `(S,)`; prompt and prefixes have no part in it."""
        return node_log_probs(self(batch), batch, *self.output_head)

    @evaluating
    def reference_log_probs(self, batch: PreferenceBatch) -> Tensor:
        """Return log pi_0(t | p) of each leaf, `(S,)`, without gradient."""
        with self.reference.used(self):
            return self.log_probs(batch)

    def preference(self, batch: PreferenceBatch) -> tuple[Term, Margins]:
        """Return L of equation (7), and its parts without gradient."""
        # The reference first: its weights take the place of those that a graph would need.
        reference_S = self.reference_log_probs(batch)
        policy_S = self.log_probs(batch)
        chosen, rejected = batch.chosen, batch.rejected
        scale = self.beta_scale if self.objective == "alpo" else 1.0
        betas_P = scale * batch.pair_betas.to(policy_S.dtype)
        chosen_and_rejected = (policy_S[chosen], policy_S[rejected])
        references = (reference_S[chosen], reference_S[rejected])
        losses_P = dpo_loss(*chosen_and_rejected, *references, betas_P)
        weights_P = batch.pair_weights.to(losses_P.dtype)
        count = torch.tensor(sum(plan.count for plan in batch.plans), device=losses_P.device)
        total = (weights_P * losses_P).sum()
        if self.normalize == "micro_batch":
            total = total * count / weights_P.sum().clamp_min(1e-12)
        ratio_S = (policy_S - reference_S).detach()
        rewards = (betas_P * ratio_S[side] for side in (chosen, rejected))
        parts = Margins(weights_P, betas_P, *rewards)
        return Term(total, count, batch.normalizers[BLOCK]), parts

    def losses(self, batch: Any) -> dict[str, Term]:
        """Return L_SFT of equation (1), or L of equation (7)."""
        if self.objective == "sft":
            return {"translation": head_loss(self(batch), batch, TRANSLATION, *self.output_head)}
        return {"preference": self.preference(batch)[0]}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of the objective; prefixes are drawn anew, equation (5)."""
        if self.objective == "sft":
            return super().training_step(batch, batch_idx)
        if self.objective == "alpo":
            lam = mixing(self.global_step, self.total_steps, self.mixing_stages)
            batch = self.encoder().regrow(batch, lam, self.global_step).to(self.device)
            self.log("train/lambda", lam, batch_size=1)
        term, parts = self.preference(batch)
        self.log_terms("train", {"preference": term})
        segments = sum(len(plan.choices) for plan in batch.plans)
        for name, value in parts.means(segments).items():
            self.log(f"train/{name}", value, batch_size=max(1, len(parts.weights)))
        self.recent.append(parts)
        return total_loss({"preference": term})

    # -- the reference -------------------------------------------------------------------------

    def figures(self) -> dict[str, Any]:
        """Return weights, betas and reward margins of the last steps' pairs."""
        return pair_figures(list(self.recent))

    def setup(self, stage: str) -> None:
        """Begin a run, which has a reference of its own unless a checkpoint restores one."""
        super().setup(stage)
        self.restored = False

    def on_train_start(self) -> None:
        """Keep the policy as it starts, or lay out what a checkpoint holds; count the steps."""
        self.total_steps = total_steps(self.trainer)
        self.reference.attach(self)
        if not self.restored and self.objective != "sft":
            self.reference.sync(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the reference, which the trained weights cannot give any more."""
        super().on_save_checkpoint(checkpoint)
        if self.objective != "sft":
            checkpoint["reference"] = self.reference.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the reference."""
        super().on_load_checkpoint(checkpoint)
        if checkpoint.get("reference"):  # an SFT run has none
            self.reference.load(checkpoint["reference"])
            self.restored = True

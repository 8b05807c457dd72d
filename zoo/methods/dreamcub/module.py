"""DreamCUB-style: model-based reinforcement learning on dialogues with user belief modelling.

arXiv 2508.16876 (Findings of EMNLP 2025). **A reconstruction**: neither code nor the paper's
equations, prompts, weights and tables could be read. Established are the three parts of the world
model, an evidence bound with a KL to what the dynamics predicted, the three phases, and that the
belief enters both world model and reward; the rest is inferred after Dreamer (Hafner et al. 2020)
and the PPO code of the same group. The dialogue is a partially observed decision process: o_t the
user's utterance, a_t the reply, h_t everything before o_t, b_t = (emotion, sentiment, intention).

    (1)  b_t ~ q(b | h_t, o_t) posterior,  p(b | h_t) prior,  o_t ~ p(o | h_t, b_t)
    (2)  r_t = r(h_t, o_t, b_t, a_t)
    (3)  L_world = lambda_b L_bel + lambda_o L_obs + lambda_r L_rew + beta L_KL (+ lambda_p L_prior)
    (4)  a_t ~ pi(a | h_t, o_t, b_t),  V(h_t, o_t, b_t)
    (5)  G_k = r_k + gamma [(1 - lambda) V(s_{k+1}) + lambda G_{k+1}],  G_H = V(s_H)
    (6)  A = normalised (G - V);  L_pi clipped surrogate, mean over a reply's tokens;  L_V clipped
    (7)  r_k <- clamp(r_k) - kappa sum_j log(pi / pi_0) - c_ent mean_j log pi

Stages (`schedule.py`): S1 supervised policy, S2 world model, S3 reward, S4 joint: world model on
real data, imagination of H turns, steps on (6), and visits to a user whose turns are replayed.
World model, policy and critic are three adapters over one base, or three full copies of it; pi_0
is the base without any. One optimiser: the loss of a step is chosen by its number, and a step moves
its own adapter or copy alone.

Follows: the structure above; Dreamer's KL balancing.
Deviates: pi_0 is the base and not the supervised policy, whose adapter goes on learning. top-p and
top-k of the sibling recipe are not applied.
Unknown in the paper, chosen here: equations (3) to (7), all weights, the prompts; the reward is
learned from pairs, the reply of the data before one that the policy samples (a policy that comes to
be better than the data is held back by them: `rewards: user` leaves them out); imagination goes
prior, utterance, posterior; a turn that nobody rated has the mean reward of the rated ones; the
entropy bonus is an intrinsic reward; V is read where a reply begins; both heads start from
N(0, 1/(d+1)) with 1/(d+1) as standard deviation. With horizon 0 nothing is imagined and the policy
stays supervised.

Shapes: N dialogues, H turns, R replies, T their tokens, S states, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor, nn

from zoo.adapters import adapter_of, using
from zoo.backbone import Backbone, as_config
from zoo.copies import add_copies
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term, head_loss, total_loss
from zoo.methods.dreamcub.actor_critic import ActorCritic
from zoo.methods.dreamcub.encoder import BeliefStateEncoder
from zoo.methods.dreamcub.environment import User
from zoo.methods.dreamcub.evaluation import BeliefModule
from zoo.methods.dreamcub.learning import Learning
from zoo.methods.dreamcub.roles import CRITIC, POLICY, WORLD, Component
from zoo.methods.dreamcub.schedule import Schedule
from zoo.methods.dreamcub.world_losses import WorldWeights
from zoo.methods.dreamcub.world_model import WorldModel
from zoo.module import evaluating
from zoo.optimizer import Optimizer, adamw, total_steps
from zoo.records import Dialogue
from zoo.support.encoder import SPEAK

R = TypeVar("R")


class DreamCUB(BeliefModule):
    """A policy, a critic and a world model with user beliefs over one language model.

    Args:
        backbone: The base; `lora` says how large the adapters are.
        optimizer: AdamW and its schedule; `lr` is the policy's.
        world_lr: Learning rate of the world model and its reward head.
        critic_lr: Learning rate of the critic and its head.
        schedule: Lengths of the stages.
        weights: Weights of the world model's losses.
        dataset: Whose emotions.
        labels: Names of the replies' strategies: `support`, or `acts` of DailyDialog.
        factors: What a belief consists of, of `emotion`, `sentiment`, `intention`, `intensity`; the
            first three by default. One that the data never label, as `intention` in ESConv and in
            EmpatheticDialogues, is not learned: what is inferred of it is noise.
        surprise: Sentiment of DailyDialog's surprise.
        belief_in: What is told the belief; leave one out as an ablation. `policy`: the critic too.
        use_previous: The prior reads the belief of the turn before.
        strategy_line: A reply begins with its strategy in brackets.
        behaviour: `ppo`, or the baseline `dpo` on pairs of the data's reply and a sampled one.
        rollouts: `imagined`, or the model-free baseline `environment`.
        rewards: What the reward is learned from beside the user's grades: `pairs` of the data's
            reply before a sampled one, or nothing (`user`); then S3 visits the user already.
        user: Who is visited in S4, and how often.
        horizon: H, imagined turns; 0 for none.
        gamma: Discount of a turn.
        lam: lambda of the returns.
        clip: eps of the policy.
        value_clip: eps_v of the critic.
        kappa: Weight of the divergence from the base.
        entropy_bonus: c_ent.
        temperature: Of sampled replies and utterances.
        max_length: Window in tokens; the oldest turns are left out.
        reserve: Tokens of it kept free for what is written.
        max_new_tokens: Limit of a reply and of an utterance.
        candidates: Replies that are imagined for H turns before the best of them is given; 1 gives
            the first one.
        max_generated: Decisions to answer in each validation or test; None for all.
        full_copies: World model, policy and critic are copies of the base instead, all weights of
            which are trained; `backbone.lora` stays empty.
    """

    takes: ClassVar[tuple[type, ...]] = (Dialogue,)
    adapters: ClassVar[tuple[str, ...]] = (POLICY, WORLD, CRITIC)
    reward_head: nn.Linear
    value_head: nn.Linear

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        world_lr: float = 1e-4,
        critic_lr: float = 1e-4,
        schedule: Schedule | None = None,
        weights: WorldWeights | None = None,
        dataset: Literal["esconv", "daily_dialog", "empathetic_dialogues"] = "esconv",
        labels: Literal["support", "acts"] = "support",
        factors: list[str] | None = None,
        surprise: Literal["negative", "neutral", "positive"] = "neutral",
        belief_in: list[Component] | None = None,
        use_previous: bool = True,
        strategy_line: bool = True,
        behaviour: Literal["ppo", "dpo"] = "ppo",
        rollouts: Literal["imagined", "environment"] = "imagined",
        rewards: Literal["pairs", "user"] = "pairs",
        user: User | None = None,
        horizon: int = 2,
        gamma: float = 0.95,
        lam: float = 0.95,
        clip: float = 0.2,
        value_clip: float = 0.2,
        kappa: float = 0.01,
        entropy_bonus: float = 0.0,
        temperature: float = 1.0,
        max_length: int = 1024,
        reserve: int = 192,
        max_new_tokens: int = 64,
        candidates: int = 1,
        max_generated: int | None = 8,
        full_copies: bool = False,
    ) -> None:
        names = ["emotion", "sentiment", "intention"] if factors is None else factors
        super().__init__(
            backbone,
            optimizer,
            labels=labels,
            factors=names,
            dataset=dataset,
            max_generated=max_generated,
        )
        self.save_hyperparameters()
        self.full_copies, self.world_lr, self.critic_lr = full_copies, world_lr, critic_lr
        self.schedule = as_config(Schedule, schedule)
        self.weights = as_config(WorldWeights, weights)
        self.surprise, self.use_previous, self.strategy_line = surprise, use_previous, strategy_line
        told = ["observation", "reward", "policy"] if belief_in is None else belief_in
        self.belief_in = frozenset(told)
        self.behaviour, self.rollouts, self.rewards = behaviour, rollouts, rewards
        self.user = as_config(User, user)
        self.horizon, self.gamma, self.lam = horizon, gamma, lam
        self.clip, self.value_clip = clip, value_clip
        self.kappa, self.entropy_bonus = kappa, entropy_bonus
        self.temperature_of_policy, self.candidates = temperature, candidates
        self.max_length, self.reserve, self.max_new_tokens = max_length, reserve, max_new_tokens
        self.world, self.actor = WorldModel(self), ActorCritic(self)
        self.learning = Learning(self)
        self.loss_weights = self.weights.of_terms()

    def validate(self) -> None:
        """Check the settings against each other.

        Raises:
            InputError: They do not fit.
        """
        if (self.backbone.lora is None) != self.full_copies:
            raise InputError(
                "model.backbone.lora: world model, policy and critic are either adapters, for "
                "example with configs/overlays/lora.yaml, or full_copies; give one of both"
            )
        if self.full_copies and self.backbone.load_4bit:
            raise InputError("model.full_copies: 4-bit weights are not trained; use adapters")
        if not self.factors:
            raise InputError("model.factors: a belief needs one factor or more")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"model.{name}: {getattr(self, name)} is not in 0..1")
        if self.temperature_of_policy <= 0:
            raise InputError(f"model.temperature: {self.temperature_of_policy} is not above 0")
        for name, value in (("rollouts", "environment"), ("rewards", "user")):
            if getattr(self, name) == value and self.user.kind in ("none", "replay"):
                raise InputError(
                    f"model.{name}: {value} needs a user that rewards: scripted or llm"
                )
        if self.candidates > 1 and self.horizon == 0:
            raise InputError("model.candidates: replies are compared by imagining; horizon is 0")
        if self.user.kind == "llm" and self.user.simulator is None:
            raise InputError("model.user.simulator: kind llm needs a language model")

    def install(self) -> None:
        """Add the heads of reward and value, and the copies if there are any."""
        weight = self.lm.lm_head.weight
        width = weight.shape[1]
        self.reward_head = nn.Linear(width, 1, bias=False, device=weight.device)
        self.value_head = nn.Linear(width, 1, bias=False, device=weight.device)
        for head in (self.reward_head, self.value_head):
            nn.init.normal_(head.weight, std=1 / (width + 1))
        if self.full_copies:
            add_copies(self.lm, self.adapters)

    def build_encoder(self, tokenizer: Any) -> BeliefStateEncoder:
        """Return the encoder of states."""
        return BeliefStateEncoder(
            tokenizer,
            self.labels,
            self.factors,
            self.dataset,
            self.surprise,
            self.strategy_line,
            self.use_previous,
            self.reserve,
            max_length=self.max_length,
        )

    def configure_optimizers(self) -> Any:
        """Return one AdamW whose groups are the adapters, each with its head and its rate."""
        rates = {POLICY: self.optimizer.lr, WORLD: self.world_lr, CRITIC: self.critic_lr}
        heads = {"reward_head.weight": WORLD, "value_head.weight": CRITIC}
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        return adamw(
            self.optimizer,
            trained,
            total_steps(self.trainer),
            lambda name: rates[heads.get(name) or adapter_of(name) or POLICY],
        )

    # -- for the components ----------------------------------------------------------------------

    def believes(self, component: Component) -> bool:
        """Whether a component is told the belief."""
        return component in self.belief_in

    @evaluating
    def quietly(self, ask: Callable[[], R]) -> R:
        """Return an answer that has no gradient."""
        return ask()

    # -- losses --------------------------------------------------------------------------------

    def speak_loss(self, batch: Batch) -> dict[str, Term]:
        """Return the cross-entropy of the data's replies (S1)."""
        with using(self.lm, POLICY):
            return {"speak": head_loss(self.run_blocks(batch), batch, SPEAK, *self.output_head)}

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return what the stages of this run learn, on held-out states."""
        terms = self.speak_loss(batch)
        return terms | self.learning.world_losses(batch, validating=True)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of this step's phase."""
        terms = self.learning.losses(batch, batch_idx)
        self.log_terms("train", terms)
        return total_loss(terms, self.loss_weights)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step; keep what it has lived through, before a checkpoint is written."""
        super().optimizer_step(*args, **kwargs)
        self.learning.replay.commit()

    # -- checkpoints ---------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the replay and the imagined turns."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["learning"] = self.learning.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the replay and the imagined turns."""
        super().on_load_checkpoint(checkpoint)
        if "learning" in checkpoint:
            self.learning.load(checkpoint["learning"])

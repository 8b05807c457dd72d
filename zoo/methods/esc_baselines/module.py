"""The baselines of emotional support conversation: one model, one conversation, many recipes.

straQ* (arXiv 2505.06987), FiSMiness (2504.11837) and CoCT (2510.18434) compare with them. A recipe
is plain data (`recipes.py`); backbone, part of the conversation that is kept, form of the prompt
and decoding are the same for all, so that only the recipe differs.

    direct          role, description, history -> [Strategy] reply
    direct_refine   one call: draft, then its revision
    self_refine     draft; feedback; rewrite (`self_refine_two_calls`: feedback and rewrite in one)
    cot             one call: emotion -> strategy -> reply (also called ECoT)
    plan_and_solve  a plan; its execution
    tot             three thoughts, a vote; three ways, a vote; the reply
    sot             a skeleton; every point written out on its own; joined
    rag             the k descriptions nearest to the seeker's words; the reply
    csim            one call: the next turns imagined, then the reply
    fsm             emotion; strategy; reply
    sft             fine-tuned on [Strategy] reply:  L = mean over its tokens of -log p
    sft_cot, sft_fsm   the weights of `sft`, the recipe of `cot`, `fsm`

Follows: the one-line recipes that the papers give. Deviates: `rag` ranks by the mean state of the
backbone itself, where the paper has E5-large. Unknown in the papers, chosen here: all wording; two
levels of three thoughts with votes (`tot`); a label that cannot be read is the fallback (Others,
anxiety) and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.backbone import Backbone
from zoo.decoding.prefix_cache import run_packed
from zoo.decoding.shared_context import SharedContext
from zoo.errors import InputError
from zoo.methods.esc_baselines.recipes import RECIPES, SYSTEM
from zoo.methods.esc_baselines.runner import RecipeRunner
from zoo.module import evaluating
from zoo.optimizer import Optimizer
from zoo.records import Dialogue
from zoo.support.conversation import conversation_context
from zoo.support.decisions import Decision, current_decision
from zoo.support.encoder import TalkEncoder
from zoo.support.evaluation import DEFAULTS, TalkingModule
from zoo.support.labels import EMOTION_SETS, LABELS
from zoo.support.reply import SupportReply
from zoo.support.scores import ReplyScores

Kinds = Literal[
    "direct",
    "direct_refine",
    "self_refine",
    "self_refine_two_calls",
    "cot",
    "plan_and_solve",
    "tot",
    "sot",
    "rag",
    "csim",
    "fsm",
    "sft",
    "sft_cot",
    "sft_fsm",
]


class ESCBaseline(TalkingModule):
    """A language model that replies by the recipe of a baseline.

    Args:
        backbone: The language model.
        optimizer: AdamW and its schedule; None for that of straQ*'s training script.
        kind: Which baseline; see the module's docstring.
        labels: `support` (ESConv's 8 strategies) or `acts` (DailyDialog's 4).
        emotions: Whose list of emotions: `esconv`, `daily_dialog` or `empathetic_dialogues`.
        show_strategies: Past supporter turns carry their annotated strategy.
        top_k: With `rag`: descriptions in the prompt.
        max_length: Window in tokens.
        reserve: Tokens of it kept free for tasks, drafts and the reply, the same for all kinds; the
            oldest turns are left out.
        padding_free: Lay sequences end to end instead of padding them.
        max_new_tokens: Limit of each answer.
        temperature: 0 is greedy. Votes are greedy.
        max_generated: Decisions to reply to in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (Dialogue,)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        kind: Kinds = "direct",
        labels: Literal["support", "acts"] = "support",
        emotions: Literal["esconv", "daily_dialog", "empathetic_dialogues"] = "esconv",
        show_strategies: bool = True,
        top_k: int = 3,
        max_length: int = 4096,
        reserve: int = 1024,
        padding_free: bool = True,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        max_generated: int | None = 32,
    ) -> None:
        super().__init__(backbone, optimizer or DEFAULTS, max_generated=max_generated)
        self.save_hyperparameters()
        self.kind, self.top_k = kind, top_k
        self.labels = LABELS[labels]
        self.emotions = EMOTION_SETS[emotions]
        self.metrics["replies"] = ReplyScores(self.labels)
        self.show_strategies, self.padding_free = show_strategies, padding_free
        self.max_length, self.reserve = max_length, reserve
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.filled = {
            "names": ", ".join(self.labels.names),
            "defined": "\n".join(f"- {n}: {text}" for n, text in self.labels.definitions.items()),
            "emotions": ", ".join(self.emotions.names),
        }

    def validate(self) -> None:
        """Check the settings.

        Raises:
            InputError: They do not fit.
        """
        if not 1 <= self.top_k <= len(self.labels.names):
            raise InputError(f"model.top_k: {self.top_k} is not in 1..{len(self.labels.names)}")
        if self.reserve >= self.max_length:
            raise InputError(f"model.reserve: {self.reserve} leaves nothing of the window")

    @property
    def learns(self) -> bool:
        """Whether this kind is fine-tuned."""
        return self.kind.startswith("sft")

    def untrained(self) -> str:
        """Return that only the kinds `sft...` are trained."""
        return "" if self.learns else f"model.kind: {self.kind} is not trained, sft is"

    def build_encoder(self, tokenizer: Any) -> TalkEncoder:
        """Return the encoder; what is learned is `[Strategy] reply` after the task of `direct`."""

        def target(decision: Decision) -> str | None:
            turn = decision.target
            return f"[{turn.strategy}] {turn.text}" if turn.strategy else None

        return TalkEncoder(
            tokenizer,
            SYSTEM,
            RECIPES["direct"][0].task.format(**self.filled),
            labels=self.labels,
            target=target if self.learns else None,
            mark="[{}]".format if self.show_strategies else None,
            max_length=self.max_length,
            reserve=self.reserve,
            packed=self.padding_free,
        )

    # -- recipes -------------------------------------------------------------------------------

    @evaluating
    def respond(
        self, records: Sequence[Dialogue | Decision], *, context: SharedContext | None = None
    ) -> list[SupportReply]:
        """Follow the recipe at the current decision of each record, all records call by call.

        Args:
            records: Decisions, or dialogues that are to be continued.
            context: The conversations as `conversation_context` returns them; None makes it. Kinds
                with the same weights can share one, so that the conversations are run once.

        Raises:
            InputError: A turn does not fit the window.
        """
        states = [current_decision(record, self.labels) for record in records]
        runner = RecipeRunner(
            context or conversation_context(self, states),
            self.encoder().question,
            self.labels,
            self.emotions,
            retrieve=lambda: self.retrieve(states),
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
        )
        golds = [state.target.text for state in states]
        return runner.run(RECIPES[self.kind], self.filled, golds)

    def retrieve(self, states: Sequence[Decision]) -> list[str]:
        """Return the `top_k` strategies, with definitions, whose text is nearest to each query."""
        described = [f"{name}: {text}" for name, text in self.labels.definitions.items()]
        queries = [state.query or state.turns[-1].text for state in states]
        vectors = self._mean_states([*described, *queries])
        count = len(described)
        best = (vectors[count:] @ vectors[:count].T).topk(self.top_k, dim=1).indices.tolist()
        return ["\n".join(f"- {described[i]}" for i in row) for row in best]

    def _mean_states(self, texts: Sequence[str]) -> Tensor:
        """Return the normalised mean of each text's last states, `(N, D)`."""
        ids = [self.encoder().ids(text) for text in texts]
        states = self.lm.model.norm(run_packed(self.lm, ids, [0] * len(ids))).float()
        means = [part.mean(0) for part in states.split([len(row) for row in ids])]
        return torch.nn.functional.normalize(torch.stack(means), dim=1)

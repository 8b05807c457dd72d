"""straQ*'s dialogue model: any language model, told the state and the strategy to use.

`Responder` runs one beside the module that trains, frozen. `StraQResponder` fine-tunes one on the
same prompts: independent of the planner, exported, and then named as its responder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import torch

from zoo import backbone as backbones
from zoo.backbone import Backbone
from zoo.decoding.depth_decoder import DepthDecoder
from zoo.decoding.think_answer import Phase, think_and_answer
from zoo.encoding import Example, Segment
from zoo.errors import InputError, TooLongError
from zoo.markup import Markup
from zoo.methods.sft.module import SFT, SPEAK
from zoo.methods.straq.prompts import reply_query
from zoo.optimizer import Optimizer
from zoo.prompts.chat_format import ChatFormat
from zoo.prompts.thoughts import ANSWER, ThoughtEncoder, question
from zoo.records import Dialogue, Triple, awaiting_reply, opened_by_seeker
from zoo.support.decisions import Decision, decisions
from zoo.support.encoder import SPEAKS, one_turn
from zoo.support.labels import LABELS, SUPPORT, Labels
from zoo.support.tags import unquoted


@dataclass(frozen=True)
class Named(ChatFormat):
    """A format whose assistant's turn is begun with the supporter's name."""

    def open(self, role: str, *, first: bool = False) -> Markup:
        """Return what precedes a turn's text."""
        return super().open(role, first=first) + (SPEAKS if role == ANSWER else "")

    def turn(self, role: str, text: str, **options: Any) -> list[Segment]:
        """Return a turn's segments."""
        return super().turn(role, f" {text}" if role == ANSWER else text, **options)


@dataclass
class ReplyEncoder(ThoughtEncoder):
    """Encoder of replies by a strategy: an example for each decision of a dialogue.

    Attributes:
        room: Tokens to leave free for a reply; the oldest turns give way.
        labels: The strategies.
        strategy: Stands in where a dialogue has none; None refuses to reply there.
    """

    records: ClassVar[tuple[type, ...]] = (Dialogue,)

    room: int = 64
    labels: Labels = SUPPORT
    strategy: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chat = Named(**asdict(self.chat))

    def __call__(self, record: Triple | Dialogue) -> list[Example]:
        """Return the examples of a dialogue; the supporter's strategies are given.

        Raises:
            InputError: See `zoo.support.decisions.decisions`; or a reply does not fit the window.
        """
        if isinstance(record, Triple):
            return super().__call__(record)
        examples = []
        for decision in decisions(record, self.labels):
            learned = self.segment_ids(self.chat.turn(ANSWER, decision.target.text))
            room = max(self.room, len(learned))
            query = self.query(decision, decision.target.strategy, room)
            examples += super().__call__(query)
        return examples

    def query(self, decision: Decision, strategy: str, room: int | None = None) -> Triple:
        """Return the query of a decision, without the turns that do not fit.

        Args:
            decision: The state.
            strategy: What to reply by.
            room: Tokens to leave free; None for those of a reply that is still to be written.

        Raises:
            TooLongError: The last turn alone does not fit.
        """
        turns = len(decision.turns)
        while True:
            query = reply_query(decision, strategy, self.labels)
            size = len(self.segment_ids(question(self.chat, query)))
            if size + (room or self.room) <= self.max_length:
                self._shortened += len(decision.turns) < turns
                return query
            if len(decision.turns) <= 1:
                raise TooLongError(
                    f"{decision.id}: the last turn with the question takes {size} tokens and the "
                    f"reply {room or self.room}, more than the window max_length={self.max_length}"
                )
            decision = replace(decision, turns=decision.turns[1:])

    def prompt(self, record: Triple | Dialogue) -> list[int]:
        """Return the ids before the reply; for a dialogue before its last supporter turn.

        Raises:
            InputError: Nothing says by which strategy, or the prompt fills the window.
        """
        return super().prompt(self._query(record))

    def gold(self, record: Triple | Dialogue) -> tuple[str, str]:
        """Return an empty thought and the reply on record."""
        if isinstance(record, Triple):
            return super().gold(record)
        return "", self._last(record).target.text

    def _query(self, record: Triple | Dialogue) -> Triple:
        if isinstance(record, Triple):
            return record
        decision = self._last(record)
        strategy = decision.target.strategy or self.strategy
        if strategy is None:
            raise InputError(
                f"model.strategy: nothing says by which {self.labels.kind} to reply; name one of "
                f"{', '.join(self.labels.names)}, or let a planner choose: zoo.StraQ with this "
                f"model as model.responder.name"
            )
        return self.query(decision, strategy)

    def _last(self, record: Dialogue) -> Decision:
        return decisions(record, self.labels, need_strategies=False)[-1]


class StraQResponder(SFT):
    """Supervised fine-tuning of straQ*'s responder: the reply, given state and strategy.

    It plans nothing: replies follow the annotated strategies, or the one that is given.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        labels: `support` (ESConv's 8 strategies) or `acts` (DailyDialog's 4).
        strategy: What to reply by where nothing is annotated, as in a chat.
        sft: The rest; see `SFT`.
    """

    takes: ClassVar[tuple[type, ...]] = (Dialogue,)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        labels: Literal["support", "acts"] = "support",
        strategy: str | None = None,
        **sft: Any,
    ) -> None:
        super().__init__(backbone, optimizer, **sft)
        self.labels, self.strategy = LABELS[labels], strategy

    def validate(self) -> None:
        """Check the strategy.

        Raises:
            InputError: There is no such strategy.
        """
        super().validate()
        if self.strategy is not None:
            self.strategy = self.labels.canonical(self.strategy, "model.strategy")

    def build_encoder(self, tokenizer: Any) -> ReplyEncoder:
        """Return the encoder of replies by the annotated strategies."""
        return ReplyEncoder(
            tokenizer,
            think=None,
            speak=SPEAK,
            max_length=self.max_length,
            packed=self.padding_free,
            room=self.max_answer_tokens,
            labels=self.labels,
            strategy=self.strategy,
        )

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, **options: Any
    ) -> list[dict[str, str]]:
        """Return the reply to each record, or to a seeker who says `prompt`; see `SFT`."""
        asked = [awaiting_reply(opened_by_seeker(prompt))] if prompt else records
        return super().show(asked, **options)


class Responder:
    """A frozen model, loaded at the first query, whole in every process, in no module tree.

    Args:
        backbone: Any chat model: a preset, a folder, or what `StraQResponder` exported.
        labels: The strategies.
        max_length: Window in tokens; the oldest turns are left out.
        max_new_tokens: Limit of a reply.
    """

    def __init__(
        self,
        backbone: Backbone,
        labels: Labels = SUPPORT,
        *,
        max_length: int = 2048,
        max_new_tokens: int = 64,
    ) -> None:
        self.backbone, self.labels = backbone, labels
        self.max_length, self.max_new_tokens = max_length, max_new_tokens
        self._lm: Any = None

    @torch.no_grad()
    def __call__(
        self, states: Sequence[Decision], strategies: Sequence[str], device: torch.device
    ) -> list[str]:
        """Return the greedy reply in each state by its strategy.

        Raises:
            InputError: There is no such model, or a query does not fit the window.
        """
        if self._lm is None:
            self._lm, self.tokenizer = backbones.load(self.backbone)
            self._lm.requires_grad_(False).eval()
        lm = self._lm if self.backbone.load_4bit else self._lm.to(device)
        encoder = ReplyEncoder(
            self.tokenizer,
            think=None,
            speak=SPEAK,
            max_length=self.max_length,
            room=self.max_new_tokens,
            labels=self.labels,
        )
        queries = [encoder.query(s, name) for s, name in zip(states, strategies, strict=True)]
        decoder = DepthDecoder(lm, batch_size=len(queries), pad_id=self.tokenizer.pad_token_id)
        speak = Phase(0, lambda hidden: lm.lm_head(lm.model.norm(hidden)), self.max_new_tokens)
        prompts = [encoder.prompt(query) for query in queries]
        replies = think_and_answer(decoder, encoder, prompts, think=None, speak=speak)
        return [unquoted(one_turn(reply.answer)) for reply in replies]

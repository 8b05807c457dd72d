"""FiSMiness: a finite state machine based paradigm for emotional support conversations.

arXiv 2504.11837. One language model walks a small state machine in every turn: it recognises the
seeker's emotion, chooses a strategy, writes the reply; the seeker's next message closes the cycle.
Emotions and strategies stay in the history, so the model plans across turns. One set of weights,
fine-tuned on the three tasks together, decides all actions.

    (1)  s0 = [h, u_k],  s1 = [h, u_k, e],  s2 = [h, u_k, e, g],  s3 = [h, u_k, e, g, u_p]
    (2)  s0 -e-> s1 -g-> s2 -u_p-> s3 -seeker-> s0(t + 1)                 nothing else is legal
    (3)  h(0) = (),  h(t + 1) = s3(t)
    (4)  e = LLM(desp_e, s0),  g = LLM(desp_g, s1),  u_p = LLM(desp_u, s2)
    (5)  L = lambda_e L_e + lambda_g L_g + lambda_u L_u, each the mean over its examples of the mean
         over a target's tokens of -log p

Follows: the machine, the three actions by one model, labels in the history, gold labels in training
and the model's own in tests; one strategy a turn, no branches.
Deviates: the state is a text that only grows, (1) letter by letter, and the task stands behind it,
so all calls of a dialogue share keys and values (`decoding/shared_context.py`); the source names a
line format such as `Seeker (Emotion: sadness): ...`, which would change a line after it was read.
Unknown in the paper, chosen here: what the names of its variants mean. `mt`: three calls a turn,
fine-tuned on the three tasks; `single_pass`: one call writes emotion, strategy and reply (scores
are to be reported by mode); `agent`: the machine on a model that is not trained, or on one model
for each arrow. Where e(t) comes from: the dialogue's label. The lambdas: ones. Labels are decoded
under constraint. `oracle_history`: the labels in the history are the annotated ones, not the
model's; the utterances in the history are the data's in both cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from zoo import backbone as backbones
from zoo.backbone import Backbone, as_config
from zoo.cache import quick_weights_digest
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.evaluation import Pair
from zoo.losses.cross_entropy import Term, head_loss
from zoo.methods.fisminess.conversations import ActionModel, StateKey
from zoo.methods.fisminess.encoder import TASKS, WalkEncoder
from zoo.methods.fisminess.machine import with_seeker_emotion
from zoo.methods.fisminess.walk import LabelDecoding, Walk
from zoo.module import evaluating
from zoo.optimizer import Optimizer
from zoo.parallel import is_sharded
from zoo.records import Dialogue
from zoo.support.decisions import Decision, current_decision
from zoo.support.encoder import read_field
from zoo.support.evaluation import DEFAULTS, TalkingModule
from zoo.support.labels import EMOTION_SETS, LABELS
from zoo.support.reply import AnsweredDecision, SupportReply
from zoo.support.scores import ReplyScores


class FiSMiness(TalkingModule):
    """A language model that walks emotion, strategy, reply in every turn.

    Args:
        backbone: The language model.
        optimizer: AdamW and its schedule; None for that of straQ*'s training
            script (FiSMiness' own is not published).
        mode: `mt`: fine-tuned, three calls a turn; `single_pass`: fine-tuned, one call; `agent`:
            not trained, three calls.
        agents: With `agent`: `emotion`, `strategy` or `reply` -> a model of its own.
        closed: How a label is decoded: `constrained` to the list, as the one with the highest mean
            log-probability (`likelihood`), or `free`, read by name and alias, with a fallback. A
            single pass is free.
        oracle_history: Annotated labels in the history, where there are some. With emotions of the
            `conversation` it shows the gold emotion, and recognised ones are not scored.
        emotion_source: The gold emotion: the label of the `conversation`, of the seeker's turn
            (`annotated`), or of a file (`predicted`).
        predicted: With `predicted`: JSONL of `id` and `emotion`, as `python -m zoo predict` writes.
        labels: `support` (ESConv's 8 strategies) or `acts` (DailyDialog's 4).
        emotions: Whose list of emotions: `esconv`, `daily_dialog` or `empathetic_dialogues`.
        weights: lambda of emotion, strategy and reply.
        max_length: Window in tokens; the oldest lines are left out.
        padding_free: Lay sequences end to end instead of padding them.
        max_new_tokens: Limit of a reply; a label that is decoded freely has 16 tokens.
        temperature: Of the reply; 0 is greedy. Labels are greedy but in a single pass, which is one
            text.
        max_generated: Decisions to reply to in each validation or test, the first ones; None for
            all. A dialogue has some ten of them.
    """

    takes: ClassVar[tuple[type, ...]] = (Dialogue,)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        mode: Literal["mt", "single_pass", "agent"] = "mt",
        agents: dict[str, Backbone] | None = None,
        closed: LabelDecoding = "constrained",
        oracle_history: bool = False,
        emotion_source: Literal["conversation", "annotated", "predicted"] = "conversation",
        predicted: str | None = None,
        labels: Literal["support", "acts"] = "support",
        emotions: Literal["esconv", "daily_dialog", "empathetic_dialogues"] = "esconv",
        weights: list[float] | None = None,
        max_length: int = 2048,
        padding_free: bool = True,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        max_generated: int | None = 32,
    ) -> None:
        super().__init__(backbone, optimizer or DEFAULTS, max_generated=max_generated)
        self.save_hyperparameters()
        self.mode, self.closed, self.oracle_history = mode, closed, oracle_history
        self.agents = {name: as_config(Backbone, agent) for name, agent in (agents or {}).items()}
        self.emotion_source, self.predicted = emotion_source, predicted
        self.labels = LABELS[labels]
        self.emotions = EMOTION_SETS[emotions]
        self.metrics["replies"] = ReplyScores(self.labels)
        self.loss_weights = dict(zip(TASKS, weights or [1.0] * 3, strict=False))
        self.max_length, self.padding_free = max_length, padding_free
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.known: dict[StateKey, tuple[str, str]] = {}  # (emotion, strategy) decoded so far
        self._known_by: tuple[str, str] | None = None  # the weights and settings that decoded them
        self.others: dict[str, ActionModel] = {}  # those of `agents` that are loaded

    def validate(self) -> None:
        """Check the settings against each other.

        Raises:
            InputError: They do not fit.
        """
        if (self.emotion_source == "predicted") != (self.predicted is not None):
            raise InputError("model.predicted: goes with emotion_source: predicted, and only there")
        if self.agents and self.mode != "agent":
            raise InputError(f"model.agents: {self.mode} has one set of weights; use mode: agent")
        unknown = sorted(set(self.agents) - set(TASKS))
        if unknown:
            raise InputError(f"model.agents: no arrow {unknown[0]!r}; one of: {', '.join(TASKS)}")
        if len(self.hparams["weights"] or TASKS) != len(TASKS):
            raise InputError(f"model.weights: give three of them, for {', '.join(TASKS)}")

    def untrained(self) -> str:
        """Return that an agent is not trained."""
        return "model.mode: an agent is not trained" if self.mode == "agent" else ""

    def build_encoder(self, tokenizer: Any) -> WalkEncoder:
        """Return the encoder: task i is learned as head i, all with the one language head."""
        return WalkEncoder(
            tokenizer,
            self.labels,
            emotions=self.emotions,
            single_pass=self.mode == "single_pass",
            annotated=self.emotion_source == "annotated",
            given=None
            if self.predicted is None
            else read_field(Path(self.predicted), "emotion", "model.predicted"),
            max_length=self.max_length,
            max_new_tokens=self.max_new_tokens,
            packed=self.padding_free,
        )

    # -- training ------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return L_e, L_g and L_u of equation (5); a target's tokens weigh 1 together."""
        states_BLD, head = self(batch), self.output_head
        return {task: head_loss(states_BLD, batch, i, *head) for i, task in enumerate(TASKS)}

    # -- inference -----------------------------------------------------------------------------

    def action_models(self) -> dict[str, ActionModel]:
        """Return the model that decides each action: this one, or a frozen one of `agents`."""
        for task, config in self.agents.items():
            if task not in self.others:
                lm, tokenizer = backbones.load(config)
                lm.requires_grad_(False).eval()
                lm = lm if config.load_4bit else lm.to(self.device)
                self.others[task] = ActionModel(lm, self.build_encoder(tokenizer))
        own = ActionModel(self.lm, self.encoder())
        return {task: self.others.get(task, own) for task in TASKS}

    @evaluating
    def respond(
        self,
        records: Sequence[Dialogue | Decision],
        *,
        strategies: Sequence[str] | None = None,
    ) -> list[SupportReply]:
        """Walk s0 to s3 at the current decision of each record, equations (2) to (4).

        Decisions of one dialogue are walked in their order along one text, all dialogues together.

        Args:
            records: Decisions, or dialogues that are to be continued.
            strategies: Used instead of the model's choice (an intervention), one for each record.

        Raises:
            InputError: A line does not fit the window.
        """
        states = [current_decision(record, self.labels) for record in records]
        walk = Walk(
            self.action_models(),
            states,
            forced=strategies,
            closed=self.closed,
            single_pass=self.mode == "single_pass",
            oracle=self.oracle_history,
            known=self.labels_so_far(),
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            everyone_done=self.everyone_done,
        )
        return walk.run()

    def labels_so_far(self) -> dict[StateKey, tuple[str, str]]:
        """Return what these weights decoded in earlier walks; forget what other ones did.

        Sharded weights are not looked at: only the start of an evaluation forgets their labels.
        """
        weights = "" if is_sharded(self) else quick_weights_digest(self.lm.parameters())
        if (weights, self.closed) != self._known_by:
            self.known, self._known_by = {}, (weights, self.closed)
        return self.known

    def gold_emotion(self, decision: Decision) -> str:
        """Return the emotion of this turn by `emotion_source`; empty if there is none."""
        encoder: WalkEncoder = self.encoder()
        return encoder.rounds(decision)[-1].emotion

    def answered_decisions(self, pairs: Iterable[Pair]) -> list[AnsweredDecision]:
        """Return decisions and replies with the emotions that were right, if that says anything.

        A dialogue's one emotion stands in an annotated history: to repeat it is no recognition.
        """
        answered = super().answered_decisions(pairs)
        if self.oracle_history and self.emotion_source == "conversation":
            return [one._replace(gold_emotion="") for one in answered]
        return answered

    def start_evaluation(self) -> None:
        """Forget replies and labels of the last epoch: the weights may have changed."""
        super().start_evaluation()
        self.known = {}

    def show(
        self,
        records: Sequence[Any],
        *,
        prompt: str | None = None,
        given: str | None = None,
        **options: Any,
    ) -> list[dict[str, str]]:
        """Return the state, the walk and the reply for each record.

        Args:
            records: Dialogues; the current decision of each is taken.
            prompt: Answer a seeker who says this instead.
            given: Name of a strategy to use instead of the chosen one.
            options: See `respond`.

        Raises:
            InputError: `given` is no strategy.
        """
        if given is not None:
            name = self.labels.canonical(given, "given")
            options["strategies"] = [name] * (1 if prompt else len(records))
        return super().show(records, prompt=prompt, **options)

    def converse(self, dialogue: Dialogue, **options: Any) -> tuple[dict[str, str], Dialogue]:
        """Return what to show beside a reply, and the dialogue with reply, emotion and strategy."""
        notes, continued = super().converse(dialogue, **options)
        turns = with_seeker_emotion(continued.turns, notes["emotion"])
        return notes, replace(continued, turns=turns)

"""Dialogues -> decisions -> what each component reads of a state.

    posterior    dialogue up to o_t                        -> a letter for each factor
    prior        dialogue up to a_{t-1}, b_{t-1}           -> the same, without o_t
    observation  dialogue up to a_{t-1}, b_t               -> o_t
    reply        dialogue up to o_t, b_t                   -> a_t; policy, critic and reward

A training example is the reply in its state; the other components are encoded from its decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from zoo.encoding import NO_HEAD, Example, extended, join, unlearned
from zoo.errors import InputError, TooLongError
from zoo.methods.dreamcub import prompts
from zoo.methods.dreamcub.belief import LETTERS, Belief, Factor, annotated, belief_line
from zoo.prompts.base import PromptEncoder
from zoo.prompts.option_tokens import option_ids
from zoo.prompts.truncation import first_kept
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import Decision, decisions, transcript
from zoo.support.encoder import SPEAK
from zoo.support.labels import Labels

MOMENTS = 1  # kind of supervision beside SPEAK: states


@dataclass(frozen=True, slots=True)
class State:
    """s_t: a decision, and what is believed of the seeker in it.

    Attributes:
        decision: h_t and o_t, and in data the reply a_t.
        belief: b_t; None where nobody asked.
        previous: b_{t-1}; None in the first state.
    """

    decision: Decision
    belief: Belief | None = None
    previous: Belief | None = None


@dataclass(frozen=True, slots=True)
class StateExample(Example):
    """A reply in its state."""

    def head_weights(self) -> dict[int, float]:
        """Return the reply's tokens and one state."""
        return Example.head_weights(self) | {MOMENTS: 1.0}


@dataclass
class BeliefStateEncoder(PromptEncoder):
    """Encoder of states for every component.

    Attributes:
        labels: Names of strategies, or of acts.
        factors: What a belief consists of.
        dataset: Whose emotions.
        surprise: Sentiment of DailyDialog's surprise.
        strategy_line: A reply begins with its strategy in brackets.
        use_previous: The prior reads b_{t-1}.
        reserve: Tokens of the window kept free for what is written; the oldest turns give way.
        dialogues: Those of the training split by id, for `ReplayEnv`.
    """

    records: ClassVar[tuple[type, ...]] = (Dialogue,)
    needs_records: ClassVar[bool] = True

    labels: Labels
    factors: tuple[Factor, ...]
    dataset: str
    surprise: str = "neutral"
    strategy_line: bool = False
    use_previous: bool = True
    reserve: int = 128
    dialogues: dict[str, Dialogue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.fields = [
            self.ids(f"{'; ' if i else ''}{factor.name}:") for i, factor in enumerate(self.factors)
        ]
        self.longest = tuple(
            max(factor.labels, key=lambda label: len(self.ids(label))) for factor in self.factors
        )
        most = max((len(factor.labels) for factor in self.factors), default=2)
        opened, letters = self.chat.open("assistant") + "emotion:", LETTERS[:most]
        try:  # most tokenizers hold the blank in the letter's token
            self.letter_ids = option_ids(self.tokenizer, [f" {name}" for name in letters], opened)
        except InputError:
            key = "model.backbone.name"
            self.letter_ids = option_ids(self.tokenizer, list(letters), opened, key=key)

    def study(self, records: Sequence[Dialogue], split: str) -> None:
        """Keep the training dialogues, which an environment can replay."""
        if split == "train":
            self.dialogues = {record.id: record for record in records}

    def __call__(self, record: Dialogue) -> list[StateExample]:
        """Return an example for each decision.

        Raises:
            InputError: A strategy is unknown, or the last turns do not fit the window.
        """
        return [self._example(d) for d in decisions(record, self.labels, need_strategies=False)]

    def state(self, decision: Decision) -> State:
        """Return a decision with what the data say of the seeker, now and one turn before."""
        places = [i for i, turn in enumerate(decision.turns) if turn.speaker == SUPPORTER]
        before = None
        if places and places[-1]:
            earlier = replace(decision, turns=decision.turns[: places[-1]], intensity=None)
            before = self.annotated(earlier)
        return State(decision, self.annotated(decision), before)

    def annotated(self, decision: Decision) -> Belief:
        """Return the labels of the data; empty where there is none."""
        return annotated(decision, self.factors, self.dataset, self.surprise)

    # -- what a component reads ----------------------------------------------------------------

    def posterior(self, state: State) -> list[int]:
        """Return the prompt of q(b_t | h_t, o_t)."""
        return self._prompt(state.decision, state.decision.turns, prompts.POSTERIOR + self._options)

    def prior(self, state: State) -> list[int]:
        """Return the prompt of p(b_t | h_t), which does not hold o_t."""
        line = belief_line(self.factors, state.previous) if self.use_previous else ""
        told = prompts.PREVIOUS + line if line else ""
        return self._prompt(
            state.decision, state.decision.history, told + prompts.PRIOR + self._options
        )

    def observation(self, state: State) -> list[int]:
        """Return the prompt of p(o_t | h_t, b_t)."""
        task = self._told(state) + prompts.OBSERVE
        return self._prompt(state.decision, state.decision.history, task, prompts.SEEKER_SAYS)

    def reply(self, state: State) -> list[int]:
        """Return the prompt of a reply, which policy, critic and reward begin with."""
        task = self._told(state) + prompts.REPLY
        return self._prompt(state.decision, state.decision.turns, task, prompts.SUPPORTER_SAYS)

    def chain(self, prompt: list[int], path: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return a prompt with the fields and letters of a path, and where each letter is read.

        Args:
            prompt: Of posterior or prior.
            path: Index of the label of each factor; the last one is not written.
        """
        ids, places = list(prompt), []
        for i, piece in enumerate(self.fields):
            ids += piece
            places.append(len(ids) - 1)
            if i + 1 < len(self.fields):
                ids.append(self.letter_ids[path[i]])
        return ids, places

    def said(self, text: str) -> list[int]:
        """Return the tokens of what somebody says, with the token that ends it."""
        return self.ids(" " + text + self.chat.close("assistant"))

    def reply_text(self, turn: Turn) -> str:
        """Return a supporter's turn as the policy writes it."""
        marked = self.strategy_line and turn.strategy
        return f"[{turn.strategy}] {turn.text}" if marked else turn.text

    def read_reply(self, text: str) -> Turn:
        """Return what the policy wrote as a turn, its strategy apart; empty words are `...`."""
        strategy, words = "", text.strip()
        if self.strategy_line and words.startswith("["):
            name, closed, rest = words[1:].partition("]")
            known = self.labels.known(name)
            if closed and known:
                strategy, words = known, rest.strip()
        return Turn(SUPPORTER, " ".join(words.split()) or "...", strategy=strategy)

    # -- parts ---------------------------------------------------------------------------------

    @property
    def _options(self) -> str:
        return "\n".join(factor.options() for factor in self.factors)

    def _told(self, state: State) -> str:
        return prompts.STATE + belief_line(self.factors, state.belief) if state.belief else ""

    def _frame(self, decision: Decision, task: str, begins: str) -> tuple[list[int], list[int]]:
        """Return what stands before the turns of a prompt and what stands after them."""
        known = {"Problem": decision.problem, "Situation": decision.situation}
        facts = "".join(f"{name}: {text}\n" for name, text in known.items() if text)
        start = self.system_turn(prompts.SYSTEM) + self.chat.open("user") + facts + prompts.KNOWN
        end = task + self.chat.close("user") + self.chat.open("assistant") + begins
        return self.ids(start), self.ids(end)

    def _prompt(
        self, decision: Decision, turns: Sequence[Turn], task: str, begins: str = ""
    ) -> list[int]:
        head, tail = self._frame(decision, task, begins)
        lines = [self.ids(transcript((turn,), strategies=False) + "\n") for turn in turns]
        room = self.max_length - self.reserve - len(tail)
        try:
            first = first_kept(len(head), [len(line) for line in lines] or [0], room)
        except TooLongError as error:
            raise TooLongError(f"{decision.id}: {error}") from error
        self._shortened += first > 0
        return [*head, *(token for line in lines[first:] for token in line), *tail]

    def _example(self, decision: Decision) -> StateExample:
        state = self.state(decision)
        learned = self.said(self.reply_text(decision.target)) if decision.target.text else []
        prompt = self.reply(state)
        if len(prompt) + len(learned) > self.max_length:
            raise TooLongError(
                f"{decision.id}: a reply of {len(learned)} tokens does not fit the window; raise "
                f"model.reserve or model.max_length"
            )
        base = unlearned(prompt, decision)
        if learned:
            base = join([(prompt, NO_HEAD, 0.0), (learned, SPEAK, 1.0)], record=decision)
        self._check_fits(state)
        return extended(StateExample, base)

    def _check_fits(self, state: State) -> None:
        """Refuse a state that some component could not read, now or after an imagined turn.

        Beliefs are inferred in training, so the longest names count.

        Raises:
            TooLongError: A turn does not fit, or what the data tell leaves no room for one.
        """
        full = replace(state, belief=self.longest, previous=self.longest)
        shortened = self._shortened
        self.posterior(full), self.prior(full), self.reply(full)
        learned = self.said(state.decision.query)
        if len(self.observation(full)) + len(learned) > self.max_length:
            raise TooLongError(
                f"{state.decision.id}: an utterance of {len(learned)} tokens does not fit the "
                f"window; raise model.reserve or model.max_length"
            )
        self._shortened = shortened  # the state counts once
        told = self._told(full) + prompts.PREVIOUS + prompts.PRIOR + self._options
        head, tail = self._frame(state.decision, told, prompts.SUPPORTER_SAYS)
        left = self.max_length - self.reserve - len(head) - len(tail)
        if left < self.reserve:
            raise TooLongError(
                f"{state.decision.id}: problem, situation and options leave {left} tokens for the "
                f"turns; an imagined one takes up to model.reserve, {self.reserve}"
            )


def heard(state: State, reply: Turn, utterance: str = "") -> State:
    """Return the state after a reply and, if it is known, the seeker's next utterance.

    What was believed becomes what was believed before. Each line of an utterance is a turn, as in
    data in which a seeker says several things in a row.
    """
    said = [Turn(SEEKER, line) for line in utterance.split("\n") if line.strip()]
    turns = (*state.decision.turns, reply, *said)
    depth = state.decision.depth + 1
    decision = replace(state.decision, turns=turns, target=Turn(SUPPORTER, ""), depth=depth)
    return State(decision, None, state.belief)

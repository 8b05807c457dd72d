"""CoCT: chain of conceptual thought.

arXiv 2510.18434. Open conversation has no well-defined reasoning steps, so a chain of thought does
not fit it. Here the model thinks in concepts inside the reply: before each sentence it writes a tag
(an emotion that it expresses, a strategy, a topic), then the sentence that realises it. Several
tags form a chain, so concepts move within one utterance. Prompt-only, one call a reply.

    (1)  output = LLM({c_1, ..., c_n}, I, input)
         I: the concepts with definitions; a tag before each sentence; a chain of concepts
    (2)  output = (c_1, x_1), (c_2, x_2), ...        c_i -> c_{i+1} inside one reply
    (3)  reply = x_1 x_2 ...                         what users and scores see
    (4)  L = mean over the tokens of y of -log p(y_i | I, input, y_<i)    optional, y tagged

Follows: the three parts in their order, the lists of each data set and the transfer to others,
subsets of kinds, free concepts (no list), six delimiters, tags as plain text (no new tokens).
Deviates: the paper calls tags special tokens but uses ordinary characters. RAG and the other
baselines are in `zoo/methods/esc_baselines/module.py`.
Unknown in the paper, chosen here: the wording of the prompt, and that the request after the
conversation says once more how a sentence begins, without the name of a listed concept (a 0.5B
model wrote no other than the one that was named there, and without the request no listed one);
replies are not begun with the supporter's name, as plain replies of the other methods are (begun
so, that model tagged less);
greedy decoding (sampling parameters are not given); past replies have no tags in the history
(`keep_tags` keeps the strategy's); the strategy of a reply, for accuracy and bias, is its first
strategy tag, and Others without any. The recipe of the distilled variant: ordinary fine-tuning with
the defaults of straQ*'s released training script. Without a teacher's file its target is the
annotated strategy as a tag and the reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from zoo.backbone import Backbone
from zoo.errors import InputError, nearest
from zoo.evaluation import Pair
from zoo.methods.coct.concepts import (
    DELIMITERS,
    INVENTORIES,
    KINDS,
    ROUTES,
    Concepts,
    Kind,
    chosen,
    split_tags,
)
from zoo.methods.coct.metrics import TagScores
from zoo.methods.coct.read_tagged import read_tagged
from zoo.methods.coct.tagged_replies import (
    Tables,
    chain_of,
    check_ids,
    learned_reply,
    transition_figures,
    transition_tables,
    write_tables,
)
from zoo.module import evaluating
from zoo.optimizer import Optimizer
from zoo.records import Dialogue
from zoo.support.conversation import conversation_context
from zoo.support.decisions import Decision, current_decision
from zoo.support.encoder import SPEAKS, TalkEncoder
from zoo.support.evaluation import DEFAULTS, TalkingModule
from zoo.support.labels import ACTS, EMOTION_SETS, SUPPORT, Labels
from zoo.support.reply import SupportReply
from zoo.support.scores import ReplyScores

ROLE = "You are a supportive partner in a conversation."
TASK = "Reply as the supporter."


class CoCT(TalkingModule):
    """A language model that tags each sentence of its reply with a concept.

    Args:
        backbone: The language model.
        optimizer: AdamW and its schedule; None for that of straQ*'s training script.
        concepts: Whose lists: `esconv`, `daily_dialog`, `cskills`, `empathetic_dialogues`, or
            `auto`: those that the paper uses on the data module at hand (ESConv's without one).
        kinds: Which kinds of concepts to use; None for all that the lists have.
        topics: Topics instead of the nine listed ones.
        extra: Further tags, for example Humor.
        free: Show no list: the model invents tags.
        delimiter: How a tag is written: `<>`, `^`, `#`, `@`, `[]` or `&`.
        max_concepts: 1 asks for a single tag (an ablation); None for a chain.
        keep_tags: Past replies keep their strategy's tag.
        learn: Fine-tune on tagged replies.
        tagged: With `learn`: JSONL of `id` and `tagged`, a teacher's replies to the training split,
            as `python -m zoo predict` writes them with `data.predict_split: train`; None for tags
            made of the annotation. One without words is not learned. One that the teacher's
            `max_new_tokens` cut is learned as if it had ended: give the teacher room.
        max_length: Window in tokens.
        reserve: Tokens of it kept free for task and reply; the oldest turns are left out.
        padding_free: Lay sequences end to end instead of padding them.
        max_new_tokens: Limit of a reply.
        temperature: 0 is greedy.
        max_generated: Decisions to reply to in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (Dialogue,)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        concepts: Literal[
            "auto", "esconv", "daily_dialog", "cskills", "empathetic_dialogues"
        ] = "auto",
        kinds: list[Kind] | None = None,
        topics: list[str] | None = None,
        extra: list[str] | None = None,
        free: bool = False,
        delimiter: str = "<>",
        max_concepts: int | None = None,
        keep_tags: bool = False,
        learn: bool = False,
        tagged: str | None = None,
        max_length: int = 4096,
        reserve: int = 1024,
        padding_free: bool = True,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        max_generated: int | None = 32,
    ) -> None:
        super().__init__(backbone, optimizer or DEFAULTS, max_generated=max_generated)
        self.save_hyperparameters()
        self.kinds, self.free, self.delimiter = kinds or list(KINDS), free, delimiter
        self.topics, self.extra = topics, tuple(extra or ())
        self.max_concepts, self.keep_tags = max_concepts, keep_tags
        self.learn, self.tagged = learn, tagged
        self.max_length, self.reserve, self.padding_free = max_length, reserve, padding_free
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.routed = concepts == "auto"  # the data says whose lists
        self.use("esconv" if concepts == "auto" else concepts)

    def use(self, name: str, labels: Labels | None = None) -> None:
        """Take the lists of a data set, one of `INVENTORIES`.

        Args:
            name: Whose lists.
            labels: What the data annotates; None for what those lists hold.
        """
        self.lists = chosen(name, self.kinds, self.topics)
        self.labels = labels or (ACTS if name == "daily_dialog" else SUPPORT)
        self.emotions = INVENTORIES[name].get("emotion", EMOTION_SETS["esconv"])
        shown = (self.lists, self.delimiter, self.extra, self.free, self.max_concepts)
        self.concepts = Concepts(*shown)
        self.metrics["replies"] = ReplyScores(self.labels, self.concepts.names())
        self.metrics["tags"] = TagScores()
        self._encoder = None

    def validate(self) -> None:
        """Check the settings against each other.

        Raises:
            InputError: They do not fit.
        """
        if self.delimiter not in DELIMITERS:
            near = nearest(self.delimiter, DELIMITERS)
            raise InputError(f"model.delimiter: no preset {self.delimiter!r}; {near}")
        if not self.routed:
            self._check_lists()
        if self.max_concepts not in (None, 1):
            raise InputError(f"model.max_concepts: {self.max_concepts} is neither 1 nor null")
        if self.tagged is not None and not self.learn:
            raise InputError("model.tagged: goes with learn: true")
        if self.reserve >= self.max_length:
            raise InputError(f"model.reserve: {self.reserve} leaves nothing of the window")

    def check_data(self, datamodule: Any) -> None:
        """Take the lists that the paper uses on this data, if they are left open, and its labels.

        A subclass of a data module is read as that one. What was chosen is saved with the weights.

        Raises:
            InputError: None of its kinds are to be used, or nothing can be learned of it.
        """
        known = [ROUTES[cls.__name__] for cls in type(datamodule).__mro__ if cls.__name__ in ROUTES]
        usual = known[0] if known else "esconv"
        labels = ACTS if usual == "daily_dialog" else SUPPORT
        if self.routed:
            self.hparams["concepts"] = usual
        self.use(self.hparams["concepts"], labels if known else None)
        self._check_lists()

    def _check_lists(self) -> None:
        if not self.lists and not self.free:
            raise InputError(f"model.kinds: the lists have none of {', '.join(self.kinds)}")
        if self.learn and self.tagged is None and not self.plans:
            raise InputError(
                "model.tagged: name a teacher's file; without strategy tags nothing is annotated"
            )

    @property
    def plans(self) -> bool:
        """Whether a tag names a strategy of the kind that the data annotates."""
        return self.lists.get("strategy") is self.labels

    def setup(self, stage: str) -> None:
        """Refuse a teacher's file of other data before anything is trained.

        Raises:
            InputError: None of its ids is that of a training decision.
        """
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and self.tagged is not None and data is not None:
            check_ids(self.tagged, data.records("train"), self.labels)

    def untrained(self) -> str:
        """Return that without `learn` nothing is trained."""
        return "" if self.learn else "model.learn: false trains nothing"

    def build_encoder(self, tokenizer: Any) -> TalkEncoder:
        """Return the encoder: the instruction as system turn, the tagged reply as target."""
        return TalkEncoder(
            tokenizer,
            f"{ROLE}\n{self.concepts.instruction()}",
            f"{TASK} {self.concepts.reminder()}",
            begins="",  # by a tag of the model's own
            labels=self.labels,
            target=learned_reply(self.tagged, self.concepts) if self.learn else None,
            mark=self.concepts.tag if self.keep_tags else None,
            max_length=self.max_length,
            reserve=self.reserve,
            packed=self.padding_free,
        )

    # -- replies -------------------------------------------------------------------------------

    @evaluating
    def respond(
        self, records: Sequence[Dialogue | Decision], *, begins: str = ""
    ) -> list[SupportReply]:
        """Return the reply of each record with its chain of concepts: one call, equation (1).

        Args:
            records: Decisions, or dialogues that are to be continued.
            begins: What a reply is begun with.

        Raises:
            InputError: A turn does not fit the window.
        """
        states = [current_decision(record, self.labels) for record in records]
        context = conversation_context(self, states)
        questions = [self.encoder().question(begins=begins)] * len(states)
        words = context.ask(
            questions, max_new_tokens=self.max_new_tokens, temperature=self.temperature
        )
        first_tags = [split_tags(text, self.concepts)[0].tag for text in words]
        begun = ["" if tag is None else f"{self.concepts.tag(tag)} " for tag in first_tags]
        golds = context.answer_nll(questions, begun, [state.target.text for state in states])
        return [self.read(text, *gold) for text, gold in zip(words, golds, strict=True)]

    def read(self, words: str, nll: float = 0.0, tokens: int = 0) -> SupportReply:
        """Return what a model's words say, equations (2) and (3)."""
        fallback = self.labels.fallback if self.plans else ""
        return read_tagged(words, self.concepts, fallback, nll=nll, tokens=tokens)

    def converse(self, dialogue: Dialogue, **options: Any) -> tuple[dict[str, str], Dialogue]:
        """Return what to show beside a reply, and the dialogue with the reply.

        A small model often copies its prompt and says nothing. It is asked once more then, with its
        reply begun by the supporter's name, after which it speaks, but with fewer tags.
        """
        notes, told = super().converse(dialogue, **options)
        if told.turns[-1].text:
            return notes, told
        notes, told = super().converse(dialogue, begins=SPEAKS, **options)
        return {"begun": SPEAKS, **notes}, told

    # -- evaluation ----------------------------------------------------------------------------

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Add replies to their scores, and their tags."""
        super().update_metrics(pairs, ids)
        self.each_metric()["tags"].update([chain_of(reply) for _, reply in pairs], ids)

    def tables(self) -> Tables:
        """Return the transitions inside the replies of this epoch, by kind of concept."""
        return transition_tables([reply for _, reply in self.answers.values()], self.lists)

    def figures(self) -> dict[str, Any]:
        """Return the figures of every talking method, and the transitions inside replies."""
        return super().figures() | transition_figures(self.tables())

    def on_test_epoch_end(self) -> None:
        """Log the scores, and write the transition tables to the run folder."""
        super().on_test_epoch_end()
        if self.trainer.is_global_zero:
            write_tables(self.tables(), Path(self.trainer.default_root_dir))

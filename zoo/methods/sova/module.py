"""SoVA: value instructions, retrieved from a graph of principles, steer an agent's decisions.

"From Descriptive to Prescriptive", arXiv 2605.14034 (CogSci 2026). Theories of values (Maslow's
needs, Plutchik's emotions, Aristotle's virtues) describe; an agent needs prescriptions. Principles
are linked to a graph, its communities are summarised in reports, and for a dilemma c every report r
is asked for the one instruction that suits it. The kept instructions go into the prompt before the
agent decides. No weight of the agent changes.

    (1)  (i_r, s_r) = map(theory, report r, c)             one scored call per report, s in 0..100
    (2)  K = the N best of {i_r : s_r > tau}, by falling score, ties by report
    (3)  x = plain(c) if K is empty else steer(role(theory), K, c)     written by `SoVA.steer`
    (4)  z = log p(option of `to do` | x) - log p(option of `not to do` | x);  to do if z > 0

(4) is read off one state: the options "Action 1" and "Action 2" differ in their last token. The
choice is also read from greedy text, which has to begin with an option. Both are done for both
orders of the actions; the dataset's own order has Action 1 = do. In a conversation c is what was
said so far, and the agent replies in one or two sentences. To steer in another way, in dilemmas,
conversations and plain retrieval alike, override `SoVA.steer`.

Follows: retrieval by one scored call per report instead of embeddings; all kept instructions, best
first, each with its importance, in the user turn, the role in the system turn; tau 60 and N 100;
each theory by itself; greedy decoding; Plutchik's emotions with their adaptive functions.
Deviates: an empty K gives the plain prompt (the release sends a steering prompt with a note that
nothing was found); what is Action 1 is said after the dilemma instead of before it, so that both
orders share the rest; no demonstration in dilemmas, which would show one of the two options, and
none in replies; MIC is not read (there is no such data here), so the weak principles are those of
published principle files, and they stand in reports as material: an instruction is a finding that a
curated principle is behind; the graph has no node Stakeholder. By default a report's instruction is
a finding of it, and its score is read off grades; `map_by: model` has both written, as the release.
The ratio that is logged first reads log-odds, which are never invalid; that of text stands beside
it. `retriever` learns among the curated principles of one theory, and like `rag` it pastes those of
all theories. Left out: retrieval without communities, all theories at once, instructions in the
system turn.
Unknown in the paper, chosen here [inferred]: the wording of all prompts; which action is expected
(`zoo.methods.sova.expected`); the graph's principles for Maslow and the virtues. The baselines SFT
and SteerLM learn the expected action of `rule`; the others are prompts or policies, and `told` is a
control whose one instruction names the expected action.

Shapes: R records, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar, get_args

from zoo.adapters import using
from zoo.backbone import Backbone
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term, head_loss
from zoo.methods.sova import prompts, replies
from zoo.methods.sova.asking import Asker, policy_choice
from zoo.methods.sova.encoder import SPEAK, DilemmaEncoder
from zoo.methods.sova.evaluation import Answer, Asked, DilemmaChoice
from zoo.methods.sova.expected import Rule
from zoo.methods.sova.instruct import TAU, TOP, How
from zoo.methods.sova.instruction import Instruction
from zoo.methods.sova.kinds import LEARNED, TALKING, Kind, Policy, Theory
from zoo.methods.sova.replies import ValueReply
from zoo.methods.sova.retriever import retriever_loss
from zoo.methods.sova.retrieving import RetrievingModule
from zoo.metrics.records import RecordMean
from zoo.module import evaluating
from zoo.optimizer import Optimizer
from zoo.records import Dialogue, Dilemma


class SoVA(RetrievingModule):
    """A language model that decides dilemmas under retrieved value instructions; its baselines.

    Args:
        backbone: The agent.
        optimizer: AdamW and its schedule, for what is trained.
        kind: `sova`; a baseline: `direct`, `ecot`, `plan_and_solve`, `metacognitive`, `rag`, `sft`,
            `steerlm`, `retriever` (`rag`, learned); a control: `shuffled` (instructions of another
            dilemma), `wrong_theory`, `told`; or a policy: one of `zoo.methods.sova.kinds.Policy`.
        theory: Whose instructions are retrieved.
        rule: Of expected actions, for what is learned, told or known by the oracle.
        index: Folder that `python -m zoo graph build` wrote; None for the curated principles alone.
        encoder: Encoder of sentences that picks a report's finding, the reports of `prefilter` and
            the principles of `rag`: the one that the index was built with. None for the agent's own
            states, without `prefilter`.
        prefilter: Score only so many reports for each dilemma, the closest ones; None for all.
        map_by: How a report is scored: `likelihood` of grades, or in the words of the `model`.
        threshold: tau of equation (2), a score from 0 to 100.
        top_n: N of equation (2).
        chunk_tokens: With `rag`: tokens of the principles in the prompt.
        read_text: Read the choice from greedy text too, in both orders.
        max_reasoning_tokens: Limit of what a reasoning baseline writes before it decides.
        max_reply_tokens: Limit of a reply in a conversation.
        max_length: Window in tokens.
        padding_free: Lay sequences end to end instead of padding them.
        max_generated: Dilemmas to decide in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (Dilemma, Dialogue)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        kind: Kind = "sova",
        theory: Theory = "maslow",
        rule: Rule = "maslow_growth",
        index: str | None = None,
        encoder: str | None = None,
        prefilter: int | None = None,
        map_by: How = "likelihood",
        threshold: float = TAU,
        top_n: int = TOP,
        chunk_tokens: int = 256,
        read_text: bool = True,
        max_reasoning_tokens: int = 192,
        max_reply_tokens: int = 64,
        max_length: int = 4096,
        padding_free: bool = True,
        max_generated: int | None = None,
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.save_hyperparameters()
        self.kind, self.theory, self.rule = kind, theory, rule
        self.index, self.encoder_name, self.prefilter = index, encoder, prefilter
        self.map_by, self.threshold, self.top_n = map_by, threshold, top_n
        self.chunk_tokens, self.read_text = chunk_tokens, read_text
        self.max_reasoning_tokens, self.max_reply_tokens = max_reasoning_tokens, max_reply_tokens
        self.max_length, self.padding_free = max_length, padding_free
        if kind in prompts.REASONING:
            self.metrics["cut_reasoning"] = RecordMean()
        if map_by == "model":
            self.metrics["written_instructions"] = RecordMean()

    def validate(self) -> None:
        """Check what is retrieved by, and the options against the tokenizer.

        Raises:
            InputError: They do not fit.
        """
        self.check_retrieval()
        if self.kind == "retriever" and self.backbone.lora is None:
            raise InputError("model.kind: retriever is an adapter, so it needs model.backbone.lora")
        self.encoder()

    @property
    def learns(self) -> str | None:
        """The kind, if it is trained."""
        return self.kind if self.kind in LEARNED else None

    def untrained(self) -> str:
        """Return that only some kinds are trained."""
        known = ", ".join(LEARNED)
        return "" if self.learns else f"model.kind: {self.kind} is not trained, {known} are"

    def build_encoder(self, tokenizer: Any) -> DilemmaEncoder:
        """Return the encoder of equations (3) and (4)."""
        return DilemmaEncoder(
            tokenizer,
            learns=self.learns,
            rule=self.rule,
            max_length=self.max_length,
            packed=self.padding_free,
        )

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return the mean over the learned tokens, or over queries; nothing where none learns."""
        if not self.learns:
            return {}
        if self.kind == "retriever":
            self.forget_retrieval()  # its vectors are those of other weights
            found = retriever_loss(self.lm, self.tokenizer, self(batch), batch, self.rule)
            return {"retriever": found}
        return {"action": head_loss(self(batch), batch, SPEAK, *self.output_head)}

    # -- equation (3): prompts; (1) and (2) are those of `RetrievingModule` --------------------

    def steer(self, instructions: Sequence[Instruction] | Sequence[str]) -> tuple[str, str]:
        """Return the system line, and what the user says before the dilemma or conversation.

        Every prompt is steered here: of dilemmas, of replies and of plain retrieval.

        Args:
            instructions: K of equation (2); with `rag` and `retriever`, texts of principles.
        """
        kept = [item for item in instructions if not isinstance(item, str)]
        if kept:
            return prompts.role(self.theory), prompts.steering(kept)
        if self.kind == "steerlm":
            return prompts.SYSTEM, prompts.graded(max(prompts.GRADES))
        texts = [item for item in instructions if isinstance(item, str)]
        return prompts.SYSTEM, prompts.pasted(texts)

    def head(
        self, situation: str, instructions: Sequence[Instruction] | Sequence[str]
    ) -> list[int]:
        """Return the token ids of equation (3) before the actions are named.

        Args:
            situation: The dilemma.
            instructions: What `steer` takes.
        """
        system, before = self.steer(instructions)
        after = prompts.REASONING.get(self.kind, "")
        return self.encoder().head(situation, before=before, system=system, after=after)

    # -- equation (4): choices -----------------------------------------------------------------

    @evaluating
    def generate(
        self,
        records: Sequence[Asked],
        instructions: Sequence[Sequence[Instruction]] | None = None,
        *,
        temperature: float = 0.0,
    ) -> list[Any]:
        """Decide dilemmas, each with both orders of the actions, or reply in conversations.

        Args:
            records: Dilemmas, or conversations whose last supporter turn is to be written.
            instructions: K for each of them; None retrieves it.
            temperature: Of replies; choices are greedy.

        Returns:
            A `DilemmaChoice` or a `ValueReply` for each.

        Raises:
            InputError: A prompt fills the window, a kind does not talk, or it pastes principles
                and is given instructions.
        """
        if not records:
            return []
        if self.kind not in TALKING and any(isinstance(record, Dialogue) for record in records):
            raise InputError(
                f"model.kind: {self.kind} decides dilemmas; in conversations there are "
                f"{', '.join(TALKING)}"
            )
        if instructions is None:
            kept = self.kept_instructions(records)
        else:
            kept = self.given_instructions(instructions, len(records))
        dilemmas = {i: item for i, item in enumerate(records) if isinstance(item, Dilemma)}
        dialogues = {i: item for i, item in enumerate(records) if isinstance(item, Dialogue)}
        found: dict[int, Answer] = {}
        if dilemmas:
            choices = self.decide([*dilemmas.values()], [kept[i] for i in dilemmas])
            found |= zip(dilemmas, choices, strict=True)
        if dialogues:
            given = [kept[i] for i in dialogues]
            answers = self.reply([*dialogues.values()], given, temperature=temperature)
            found |= zip(dialogues, answers, strict=True)
        return [found[i] for i in range(len(records))]

    def decide(
        self, records: Sequence[Dilemma], kept: Sequence[Sequence[Instruction]]
    ) -> list[DilemmaChoice]:
        """Return the choices of equation (4) under instructions, or those of a policy."""
        if self.kind in get_args(Policy):
            return [policy_choice(self.kind, record, self.rule) for record in records]
        encoder = self.encoder()
        pasted = self.near_principles([record.situation for record in records])
        limit = self.max_reasoning_tokens if self.kind in prompts.REASONING else None
        room = encoder.room(limit)
        heads = []
        for record, own, texts in zip(records, kept, pasted, strict=True):
            heads.append(self.head(record.situation, own or texts))
            encoder.check_prompt([*heads[-1], *[0] * room], record)
        decoder = self.new_decoder(len(records))
        asker = Asker(decoder, encoder, self.last_logits, lambda: self.output_head)
        with using(self.lm, None) if self.kind == "retriever" else nullcontext():
            choices = asker.choose(heads, kept, limit, read_text=self.read_text)
        found = zip(choices, pasted, strict=True)
        return [replace(choice, principles=tuple(texts)) for choice, texts in found]

    def reply(
        self,
        records: Sequence[Dialogue],
        kept: Sequence[Sequence[Instruction]],
        *,
        temperature: float = 0.0,
    ) -> list[ValueReply]:
        """Return a reply in each conversation under instructions."""
        encoder, limit = self.encoder(), self.max_reply_tokens
        pairs = zip(records, kept, strict=True)
        heads = [replies.prompt(encoder, record, *self.steer(k), limit) for record, k in pairs]
        decoder = self.new_decoder(len(records))
        texts = replies.write(decoder, encoder, heads, self.last_logits, limit, temperature)
        return [ValueReply(text, tuple(k)) for text, k in zip(texts, kept, strict=True)]

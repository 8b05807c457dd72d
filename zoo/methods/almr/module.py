"""ALMR: continual pre-training with a studied ratio of the added language (arXiv 2409.06624).

Llama-3 8B is trained on in Chinese. The share of added-language tokens, r, and the learning rate,
eta, are studied together at the small size; the optimum of both lies on a line, from which the
setting is read, and the larger model keeps r with a lower eta. Then come fine-tuning on
instructions and learning from preferences. The transformer itself is unchanged.

    (1)  L_CPT = mean over all tokens of -log pi(x_t | x_<t)
    (2)-(6)  J, its parabolas, the optimal line, r*                 see `findings`, `optimal_line`
    (7)-(9)  laws of tokens and ratio                               see `mixture_laws`
    (10) L_SFT = mean over answer tokens of -log pi(a_t | x, a_<t)
    (11) L_DPO = mean over pairs of -log sigmoid(beta (D_theta - D_ref)),
         D = log pi(a+ | x) - log pi(a- | x)

r counts tokens under the model's tokeniser: added-language text over all text. What a batch holds
decides the stage: plain texts (1), answers (10), pairs of answers (11). Questions with options, for
example of C-Eval, CMMLU and MMLU, are answered with the most likely letter, see `choices`.

Follows (abstract and introduction): the two variables and their joint study, the small size for
the search, the same ratio with a lower rate at the large size, then SFT and DPO.
Deviates: the reference of (11) is the backbone without its LoRA adapters, so (11) needs LoRA over
an exported model of (10); the paper trains all parameters. Against the reconstruction: the study's
learning rate is constant after its warm-up instead of a cosine, so that the validations of a run
are comparable; a setting that it finds is not that of a cosine. Results store r alone, not
r / (1 - r) too. The best row is not repeated with a fixed number of added tokens: all cells have
the same total.
Unknown in the paper, chosen here: grid, objective J and its weight, form of the line, data, token
counts, batch, chosen ratio, every number of SFT and DPO. The method and result sections were not
available: equations (2) to (11) are a reconstruction, and no result here is the paper's.

Shapes: B batch, L tokens, D width, S sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.backbone import Backbone
from zoo.decoding.think_answer import Phase, Reply, answer
from zoo.errors import InputError, nearest
from zoo.evaluation import Pair
from zoo.losses.cross_entropy import Term, head_loss
from zoo.losses.preference import dpo_loss, sequence_log_probs
from zoo.methods.almr.choices import letter_ids, letter_log_probs
from zoo.methods.almr.encoder import ANSWER, PAIR, TEXT, StageBatch, StageEncoder, asked, only
from zoo.module import evaluating
from zoo.optimizer import Optimizer
from zoo.prompts.option_tokens import letter
from zoo.records import Dialogue, PlainText, Preference, Question, Triple
from zoo.text_evaluation import ReplyingModule

STAGES = ("text", "answer", "preference")  # terms: L_CPT, L_SFT, L_DPO


class ALMR(ReplyingModule):
    """Continual pre-training on a mixture, then instructions, then preferences.

    Args:
        backbone: Which language model to build on; `lora` for learning from preferences.
        optimizer: AdamW and its schedule.
        domains: Kinds of held-out text whose losses are logged one by one, `val/NAME_loss`.
        beta: beta of equation (11), 1 / nats.
        max_length: Window in tokens; a longer text becomes several windows.
        padding_free: Lay sequences end to end instead of padding them.
        max_answer_tokens: Limit of a generated answer.
        max_generated: Records to answer in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (PlainText, Triple, Question, Dialogue, Preference)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        domains: list[str] | None = None,
        beta: float = 0.1,
        max_length: int = 2048,
        padding_free: bool = True,
        max_answer_tokens: int = 256,
        max_generated: int | None = 64,
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.save_hyperparameters()
        self.domains, self.beta, self.max_length = domains or [], beta, max_length
        self.padding_free, self.max_answer_tokens = padding_free, max_answer_tokens
        whole = dict.fromkeys(STAGES, 1.0)
        self.loss_weights = whole | dict.fromkeys(self.domains, 0.0)  # parts of `text`

    def validate(self) -> None:
        """Refuse names of domains that are there twice, or are those of a stage."""
        taken = set(STAGES) & set(self.domains)
        if taken or len(set(self.domains)) < len(self.domains):
            raise InputError(f"model.domains: {self.domains}: a name is taken or there twice")

    def check_data(self, datamodule: Any) -> None:
        """Refuse preferences where there is no reference."""
        if Preference in datamodule.record_types and self.backbone.lora is None:
            raise InputError(
                "model.backbone.lora: needed for preferences: the reference is the backbone "
                "without adapters; export the model of the stage before and name its folder"
            )

    def build_encoder(self, tokenizer: Any) -> StageEncoder:
        """Return the encoder of all stages."""
        return StageEncoder(
            tokenizer,
            think=None,
            speak=ANSWER,
            max_length=self.max_length,
            packed=self.padding_free,
        )

    # -- losses --------------------------------------------------------------------------------

    def losses(self, batch: StageBatch) -> dict[str, Term]:
        """Return L_CPT (1) and L_SFT (10) of what the batch holds, or L_DPO (11)."""
        if batch.pairs:
            return {"preference": self.preference(batch)}
        states = self(batch)
        terms = {"text": head_loss(states, batch, TEXT, *self.output_head)}
        terms["answer"] = head_loss(states, batch, ANSWER, *self.output_head)
        if self.training:
            return {name: term for name, term in terms.items() if term.weight > 0}
        return terms | self.by_domain(states, batch)

    def by_domain(self, states_BLD: Tensor, batch: StageBatch) -> dict[str, Term]:
        """Return L_CPT (1) over the held-out texts of each domain.

        Raises:
            InputError: A text is of no domain that is named.
        """
        texts = [r for r in batch.records if isinstance(r, PlainText)]
        unknown = {record.kind for record in texts} - set(self.domains)
        if self.domains and unknown:
            name = sorted(unknown)[0]
            raise InputError(f"model.domains: no {name!r}; {nearest(name, self.domains)}")
        return {
            name: head_loss(
                states_BLD, replace(batch, head_ids=only(batch, name)), TEXT, *self.output_head
            )
            for name in self.domains
        }

    def preference(self, batch: StageBatch) -> Term:
        """Return L_DPO (11), over pairs."""
        with torch.no_grad(), self.adapters_off():
            reference = self.log_probs(batch)
        policy = self.log_probs(batch)
        losses_S = dpo_loss(*policy, *reference, beta=self.beta)
        pairs = torch.tensor(float(batch.pairs), device=losses_S.device)
        return Term(losses_S.sum(), pairs, batch.normalizers[PAIR])

    def log_probs(self, batch: StageBatch) -> tuple[Tensor, Tensor]:
        """Return log pi(a+ | x) and log pi(a- | x) of each pair, end of turn included."""
        chosen_S, rejected_S = sequence_log_probs(self(batch), batch, *self.output_head).chunk(2)
        return chosen_S, rejected_S

    @contextmanager
    def adapters_off(self) -> Iterator[None]:
        """Run the backbone without its adapters: the reference of equation (11)."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers = [layer for layer in self.lm.modules() if isinstance(layer, BaseTunerLayer)]
        training = self.training
        self.lm.eval()  # no dropout in the reference
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)
            self.lm.train(training)

    # -- answers -------------------------------------------------------------------------------

    def sample(self, record: Any, answer: Any) -> dict[str, str]:
        """Return the row that TensorBoard shows: of a text, how its first half is continued."""
        return super().sample(asked(record), answer)

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Count the right answers to queries and to questions with options."""
        triples = [(asked(r) if isinstance(r, Question) else r, reply) for r, reply in pairs]
        super().update_metrics(triples, ids)

    @evaluating
    def generate(self, records: Sequence[Any], *, temperature: float = 0.0) -> list[Reply]:
        """Answer each query, choose a letter for each question, continue each text's first half."""
        questions = [record for record in records if isinstance(record, Question)]
        others = [record for record in records if not isinstance(record, Question)]
        chosen = iter(self.choose(questions) if questions else [])
        written = iter(self.write(others, temperature) if others else [])
        return [next(chosen if isinstance(record, Question) else written) for record in records]

    def choose(self, questions: Sequence[Question]) -> list[Reply]:
        """Return the most likely letter of each question."""
        encoder = self.encoder()
        prompts = [encoder.prompt(record) for record in questions]
        ids = letter_ids(encoder.tokenizer, max(len(record.options) for record in questions))
        log_probs_RK = letter_log_probs(self.lm, self.output_head, prompts, ids)
        pairs = zip(log_probs_RK, questions, strict=True)
        return [Reply("", letter(int(row[: len(q.options)].argmax()))) for row, q in pairs]

    def write(self, records: Sequence[Any], temperature: float) -> list[Reply]:
        """Write what comes next: a turn of the assistant, or the rest of a text."""
        encoder = self.encoder()
        turn = encoder.ids(encoder.chat.open("assistant"))
        prompts = [
            [*encoder.prompt(record), *([] if isinstance(record, PlainText) else turn)]
            for record in records
        ]
        speak = Phase(0, self.last_logits, self.max_answer_tokens, temperature)
        texts = answer(self.new_decoder(len(records)), encoder, prompts, speak=speak)
        return [Reply("", text) for text in texts]

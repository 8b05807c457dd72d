"""Confidence of plain answers: five ways to doubt without a change of the model.

The baselines of LaMsS (arXiv 2409.06601). A model answers, trained on answers or not, and a
skepticism U in [0, 1] of its greedy answer A = a_1 ... a_n to the question Q is read from it:

    (1)  sequence       U = 1 - p(A | Q),  p(A | Q) = prod_t p(a_t | Q, a_<t)
         mean_sequence  U = 1 - p(A | Q)^(1/n)
    (2)  entropy        U = mean over t of H(p(. | Q, a_<t)) / ln V
    (3)  p_true         U = p(No) / (p(Yes) + p(No)) after "Is this answer right?"
                                                             (P(True), arXiv 2207.05221)
    (4)  verbalised     U = 1 - n/100, n the number said after "How sure are you?"
    (5)  sure           U = p(unsure) / (p(sure) + p(unsure)) after "Are you sure?"
                                                             (in the manner of R-Tuning, 2311.09677)

(1) to (4) share one run of plain fine-tuning. (5) needs one of its own: before its first step the
model answers all training questions, then it learns the gold answer followed by `I am sure` where
it was right and `I am unsure` where it was wrong.

    L = mean over the answers' tokens of CE + mean over the questions of CE(sure or unsure)

Shapes: B batch, L tokens, D width, V vocabulary.

Chosen here: A ends with its end-of-turn, which counts as a token; of a question with options the
answer is decoded among the letters, but (1) and (2) are of the whole vocabulary (skepticism levels
of a backbone that is an export of LaMsS aside); yes and no in place of (A) True and (B) False; of
`I am sure` only the token that decides is learned and read; a reply without a number is U = 1/2 and
counted as `unparsed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.backbone import Backbone
from zoo.decoding.constrained import only
from zoo.decoding.depth_decoder import DepthDecoder
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term, head_loss
from zoo.methods.lamss.baseline_encoder import (
    ANSWER,
    NUMBER_TOKENS,
    QUESTIONS,
    REACTIONS,
    SURE,
    TEXT,
    ConfidenceEncoder,
    number_said,
)
from zoo.methods.lamss.decoding import without
from zoo.methods.lamss.evaluation import DoubtedAnswer, SelectiveModule
from zoo.methods.lamss.level_tokens import level_ids
from zoo.methods.lamss.questions import ASKABLE, Askable, key
from zoo.methods.lamss.r_tuning import right_beforehand
from zoo.methods.lamss.token_confidence import (
    Seen,
    chance_of_other,
    decode_with_confidence,
    shades,
)
from zoo.module import evaluating
from zoo.optimizer import Optimizer
from zoo.records import PlainText, Question, Triple

Confidence = Literal["sequence", "mean_sequence", "entropy", "p_true", "verbalised", "sure"]
NAMES = ("sequence", "mean_sequence", "entropy", "p_true", "verbalised", "sure")


class ConfidentSFT(SelectiveModule):
    """Supervised fine-tuning on answers, with the doubt that can be read from a plain model.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        confidence: What is read, see the module docstring; the first one decides. None for all
            but `sure`. With `sure` the model is trained to say it.
        eps: Answers with a skepticism below it are given willingly.
        tune_eps: Tune the threshold in every validation and keep it for the test.
        max_length: Window in tokens.
        padding_free: Lay sequences end to end instead of padding them.
        max_new_tokens: Limit of an answer.
        max_generated: Questions to answer in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (Question, Triple, PlainText)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        confidence: list[Confidence] | None = None,
        eps: float = 0.5,
        tune_eps: bool = False,
        max_length: int = 2048,
        padding_free: bool = True,
        max_new_tokens: int = 32,
        max_generated: int | None = None,
    ) -> None:
        super().__init__(
            backbone, optimizer, eps=eps, tune_eps=tune_eps, max_generated=max_generated
        )
        self.save_hyperparameters()
        self.confidence: list[str] = list(NAMES[:5] if confidence is None else confidence)
        if not self.confidence or len(set(self.confidence)) < len(self.confidence):
            raise InputError(f"model.confidence: {self.confidence} is empty or repeats itself")
        self.max_length, self.padding_free = max_length, padding_free
        self.max_new_tokens = max_new_tokens
        self.was_right: dict[str, bool] | None = None  # training question -> before the first step

    def build_encoder(self, tokenizer: Any) -> ConfidenceEncoder:
        """Return the encoder."""
        return ConfidenceEncoder(
            tokenizer,
            asks=tuple(name for name in self.confidence if name in QUESTIONS),
            max_length=self.max_length,
            max_new_tokens=self.max_new_tokens,
            packed=self.padding_free,
        )

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return a term for each kind of target in the batch; `sure` in training only."""
        heads = {"answer": ANSWER, "text": TEXT}
        if self.was_right and self.training:
            heads["sure"] = SURE
            batch = self._with_reactions(batch)
        hidden_BLD, language_head = self(batch), self.output_head
        return {
            name: head_loss(hidden_BLD, batch, head, *language_head)
            for name, head in heads.items()
            if head in batch.normalizers
        }

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss; before the first step of a `sure` run the model answers."""
        if "sure" in self.confidence and self.was_right is None:
            self.was_right = right_beforehand(self.trainer, self.greedy)
        return super().training_step(batch, batch_idx)

    @evaluating
    def answer(self, records: Sequence[Askable]) -> list[DoubtedAnswer]:
        """Answer each question greedily and read the doubt about the answer, (1) to (5)."""
        texts, ids, seen = self._decode(records)
        doubts: dict[str, list[float]] = {
            "sequence": [chance_of_other(sum(logp)) for logp, _ in seen],
            "mean_sequence": [chance_of_other(sum(logp) / len(logp)) for logp, _ in seen],
            "entropy": [sum(entropy) / len(entropy) for _, entropy in seen],
        }
        counts: list[dict[str, float]] = [{} for _ in records]
        for name in self.confidence:
            if name in REACTIONS:
                doubts[name] = self._reactions(records, texts, name)
            elif name == "verbalised":
                shares = self._numbers(records, texts)
                doubts[name] = [0.5 if share is None else 1 - share for share in shares]
                counts = [{"unparsed": float(share is None)} for share in shares]
        coloured = shades(self.tokenizer, ids, seen)
        chosen = [{name: doubts[name][i] for name in self.confidence} for i in range(len(texts))]
        parts = zip(texts, chosen, coloured, counts, strict=True)
        return [DoubtedAnswer(*part) for part in parts]

    @evaluating
    def greedy(self, records: Sequence[Askable]) -> list[str]:
        """Answer each question greedily."""
        return self._decode(records)[0]

    def on_fit_start(self) -> None:
        """Raise `InputError` if there are no training questions to ask beforehand."""
        if "sure" in self.confidence and getattr(self.trainer, "datamodule", None) is None:
            raise InputError("model.confidence: 'sure' needs a data module, not loaders")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add which training questions the model answered rightly before its first step."""
        super().on_save_checkpoint(checkpoint)
        if self.was_right is not None:
            checkpoint["was_right"] = self.was_right

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore them."""
        super().on_load_checkpoint(checkpoint)
        self.was_right = checkpoint.get("was_right")

    def ordinary_logits(self, hidden_BD: Tensor) -> Tensor:
        """Return logits that choose no skepticism level, of a backbone that has them, `(B, V)`."""
        return without(self.last_logits(hidden_BD), level_ids(self.tokenizer, self.lm.config))

    def _decode(self, records: Sequence[Askable]) -> tuple[list[str], list[list[int]], list[Seen]]:
        """Return the greedy answers as text and ids, and log p and entropy of their tokens."""
        encoder = self.encoder()
        ids, seen = decode_with_confidence(
            self._decoder([encoder.prompt(record) for record in records]),
            self.ordinary_logits,
            stop_id=encoder.stop_id,
            max_new_tokens=self.max_new_tokens,
            allowed=only([encoder.choices(record) for record in records], encoder.stop_id),
        )
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts], ids, seen

    def _reactions(
        self, records: Sequence[Askable], texts: Sequence[str], name: str
    ) -> list[float]:
        """Return U of equation (3) or (5)."""
        start, calm, doubtful = self.encoder().reaction(name)
        asked = zip(records, texts, strict=True)
        decoder = self._decoder([self.encoder().after(*pair, name) + start for pair in asked])
        logits_BV = self.last_logits(decoder.state()).float()
        return logits_BV[:, [calm, doubtful]].softmax(-1)[:, 1].tolist()

    def _numbers(self, records: Sequence[Askable], texts: Sequence[str]) -> list[float | None]:
        """Return the confidence that is stated in words, None where there is no number."""
        encoder = self.encoder()
        asked = zip(records, texts, strict=True)
        ids = self._decoder([encoder.after(*pair, "verbalised") for pair in asked]).decode(
            0,
            self.ordinary_logits,
            stop_id=encoder.stop_id,
            max_new_tokens=NUMBER_TOKENS,
            close=False,
        )
        return [number_said(text) for text in self.tokenizer.batch_decode(ids)]

    def _decoder(self, prompts: Sequence[Sequence[int]]) -> DepthDecoder:
        decoder = self.new_decoder(len(prompts))
        decoder.feed(prompts, 0)
        return decoder

    def _with_reactions(self, batch: Batch) -> Batch:
        """Return the batch with the token that decides, in place of the encoder's `sure`."""
        assert self.was_right is not None
        _, sure, unsure = self.encoder().reaction("sure")
        asked = [record for record in batch.records if isinstance(record, ASKABLE)]
        tokens = [sure if self.was_right[key(record)] else unsure for record in asked]
        labels = batch.labels.clone()
        labels[batch.head_ids == SURE] = torch.tensor(tokens, device=labels.device)
        return replace(batch, labels=labels)

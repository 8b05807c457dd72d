"""LaMsS: when large language models meet self-skepticism.

arXiv 2409.06601. A series of skepticism tokens s_0 ... s_{N-1}, from no doubt to full doubt, joins
the vocabulary. Continual pre-training and fine-tuning teach the model to write one after every
normal token; asked a second time, it grades its whole answer with one. It answers willingly only
if that skepticism is below a threshold.

    (1)  v_j = j / (N - 1)                                  value of level j
    (2)  u_t = sum_j v_j P_t[j],  P_t = softmax over the levels after x_t
    (3)  U   = sum_j v_j P[j],    P after question, answer and instruction (second pass)
    (4)  L   = mean CE(x_t) + lambda_s mean CE(s_t) + lambda_p mean CE(level of an answer)
    (5)  willing = U < eps

Shapes: B batch, L tokens, D width, V vocabulary with levels.

The paper's full text and code were not available: this is "LaMsS-style". Follows (abstracts and
digests): tokens added to the vocabulary; each normal token is followed by one; pre-training, then
fine-tuning on the model's own successes and failures in two passes; threshold about 0.5.
Deviates: the second pass reads the cache of the first one, with the same result.
Unknown in the paper, chosen here: N = 5; lambdas 1; softmax over the whole vocabulary in training;
rows start at the mean row moved towards graded words; a token's level is the quantile (in its
split) of 1 - p0(x_t | x_<t), or an annotated span's; p0 is a share of the ordinary tokens, by the
model before training: on clean text if it writes no levels, else (in the second stage) with its own
levels between the tokens, because on clean text it expects a level; `label_from` names another;
an answer's level is s_0 if right, else s_{N-1}; right and wrong are balanced in training only by
repeating the rarer; the query has levels only on demand (its own quantiles in training, those that
the model writes while it reads in use); end-of-turn is a normal token, but the scores beside U
leave its level out (it says nothing of the answer); U decides. One greedy answer of the model
*before* fine-tuning is judged: it has seen no answer of the training data, so there are no folds.
Not built: several sampled answers, smoothing over neighbouring levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.backbone import Backbone, read_config
from zoo.decoding.constrained import only
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term, head_loss
from zoo.methods.lamss.decoding import (
    Graded,
    LevelDecoder,
    decode_graded,
    expected_level,
    read_graded,
    without,
)
from zoo.methods.lamss.encoder import LEVEL, NORMAL, SIGMA, SkepticEncoder
from zoo.methods.lamss.evaluation import DoubtedAnswer, SelectiveModule
from zoo.methods.lamss.labeler import AnswerLabeler
from zoo.methods.lamss.level_tokens import (
    FORM,
    WRITES,
    add_levels,
    check_form,
    grow,
    writes_levels,
)
from zoo.methods.lamss.questions import Askable
from zoo.module import evaluating
from zoo.nn.blocks import explicit_mask
from zoo.optimizer import Optimizer
from zoo.records import PlainText, Question, Triple

HEADS = {"token": NORMAL, "sigma": SIGMA, "level": LEVEL}


class LaMsS(SelectiveModule):
    """A language model that grades its own tokens and answers with skepticism tokens.

    `PlainText` records are the first stage (continual pre-training), questions the second. The
    second stage starts from an export of the first: `backbone.name` is that folder.

    Args:
        backbone: Which language model to build on. With `lora` the embedding and the head train
            too, as a whole, because the new rows are in them.
        optimizer: AdamW and its schedule.
        num_levels: N, 2 to 10.
        sigma_weight: lambda_s of equation (4).
        level_weight: lambda_p of equation (4).
        doubt_source: Where the levels of a text's tokens come from: `ref_prob` or `span_labels`.
        label_from: Model that labels the data, named like `backbone.name`, with the same
            tokenizer; None for the backbone as it is before training. One that has learned to write
            levels reads with them, token by token; one that has not reads clean text in one pass.
        interleave: Write a level after every token; if not, only the second pass has one.
        interleave_query: Write one after every token of the question, too, as in the texts.
        hide_sigma: No other token attends to the level of a token (padded rows are used). An
            export says this and the next setting; another stage with levels must keep both.
        shared_positions: A token and its level have one position; if not, they count on.
        eps: Answers with U < eps are given willingly.
        tune_eps: Tune eps in every validation, starting from `eps`.
        max_length: Window in tokens, levels included.
        padding_free: Lay sequences end to end instead of padding them.
        max_answer_tokens: Limit of an answer, levels excluded.
        max_generated: Questions to answer in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (PlainText, Question, Triple)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        num_levels: int = 5,
        sigma_weight: float = 1.0,
        level_weight: float = 1.0,
        doubt_source: Literal["ref_prob", "span_labels"] = "ref_prob",
        label_from: str | None = None,
        interleave: bool = True,
        interleave_query: bool = False,
        hide_sigma: bool = False,
        shared_positions: bool = False,
        eps: float = 0.5,
        tune_eps: bool = False,
        max_length: int = 2048,
        padding_free: bool = True,
        max_answer_tokens: int = 16,
        max_generated: int | None = 128,
    ) -> None:
        super().__init__(
            backbone, optimizer, eps=eps, tune_eps=tune_eps, max_generated=max_generated
        )
        self.save_hyperparameters()
        self.num_levels, self.doubt_source, self.label_from = num_levels, doubt_source, label_from
        self.loss_weights = {"token": 1.0, "sigma": sigma_weight, "level": level_weight}
        self.interleave, self.interleave_query = interleave, interleave_query
        self.hide_sigma, self.shared_positions = hide_sigma, shared_positions
        self.max_length = max_length
        self.padding_free, self.max_answer_tokens = padding_free, max_answer_tokens

    def validate(self) -> None:
        """Check the number of levels, their form, and that something can learn.

        Raises:
            InputError: N is not in 2..10, the backbone is frozen, the query is to have levels and
                the answer none, or the backbone has learned levels of another form.
        """
        if not 2 <= self.num_levels <= 10:
            raise InputError(f"model.num_levels: {self.num_levels} is not in 2..10")
        if self.interleave_query and not self.interleave:
            raise InputError("model.interleave_query: true needs model.interleave: true")
        if self.interleave:
            check_form(read_config(self.backbone.name), self.backbone.name, self.form)
        if self.backbone.freeze:
            raise InputError(
                "model.backbone.freeze: the rows of the levels must learn; use lora instead"
            )

    @property
    def form(self) -> dict[str, bool]:
        """How levels stand in the sequences, by the names of the settings."""
        return {"hide_sigma": self.hide_sigma, "shared_positions": self.shared_positions}

    def whole_with_lora(self) -> list[nn.Module]:
        """Return the embedding and the head: the rows of the levels are in them."""
        return [self.lm.get_input_embeddings(), self.lm.lm_head]

    def install(self) -> None:
        """Add the levels to the tokenizer, the embedding and the head."""
        name = self.backbone.name
        self.level_ids = add_levels(self.tokenizer, self.num_levels, self.lm.config, name)
        writes = self.interleave or writes_levels(self.lm.config)
        grow(self.lm, self.tokenizer, self.level_ids)
        setattr(self.lm.config, WRITES, writes)
        if self.interleave:
            setattr(self.lm.config, FORM, self.form)

    def build_encoder(self, tokenizer: Any) -> SkepticEncoder:
        """Return the encoder; with a backbone of shapes alone it labels no more than a sample."""
        config = read_config(self.backbone.name) if self.lm is None else self.lm.config
        level_ids = add_levels(tokenizer, self.num_levels, config, self.backbone.name)
        encoder = SkepticEncoder(
            tokenizer,
            level_ids,
            labels=None,
            doubt_source=self.doubt_source,
            interleave=self.interleave,
            interleave_query=self.interleave_query,
            shared_positions=self.shared_positions,
            max_length=self.max_length,
            max_answer_tokens=self.max_answer_tokens,
            packed=self.padding_free and not self.hide_sigma,
        )
        name = self.label_from or self.backbone.name
        labels = AnswerLabeler(
            replace(self.backbone, name=name, lora=None),
            tokenizer,
            stop_id=encoder.stop_id,
            max_new_tokens=self.max_answer_tokens,
            hidden=self.hide_sigma,
            shared_positions=self.shared_positions,
        )
        if self.lm is not None and self.lm.device.type == "meta":
            encoder.sample_labels = labels
        else:
            encoder.labels = labels
        return encoder

    def forward(self, batch: Batch) -> Tensor:
        """Return the residual stream after the last block, `(B, L, D)`."""
        if self.hide_sigma:
            return self.run_blocks(batch, attention_mask=self._mask_without_sigma(batch))
        return self.run_blocks(batch)

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return the three terms of equation (4), each over the tokens of its own."""
        hidden_BLD, language_head = self(batch), self.output_head
        return {
            name: head_loss(hidden_BLD, batch, head, *language_head) for name, head in HEADS.items()
        }

    @evaluating
    def answer(self, records: Sequence[Askable]) -> list[DoubtedAnswer]:
        """Answer each question, then judge the answer: equations (2) and (3)."""
        encoder = self.encoder()
        decoder = self.new_decoder(
            len(records),
            kind=LevelDecoder,
            level_ids=self.level_ids,
            hidden=self.hide_sigma,
            shared_positions=self.shared_positions,
        )
        prompts = [encoder.prompt(record) for record in records]
        if self.interleave_query:
            read_graded(decoder, prompts, self.last_logits, self.level_ids)
        else:
            decoder.feed(prompts, 0)
        limits: dict[str, Any] = {
            "stop_id": encoder.stop_id,
            "max_new_tokens": self.max_answer_tokens,
            "allowed": only([encoder.choices(r) for r in records], encoder.stop_id),
        }
        if self.interleave:
            rows = decode_graded(decoder, self.last_logits, self.level_ids, **limits)
        else:
            normal = decoder.decode(0, self.normal_logits, **limits)
            rows = [Graded(ids) for ids in normal]
        decoder.feed([encoder.instruction] * len(records), 0)
        doubts_B, _ = expected_level(self.last_logits(decoder.state()), self.level_ids)
        pairs = zip(rows, doubts_B.tolist(), strict=True)
        return [self._answer(row, doubt) for row, doubt in pairs]

    def normal_logits(self, hidden_BD: Tensor) -> Tensor:
        """Return logits that choose no level, `(B, V)`."""
        return without(self.last_logits(hidden_BD), self.level_ids)

    def _answer(self, row: Graded, doubt: float) -> DoubtedAnswer:
        skepticism = {"response": doubt}
        if self.interleave:
            ended = len(row.ids) > 1 and row.ids[-1] == self.encoder().stop_id
            said = row.doubts[:-1] if ended else row.doubts
            tokens = sum(said) / len(said)
            skepticism |= {"tokens": tokens, "max": max(said), "last": said[-1]}
            skepticism["both"] = (doubt + tokens) / 2
        texts = [self.tokenizer.decode([token]) for token in row.ids]
        graded = tuple(zip(texts, row.doubts, strict=True)) if self.interleave else ()
        return DoubtedAnswer(self.encoder().text(row.ids), skepticism, graded)

    def _mask_without_sigma(self, batch: Batch) -> Any:
        """Return the mask in which a level is seen by itself alone."""
        assert batch.attention_mask is not None
        levels = torch.tensor(self.level_ids, device=batch.input_ids.device)
        seen_BL = batch.attention_mask * ~torch.isin(batch.input_ids, levels)
        length = batch.input_ids.shape[1]
        return explicit_mask(self.lm.config, seen_BL, batch.position_ids, length)

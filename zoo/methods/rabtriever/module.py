"""Rabtriever: a retriever distilled on-policy from a generative reranker.

arXiv 2604.23336 (ICMR 2026). In LaHoRe's prompt the document comes first, so its states do not
depend on the query, while the query's states depend on the document. Here the frozen model encodes
both apart, and a very small predictor turns document-blind query states into those that the model
would have had after reading the document, given the document's last state. The head then scores.

    (1)  e_D = M(D),  e_Q = M(Q),  e_tea = M(D, Q)[L_D:]      M: blocks and final norm, frozen
    (2)  e_stu = MLP(e_Q) * e_D[-1]                           the only parameters: MLP
    (3)  P_stu = softmax(H e_stu[-1]),  P_tea = softmax(H e_tea[-1])
    (4)  F = MSE(e_stu, e_tea) + w KL(P_stu || P_tea)         w = 1 / w_e
    (5)  s_D = l_T - l_F = <(W_T - W_F) * u, e_D[-1]>,  u = MLP(e_Q)[-1]

Equation (5) is an inner product, so a ranking is one LLM pass per query and one matrix product, or
a search in any index of inner products.

Shapes: R pairs, T slots of a query part, U different queries, D width, V vocabulary, n documents.

Follows: frozen backbone and head shared by teacher and student; two linear layers with ReLU;
elementwise product with the document's last state; documents of 32 tokens, padded on the left;
MSE plus reverse KL over the whole vocabulary; every positive and all negatives of the pool.
Deviates: (5) instead of the printed ratio of log-probabilities, which falls as P(T) rises, and
not its sigmoid, which ranks alike until it rounds to 1.
Unknown or contradictory in the paper, chosen here: states are taken after the final norm, which
(5) needs; the MSE is the mean over query positions and widths; the query part holds the question
and the answer's header and starts where the slot ends, which holds the text before a document too;
w = 0.025, from the curve over w_e, where the settings say 0.25; hidden width, biases and
initialisation are torch's defaults for D -> D -> D; learning rate 1e-3 for the new layers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.backbone import Backbone
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term
from zoo.methods.lahore.encoder import PAIR
from zoo.methods.lahore.prompts import SYSTEM
from zoo.methods.rabtriever.distillation import StateComparison, head_divergence, state_errors
from zoo.methods.rabtriever.document_vectors import DocumentVectors
from zoo.methods.rabtriever.encoder import STATES, StateEncoder, StatePair
from zoo.methods.rabtriever.frozen_states import FrozenStates
from zoo.methods.rabtriever.state_predictor import StatePredictor
from zoo.methods.rabtriever.teacher import check_prompt
from zoo.module import evaluating
from zoo.optimizer import Optimizer
from zoo.ranking.evaluation import RankingModule
from zoo.records import Document, Ranking

log = logging.getLogger(__name__)


class Rabtriever(RankingModule):
    """A frozen reranker's states predicted from query and document apart.

    The teacher is the backbone: `backbone.name` may be the folder of an exported LaHoRe, and `fit`
    takes one, or a checkpoint of LaHoRe, as `--init_from`.

    Args:
        backbone: The teacher, and what the predictor stands on; it stays frozen.
        optimizer: AdamW and its schedule, for the predictor.
        num_layers: Linear layers of the predictor.
        kl_weight: w of equation (4).
        form: `w` is MSE + w KL; `w_e` is MSE / w + KL, the same times a constant.
        divergence: `reverse` as in equation (4), `forward` KL(P_tea || P_stu), or `none`.
        mse: Keep the MSE; False leaves KL alone (ablation).
        positions: Query positions of the MSE: `all`, or the `last`, all that a score needs.
        product: Multiply with the document's state; without it all documents tie (ablation).
        template: Wording; that of the teacher.
        relevance: Ask the relevance question.
        choice: Tell the binary choice.
        labels: How "true" and "false" are written, a token each.
        system: System line; empty for none.
        negatives: Documents that are not relevant per query in training; None for all.
        document_tokens: Longest document in tokens; the end of a longer one is left out.
        max_length: Window in tokens.
        cache_gib: Memory for states of documents, and as much again for queries; 0 keeps none.
        max_ranked: Records to rank in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (Ranking,)
    documents_per_shard: ClassVar[int] = 4096
    may_start_new: ClassVar[tuple[str, ...]] = ("predictor.",)  # a teacher has none

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        num_layers: int = 2,
        kl_weight: float = 0.025,
        form: Literal["w", "w_e"] = "w",
        divergence: Literal["reverse", "forward", "none"] = "reverse",
        mse: bool = True,
        positions: Literal["all", "last"] = "all",
        product: bool = True,
        template: Literal["paper", "released", "followup"] = "followup",
        relevance: bool = True,
        choice: bool = True,
        labels: list[str] | None = None,
        system: str = SYSTEM,
        negatives: int | None = None,
        document_tokens: int = 32,
        max_length: int = 2048,
        cache_gib: float = 1.0,
        max_ranked: int | None = None,
    ) -> None:
        super().__init__(backbone, optimizer, max_ranked=max_ranked)
        self.save_hyperparameters()
        self.num_layers, self.kl_weight, self.form = num_layers, kl_weight, form
        self.divergence, self.mse, self.positions = divergence, mse, positions
        self.product, self.negatives, self.cache_gib = product, negatives, cache_gib
        self.shown = DocumentVectors()
        self.prompt: dict[str, Any] = {
            "template": template,
            "relevance": relevance,
            "choice": choice,
            "labels": labels or ["A", "B"],
            "system": system,
            "document_tokens": document_tokens,
            "max_length": max_length,
        }

    def validate(self) -> None:
        """Check the labels, the loss, and the prompt against that of the teacher.

        Raises:
            InputError: A label is not one token, no loss is left, or the teacher's prompt differs.
        """
        if self.backbone.lora is not None:
            raise InputError("model.backbone.lora: the backbone is the teacher and stays frozen")
        if not self.mse and self.divergence == "none":
            raise InputError("model.mse is false and model.divergence is none: nothing to learn")
        if not 1 <= self.num_layers <= 3 or self.kl_weight <= 0:
            raise InputError("model.num_layers must be 1, 2 or 3, and model.kl_weight above 0")
        for source in (self.backbone.name, self.init_from):
            check_prompt(self.prompt, source)
        self.encoder()

    def install(self) -> None:
        """Freeze the teacher; add the predictor and the weights of the terms of equation (4)."""
        self.lm.requires_grad_(False)
        self.predictor = StatePredictor(self.lm.config.hidden_size, self.num_layers)
        self.forget()
        self.lm.register_load_state_dict_post_hook(self.forget)
        scale = 1.0 if self.form == "w" else 1 / self.kl_weight  # 1 and w, or w_e = 1 / w and 1
        kl = self.kl_weight * scale if self.divergence != "none" else 0.0
        self.loss_weights = {"mse": scale if self.mse else 0.0, "kl": kl}

    def forget(self, *_: Any) -> None:
        """Keep no states of the teacher: none are there yet, or its weights were replaced."""
        self.frozen = FrozenStates(self.encoder().slot, self.cache_gib * 2**30)

    def train(self, mode: bool = True) -> Rabtriever:
        """Switch the predictor; the teacher stays in evaluation mode."""
        super().train(mode)
        if self.lm is not None:
            self.lm.eval()
        return self

    def build_encoder(self, tokenizer: Any) -> StateEncoder:
        """Return the encoder of pairs."""
        return StateEncoder(tokenizer, **self.prompt, negatives=self.negatives)

    def forward(  # type: ignore[override]
        self, queries: Tensor, documents: Tensor
    ) -> Tensor:
        """Return e_stu of equation (2), `(..., D)`, from e_Q and e_D[-1].

        Training learns what this returns. Equation (5) needs the product: who overrides this
        overrides `query_vectors` or `scores` too, else documents are refused to be ranked.
        """
        predicted: Tensor = self.predictor(queries)
        return predicted * documents.float() if self.product else predicted

    def views(self, pairs: Sequence[StatePair]) -> StateComparison:
        """Run teacher and student on pairs, equations (1) and (2)."""
        heads, tails = [pair.head for pair in pairs], [pair.tail for pair in pairs]
        seen = self.frozen.pairs(self.lm, heads, tails, self.everyone_done)
        made = self(seen.blind, seen.ends[:, None])
        return StateComparison(made, seen.seeing.float(), seen.real, seen.last)

    def losses(self, batch: Any) -> dict[str, Term]:
        """Return both terms of equation (4): over query positions, and over pairs."""
        views, last = self.views(batch.pairs), self.positions == "last"
        squares, over = state_errors(views, last=last), PAIR if last else STATES
        apart = head_divergence(views, self.lm.lm_head.weight, forward=self.divergence == "forward")
        counts = [torch.tensor(float(len(part)), device=apart.device) for part in (squares, apart)]
        return {
            "mse": Term(squares.sum(), counts[0], batch.normalizers[over]),
            "kl": Term(apart.sum(), counts[1], batch.normalizers[PAIR]),
        }

    def on_train_start(self) -> None:
        """Say how the terms are weighted, in both of the paper's forms."""
        w = self.kl_weight
        log.warning("F = MSE + w KL, w = %g; the same as w_e MSE + KL, w_e = %g", w, 1 / w)
        self.encoder().report_cut()

    # -- scores --------------------------------------------------------------------------------

    def in_float32(self) -> torch.autocast:
        """Return a context without autocast: documents tie where scores are rounded to 8 bits."""
        return torch.autocast(self.device.type, enabled=False)

    def document_vectors(self, heads: Sequence[tuple[int, ...]]) -> Tensor:
        """Return e_D[-1] of each document, `(n, D)` in float32."""
        last_ND = self.frozen.last(self.lm, heads, self.everyone_done)
        with self.in_float32():
            vectors = self.lm.model.norm(last_ND).float()
        return vectors if self.product else torch.ones_like(vectors)

    def query_vectors(self, tails: Sequence[tuple[int, ...]]) -> Tensor:
        """Return (W_T - W_F) * u of each query, `(U, D)` in float32: its inner products are odds.

        Raises:
            TypeError: A subclass has another equation (2), for which (5) does not hold.
        """
        if type(self).forward is not Rabtriever.forward:
            raise TypeError(
                f"{type(self).__name__} overrides forward, equation (2), but documents are ranked "
                f"by its product; override query_vectors or scores too"
            )
        states = self.frozen.alone(self.lm, tails, self.everyone_done)
        last_UD = torch.stack([states[tail][-1] for tail in tails])
        true, false = self.lm.lm_head.weight[self.encoder().option_ids].float()
        with self.in_float32():
            vectors: Tensor = self.predictor(self.lm.model.norm(last_UD)) * (true - false)
        return vectors

    def odds(self, queries: Tensor, documents: Tensor) -> Tensor:
        """Return equation (5), `(U, n)` in float64, from the vectors `(U, D)` and `(n, D)`."""
        with self.in_float32():
            return (queries @ documents.t()).double()

    @evaluating
    def scores(self, records: Sequence[Ranking]) -> list[list[float]]:
        """Return equation (5) for each document of each record's pool."""
        grid = self.encoder().grid(records)
        vectors = self.document_vectors(list(grid.heads.values()))
        scores = self.odds(self.query_vectors(grid.tails), vectors)
        queries, documents = grid.places()
        self.shown.add(records, vectors[documents])
        values = iter(scores[queries, documents].tolist())
        return [[next(values) for _ in record.pool] for record in records]

    # -- evaluation ----------------------------------------------------------------------------

    def start_evaluation(self) -> None:
        """Forget the rankings and the vectors of the last epoch."""
        super().start_evaluation()
        self.shown = DocumentVectors()

    def figures(self) -> dict[str, Any]:
        """Return the figures of every ranking method, and the vectors of documents."""
        ranked = {name for _, query in self.answers.values() for name in query.scores}
        drawn = super().figures()
        return drawn | self.shown.figure(ranked) if drawn else {}

    # -- index: documents offline, queries online ----------------------------------------------

    def offline_settings(self) -> dict[str, Any]:
        """Return what of the prompt a document's vector depends on."""
        names = ("template", "system", "document_tokens")
        return {**{name: self.prompt[name] for name in names}, "product": self.product}

    @evaluating
    def offline(self, documents: Sequence[Document]) -> dict[str, Tensor]:
        """Return one vector per document."""
        half = self.encoder().half
        heads = [half("head", "document", document.content) for document in documents]
        return {"vectors": self.document_vectors(heads)}

    @evaluating
    def online(self, queries: Sequence[str], states: Mapping[str, Tensor]) -> Tensor:
        """Return the score of each query with each vector, `(Q, n)`."""
        return self.odds(self.search_vectors(queries), states["vectors"].to(self.device)).cpu()

    @evaluating
    def search_vectors(self, queries: Sequence[str]) -> Tensor:
        """Return the vector to search each query with, by inner product, `(Q, D)`."""
        return self.query_vectors([self.encoder().half("tail", "query", q) for q in queries])

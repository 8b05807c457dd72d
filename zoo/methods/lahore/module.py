"""LaHoRe: a language model as cross-encoder for retrieval with a hidden rationale.

arXiv 2412.16615 (ECIR 2025; its title writes RaHoRe). Query and document may be linked by
experience rather than by wording: which support strategy suits this message? A prompt holds the
document, the query and a two-option question; relevance is read from the option logits of the next
token. No new parameters: it works zero-shot and is tuned by SFT or DPO. The document comes first,
so its keys and values do not depend on the query and are computed once.

    (1)  x = [document block | query block, question, answer's header]      | is a fixed cut
    (2)  s_rel = l_T - l_F,  l = W[{T, F}] norm(h_K(x)) at the last position
    (3)  L_SFT = -sum over the answer and its end-of-turn of log pi(a_j | x, a_<j)
    (4)  L_DPO = -log sigmoid(beta [log pi(a+|x)/pi_0(a+|x) - log pi(a-|x)/pi_0(a-|x)])
    (5)  pairs: every relevant document of a query gives T, every other of its pool F ("1:all")

With one-token options and z = l_T - l_F, (4) is -log sigmoid(y beta (z - z_0)) up to the difference
of the end-of-turn terms, y = +-1.

Shapes: B sequences, L tokens, D width, V vocabulary, R pairs.

Follows: prompt (both wordings, I_r and I_bc apart), all parameters trained, answer-only loss,
1:all pairs without balancing, sigmoid DPO with beta 0.1 that starts from the instruct model.
Deviates: (2) instead of the printed ratio log P(T) / (log P(T) + log P(F)), which falls as P(T)
rises (`score: literal` gives it with its sign turned, so that higher is better), and not the
sigmoid of (2), which ranks alike until it rounds to 1; labels are one token each; one forward pass
and no sampling; the reference's log-probabilities are computed before training instead of keeping a
second model; the chat markers are the backbone's own.
Unknown in the paper, chosen here: chosen and rejected answers of (4) are the right and the wrong
option; a document is its name (title and text where a corpus has them), cut to its slot at its end;
a query that is too long loses its beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.backbone import Backbone
from zoo.decoding.option_logits import (
    literal_score,
    option_log_probs,
    option_logits,
    relevance_score,
)
from zoo.decoding.prefix_cache import Prefixes, prefill
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term, head_loss, total_loss
from zoo.losses.preference import dpo_loss, sequence_log_probs
from zoo.methods.lahore.encoder import ANSWER, PAIR, RelevanceBatch, RelevanceEncoder
from zoo.methods.lahore.prompts import SYSTEM, Order
from zoo.methods.lahore.reference_logprobs import ReferenceLogProbs
from zoo.module import evaluating
from zoo.optimizer import Optimizer
from zoo.ranking.evaluation import RankingModule
from zoo.ranking.pair_scoring import Store, pack, read_pairs, store_of, unpack
from zoo.records import Document, Ranking


class LaHoRe(RankingModule):
    """A language model that answers whether a document suits a query; its odds rank documents.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        objective: `sft`, equation (3), or `dpo`, equation (4).
        beta: Of equation (4), 1 / nats.
        template: Wording: `paper`, `released` (the released script's structure in our words) or
            `followup` (as Rabtriever's paper prints it).
        order: Which text comes first; `query_first` is an ablation that keeps queries instead.
        relevance: Ask the relevance question I_r.
        choice: Tell the binary choice I_bc.
        labels: How "true" and "false" are written, a token each.
        system: System line; empty for none.
        score: `log_odds`, equation (2), or `literal`: the printed ratio, its sign turned.
        negatives: Documents that are not relevant per query in training; None for all.
        document_tokens: Slot of a document in tokens; a longer one loses its end.
        max_length: Window in tokens.
        padding_free: Lay sequences end to end instead of padding them.
        cache_gib: Memory for kept documents during an evaluation, GiB.
        max_ranked: Records to rank in each validation or test; None for all.
    """

    takes: ClassVar[tuple[type, ...]] = (Ranking,)
    documents_per_shard: ClassVar[int] = 16  # an 8B's 512 tokens take 64 MiB a document

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: Optimizer | None = None,
        objective: Literal["sft", "dpo"] = "sft",
        beta: float = 0.1,
        template: Literal["paper", "released", "followup"] = "paper",
        order: Order = "document_first",
        relevance: bool = True,
        choice: bool = True,
        labels: list[str] | None = None,
        system: str = SYSTEM,
        score: Literal["log_odds", "literal"] = "log_odds",
        negatives: int | None = None,
        document_tokens: int = 512,
        max_length: int = 2048,
        padding_free: bool = True,
        cache_gib: float = 1.0,
        max_ranked: int | None = None,
    ) -> None:
        super().__init__(backbone, optimizer, max_ranked=max_ranked)
        self.save_hyperparameters()
        self.objective, self.beta, self.score = objective, beta, score
        self.prompt: dict[str, Any] = {
            "template": template,
            "order": order,
            "relevance": relevance,
            "choice": choice,
            "labels": labels or ["A", "B"],
            "system": system,
            "document_tokens": document_tokens,
            "max_length": max_length,
        }
        self.negatives, self.padding_free, self.cache_gib = negatives, padding_free, cache_gib
        self.reference = ReferenceLogProbs()
        self.store: Store[Prefixes] | None = None  # documents kept during an evaluation

    def validate(self) -> None:
        """Check labels and window against the tokenizer: the encoder does."""
        self.encoder()

    def build_encoder(self, tokenizer: Any) -> RelevanceEncoder:
        """Return the encoder of equations (1) and (5)."""
        return RelevanceEncoder(
            tokenizer,
            **self.prompt,
            negatives=self.negatives,
            preference=self.objective == "dpo",
            packed=self.padding_free,
        )

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return L_SFT of equation (3), over the right answers."""
        return {"answer": head_loss(self(batch), batch, ANSWER, *self.output_head)}

    def log_probs(self, batch: RelevanceBatch) -> tuple[Tensor, ...]:
        """Return log pi(a+ | x) and log pi(a- | x) of each pair, end-of-turn included."""
        # The batch first: it gathers the head's weight too, where weights are sharded.
        return sequence_log_probs(self(batch), batch, *self.output_head).chunk(2)

    def preference(self, batch: RelevanceBatch) -> dict[str, Term]:
        """Return L_DPO of equation (4), over pairs."""
        right, wrong = self.log_probs(batch)
        reference = self.reference.of(batch.keys, self.device)
        losses = dpo_loss(right, wrong, *reference, beta=self.beta)
        pairs = torch.tensor(float(len(batch.keys)), device=losses.device)
        return {"preference": Term(losses.sum(), pairs, batch.normalizers[PAIR])}

    def training_step(self, batch: RelevanceBatch, batch_idx: int) -> Tensor:
        """Return the loss of the objective."""
        terms = self.losses(batch) if self.objective == "sft" else self.preference(batch)
        self.log_terms("train", terms)
        return total_loss(terms)

    # -- scores --------------------------------------------------------------------------------

    def read(self, states_RD: Tensor) -> Tensor:
        """Return the score of each row, equation (2), from the states of last tokens, `(R,)`."""
        weight, norm = self.output_head
        options = self.encoder().option_ids
        if self.score == "literal":
            return literal_score(option_log_probs(states_RD, norm, weight, options))
        return relevance_score(option_logits(states_RD, norm, weight, options))

    @evaluating
    def scores(self, records: Sequence[Ranking]) -> list[list[float]]:
        """Return a score for each document of each record's pool; every document is run once."""
        grid = self.encoder().grid(records)
        store = self.new_store() if self.store is None else self.store
        values = iter(self.read_pairs(grid.heads, grid.tails, grid.pairs, store).tolist())
        return [[next(values) for _ in record.pool] for record in records]

    def read_pairs(self, heads: Any, tails: Any, pairs: Any, store: Store[Prefixes]) -> Tensor:
        """Return the score of each (head, tail) pair; see `zoo.ranking.pair_scoring`."""
        done = self.everyone_done
        return read_pairs(self.lm, heads, tails, pairs, self.read, store=store, everyone_done=done)

    def new_store(self) -> Store[Prefixes]:
        """Return an empty store for documents; valid as long as the weights are not changed."""
        return Store(self.cache_gib * 2**30)

    # -- index: documents offline, queries online ----------------------------------------------

    def offline_settings(self) -> dict[str, Any]:
        """Return what of the prompt a document's states depend on.

        Raises:
            InputError: The query comes first, so they depend on the query.
        """
        if self.prompt["order"] != "document_first":
            raise InputError("model.order: an index needs document_first")
        names = ("template", "order", "system", "document_tokens")
        return {name: self.prompt[name] for name in names}

    @evaluating
    def offline(self, documents: Sequence[Document]) -> dict[str, Tensor]:
        """Return keys and values of documents, laid end to end."""
        encoder = self.encoder()
        heads = [encoder.half("head", "document", document.content) for document in documents]
        return pack(prefill(self.lm, heads))

    @evaluating
    def online(self, queries: Sequence[str], states: Mapping[str, Tensor]) -> Tensor:
        """Return the score of each query with each document that `offline` has run, `(Q, n)`."""
        store = store_of(unpack(states, self.lm.device))
        tails = [self.encoder().half("tail", "query", query) for query in queries]
        pairs = [(i, q) for q in range(len(tails)) for i in range(len(store))]
        return self.read_pairs({}, tails, pairs, store).view(len(tails), len(store))

    # -- hooks ---------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Prepare the reference of equation (4), before the first step."""
        self.encoder().report_cut()
        if self.objective == "dpo":
            self.reference.prepare(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the reference, which the trained weights cannot give any more."""
        super().on_save_checkpoint(checkpoint)
        if self.objective == "dpo":
            checkpoint["reference"] = self.reference.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the reference."""
        super().on_load_checkpoint(checkpoint)
        self.reference.restored = checkpoint.get("reference")

    def start_evaluation(self) -> None:
        """Forget the last rankings; keep documents from now on."""
        super().start_evaluation()
        self.store = self.new_store()

    def log_scores(self, stage: str) -> None:
        """Log the scores; forget the documents, since the weights will change."""
        super().log_scores(stage)
        self.store = None

    def on_predict_epoch_end(self) -> None:
        """Forget the documents, since the weights may change."""
        self.store = None

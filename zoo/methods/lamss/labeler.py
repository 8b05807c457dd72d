"""A frozen model that labels training data: loaded when the cache lacks something, then dropped.

It is never a part of the module that trains, and what it said is kept on disk by model and text
(`zoo/cache.py`), so that a resumed run and the other processes do not ask again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from zoo import backbone as backbones
from zoo.backbone import Backbone
from zoo.cache import fingerprint, remember
from zoo.decoding.constrained import only
from zoo.decoding.depth_decoder import DepthDecoder
from zoo.errors import InputError
from zoo.methods.lamss.decoding import decode_graded, read_graded
from zoo.methods.lamss.level_tokens import MARK, level_ids
from zoo.methods.lamss.token_probabilities import Row, probabilities
from zoo.model_files import resolve
from zoo.tiny_models import TINY

log = logging.getLogger(__name__)
BATCH = 32  # answers at a time


class AnswerLabeler:
    """Scores and answers of a language model before training.

    Args:
        backbone: The model; its adapters and its surgery play no part.
        tokenizer: The tokenizer that the ids are of; the model's own must agree with it.
        stop_id: Token that ends an answer.
        max_new_tokens: Limit of an answer.
        grade_query: A model that has learned to grade every token grades those of a prompt, too.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: Any,
        *,
        stop_id: int,
        max_new_tokens: int,
        grade_query: bool = False,
    ) -> None:
        self.backbone, self.tokenizer = backbone, tokenizer
        self.stop_id, self.max_new_tokens = stop_id, max_new_tokens
        self.grade_query = grade_query
        self._lm: Any = None

    def doubts(self, rows: Sequence[Row]) -> list[list[float]]:
        """Return u_t = 1 - p0(x_t | context, x_<t) of each token of (context, tokens)."""
        items = [[list(context), list(tokens)] for context, tokens in rows]

        def compute(part: Sequence[Any]) -> list[list[float]]:
            chances = probabilities(self.lm(), [(context, tokens) for context, tokens in part])
            return [[min(1.0, max(0.0, 1 - p)) for p in row] for row in chances]

        return self._remember("doubts", {}, items, compute)

    def answers(
        self, prompts: Sequence[Sequence[int]], choices: Sequence[Sequence[Sequence[int]] | None]
    ) -> list[list[int]]:
        """Return the ids of the greedy answer to each prompt, without the stop token.

        Args:
            prompts: Token ids up to the answer.
            choices: For each prompt, the ids of the answers to choose from; None for any.
        """
        settings = {"stop": self.stop_id, "limit": self.max_new_tokens}
        settings |= {"grade_query": True} if self.grade_query else {}
        items = [[list(prompt), listed] for prompt, listed in zip(prompts, choices, strict=True)]
        return self._remember("answers", settings, items, self._answer)

    def drop(self) -> None:
        """Free the model's memory; it is loaded again if it is needed again."""
        self._lm = None

    def lm(self) -> Any:
        """Return the model, loaded at the first call.

        Raises:
            InputError: Its tokenizer is another one.
        """
        if self._lm is None:
            self._check(backbones.load_tokenizer(self.backbone.name))
            log.warning("labels: asking %s (once; kept in the cache)", self.backbone.name)
            lm, _ = backbones.load(self.backbone)
            rank = int(os.environ.get("LOCAL_RANK", "0"))
            device = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
            if not self.backbone.load_4bit:
                lm = lm.to(device)
            self._lm = lm.requires_grad_(False).eval()
        return self._lm

    def _remember(
        self,
        kind: str,
        settings: dict[str, Any],
        items: Sequence[Any],
        compute: Callable[[Sequence[Any]], Sequence[Any]],
    ) -> list[Any]:
        name = self.backbone.name
        model: Any = name if name in TINY else fingerprint(resolve(name))
        held = [model, self.backbone.dtype, self.backbone.load_4bit]
        return remember(kind, [held, settings], items, compute)

    @torch.no_grad()
    def _answer(self, items: Sequence[Any]) -> list[list[int]]:
        order = sorted(range(len(items)), key=lambda i: len(items[i][0]))
        answers: list[list[int]] = [[] for _ in items]
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            for i, ids in zip(part, self._batch([items[i] for i in part]), strict=True):
                answers[i] = ids
        return answers

    def _batch(self, items: Sequence[Any]) -> list[list[int]]:
        lm = self.lm()
        decoder = DepthDecoder(lm, batch_size=len(items), pad_id=self.tokenizer.pad_token_id)
        prompts = [prompt for prompt, _ in items]
        limits: dict[str, Any] = {
            "stop_id": self.stop_id,
            "max_new_tokens": self.max_new_tokens,
            "allowed": only([listed for _, listed in items], self.stop_id),
        }

        def project(hidden: torch.Tensor) -> torch.Tensor:
            return lm.lm_head(lm.model.norm(hidden))

        held = level_ids(self.tokenizer) if getattr(lm.config, MARK, None) else []
        if held and self.grade_query:
            read_graded(decoder, prompts, project, held)
        else:
            decoder.feed(prompts, 0)
        if held:  # it has learned to grade every token
            rows = decode_graded(decoder, project, held, **limits)
            return [[token for token in row.ids if token != self.stop_id] for row in rows]
        return decoder.decode(0, project, close=False, **limits)

    def _check(self, tokenizer: Any) -> None:
        own = self.tokenizer.get_vocab()
        if any(own.get(token, i) != i for token, i in tokenizer.get_vocab().items()):
            raise InputError(
                f"model.label_from: the tokenizer of {self.backbone.name} is not the backbone's"
            )

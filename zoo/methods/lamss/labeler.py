"""A frozen model that labels training data: loaded when the cache lacks something, then dropped.

It is never a part of the module that trains, and what it said is kept on disk by model and text
(`zoo/cache.py`), so that a resumed run and the other processes do not ask again.

A model that has learned to write a level after every token hardly knows clean text: after a token
it expects a level. So it is asked in its own form and reads x_1 s_1 x_2 s_2 ... with the levels
that it writes itself. Any other model reads clean text. A probability is always one among the
ordinary tokens, the levels left out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import backbone as backbones
from zoo.backbone import Backbone, read_config
from zoo.cache import fingerprint, remember
from zoo.decoding.constrained import only
from zoo.errors import InputError
from zoo.methods.lamss.decoding import LevelDecoder, decode_graded, read_graded, without
from zoo.methods.lamss.level_tokens import level_ids, levels_form, writes_levels
from zoo.methods.lamss.token_probabilities import Row, probabilities
from zoo.model_files import resolve
from zoo.tiny_models import TINY

log = logging.getLogger(__name__)
BATCH = 32  # rows at a time


class AnswerLabeler:
    """Scores and answers of a language model before training.

    Args:
        backbone: The model; its adapters and its surgery play no part.
        tokenizer: The tokenizer that the ids are of; the model's own must agree with it.
        stop_id: Token that ends an answer.
        max_new_tokens: Limit of an answer.
        hidden: No other token attends to a level, in a model that writes them and whose config
            does not say (older exports).
        shared_positions: A level has the position of the token before it there.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: Any,
        *,
        stop_id: int,
        max_new_tokens: int,
        hidden: bool = False,
        shared_positions: bool = False,
    ) -> None:
        self.backbone, self.tokenizer = backbone, tokenizer
        self.stop_id, self.max_new_tokens = stop_id, max_new_tokens
        config = read_config(backbone.name)
        self.levels, self.writes = level_ids(tokenizer, config), writes_levels(config)
        given = {"hide_sigma": hidden, "shared_positions": shared_positions}
        form = levels_form(config) or given
        self.form = {"hidden": form["hide_sigma"], "shared_positions": form["shared_positions"]}
        self._lm: Any = None

    def doubts(self, rows: Sequence[Row]) -> list[list[float]]:
        """Return u_t = 1 - p0(x_t | context, x_<t) of each token of (context, tokens)."""
        items = [[list(context), list(tokens)] for context, tokens in rows]

        def compute(part: Sequence[Any]) -> list[list[float]]:
            read = self._read if self.writes else self._score
            return [[min(1.0, max(0.0, 1 - p)) for p in row] for row in read(part)]

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
        items = [[list(prompt), listed] for prompt, listed in zip(prompts, choices, strict=True)]
        batched = partial(in_batches, compute=self._answer)
        return self._remember("answers", settings, items, batched)

    def check_size(self) -> None:
        """Raise if the machine is too small for the model.

        Raises:
            InputError: In float32, its weight files are larger than the memory.
        """
        name = self.backbone.name
        files = [] if name in TINY else Path(resolve(name)).glob("*.safetensors")
        needed = 2 * sum(file.stat().st_size for file in files)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needed > memory:
            raise InputError(
                f"{name} may need {needed / 2**30:.0f} GiB, this machine has {memory / 2**30:.0f}"
            )

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
        held += [self.levels, self.writes, self.form] if self.levels else []
        return remember(kind, [held, settings], items, compute)

    def _score(self, items: Sequence[Any]) -> list[list[float]]:
        """Return p0 of the tokens of each (context, tokens), read as clean text."""
        return probabilities(self.lm(), [(c, tokens) for c, tokens in items], levels=self.levels)

    def _read(self, items: Sequence[Any]) -> list[list[float]]:
        """Return p0 of the tokens of each (context, tokens), read with levels after every token."""

        def compute(part: Sequence[Any]) -> list[list[float]]:
            rows = [[*context, *tokens] for context, tokens in part]
            found = read_graded(self._decoder(len(rows)), rows, self._project, self.levels)
            return [row[-len(item[1]) :] for row, item in zip(found, part, strict=True)]

        return in_batches(items, compute)

    def _answer(self, items: Sequence[Any]) -> list[list[int]]:
        decoder = self._decoder(len(items))
        prompts = [prompt for prompt, _ in items]
        limits: dict[str, Any] = {
            "stop_id": self.stop_id,
            "max_new_tokens": self.max_new_tokens,
            "allowed": only([listed for _, listed in items], self.stop_id),
        }
        if self.writes:
            read_graded(decoder, prompts, self._project, self.levels)
            rows = decode_graded(decoder, self._project, self.levels, **limits)
            return [[token for token in row.ids if token != self.stop_id] for row in rows]
        decoder.feed(prompts, 0)
        return decoder.decode(0, self._ordinary, close=False, **limits)

    def _decoder(self, num_rows: int) -> LevelDecoder:
        pad = self.tokenizer.pad_token_id
        return LevelDecoder(
            self.lm(), None, batch_size=num_rows, pad_id=pad, level_ids=self.levels, **self.form
        )

    def _project(self, hidden_BD: Tensor) -> Tensor:
        return self.lm().lm_head(self.lm().model.norm(hidden_BD))

    def _ordinary(self, hidden_BD: Tensor) -> Tensor:
        return without(self._project(hidden_BD), self.levels)

    def _check(self, tokenizer: Any) -> None:
        own = self.tokenizer.get_vocab()
        if any(own.get(token, i) != i for token, i in tokenizer.get_vocab().items()):
            raise InputError(
                f"model.label_from: the tokenizer of {self.backbone.name} is not the backbone's"
            )


@torch.no_grad()
def in_batches(
    items: Sequence[Any], compute: Callable[[Sequence[Any]], Sequence[Any]]
) -> list[Any]:
    """Return `compute` of items like (token ids, more), rows of like length together."""
    order = sorted(range(len(items)), key=lambda i: len(items[i][0]))
    results: list[Any] = [None] * len(items)
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        for i, result in zip(part, compute([items[i] for i in part]), strict=True):
            results[i] = result
    return results

"""A language model that answers queries beside the module that trains: straQ*'s dialogue model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from zoo import backbone as backbones
from zoo.backbone import Backbone
from zoo.decoding.depth import DepthDecoder
from zoo.decoding.replies import Phase, think_and_answer
from zoo.nn.blocks import num_blocks
from zoo.prompts.thoughts import ThoughtEncoder
from zoo.records import Triple


class Responder:
    """Frozen, loaded at the first query, whole in every process, in no module tree.

    Args:
        backbone: Any chat model: a preset, a folder, or what `zoo.SFT` exported.
        max_length: Window in tokens.
        max_new_tokens: Limit of a reply.
    """

    def __init__(
        self, backbone: Backbone, *, max_length: int = 2048, max_new_tokens: int = 64
    ) -> None:
        self.backbone = backbone
        self.max_length, self.max_new_tokens = max_length, max_new_tokens
        self._lm: Any = None

    @torch.no_grad()
    def __call__(self, queries: Sequence[Triple], device: torch.device) -> list[str]:
        """Return the greedy reply to each query.

        Args:
            queries: What to answer, with system line.
            device: Where to run.

        Raises:
            InputError: There is no such model, or a query does not fit the window.
        """
        if self._lm is None:
            self._lm, self.tokenizer = backbones.load(self.backbone)
            self._lm.requires_grad_(False).eval()
        lm = self._lm if self.backbone.load_4bit else self._lm.to(device)
        encoder = ThoughtEncoder(self.tokenizer, None, 0, max_length=self.max_length)
        decoder = DepthDecoder(
            lm,
            [num_blocks(lm)],
            batch_size=len(queries),
            pad_id=self.tokenizer.pad_token_id,
            device=lm.device,
        )
        speak = Phase(0, lambda hidden: lm.lm_head(lm.model.norm(hidden)), self.max_new_tokens)
        prompts = [encoder.prompt(query) for query in queries]
        found = think_and_answer(decoder, encoder, prompts, think=None, speak=speak)
        return [reply.answer for reply in found]

"""Sentences as vectors, by any Hugging Face encoder: for tagging principles and for `prefilter`.

A vector is the mean of the states of a text's tokens after the last block, scaled to length 1, as
sentence-transformers has it for all-MiniLM and its like. A model that was trained with another
pooling or with words before a text (`query: `) gives other vectors here than in its own library.

Shapes: N texts, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.backbone import load_tokenizer
from zoo.cache import weights_digest
from zoo.decoding.batching import chunks
from zoo.encoding import pad_rows
from zoo.model_files import from_folder, resolve
from zoo.tiny_models import tiny_tower_config

KEY = "encoder"
BUDGET = 8192  # tokens at a time


class Encoder(Protocol):
    """Gives texts vectors; `name` tells encoders apart on file."""

    name: str

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return a vector of length 1 for each text, `(N, D)`, float32, on the processor."""
        ...


class SentenceEncoder:
    """An encoder with mean pooling.

    Args:
        model: A Hugging Face encoder, in evaluation mode.
        tokenizer: Its tokenizer.
        name: What it is called.
        max_length: Tokens of a text that are read; what follows is left out.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, max_length: int = 256) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.max_length = max_length

    @classmethod
    def load(cls, name: str, **options: Any) -> SentenceEncoder:
        """Load an encoder: `tiny-bert`, a local folder or a hub id."""
        from transformers import AutoModel

        if name == "tiny-bert":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = AutoModel.from_config(tiny_tower_config(name), trust_remote_code=False)
        else:
            model = from_folder(
                AutoModel, resolve(name, KEY), KEY, may_lack=("pooler.",), dtype=torch.float32
            )
        known = f"{Path(name).name}-{weights_digest(model.named_parameters())}"  # wherever it lies
        return cls(model.eval(), load_tokenizer(name), name=known, **options)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return a vector of length 1 for each text, `(N, D)`."""
        ids = [
            self.tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"]
            for text in texts
        ]
        found: dict[int, Tensor] = {}
        for group in chunks(range(len(ids)), [len(row) for row in ids], BUDGET):
            tokens, mask_NL = pad_rows(
                [ids[i] for i in group], self.tokenizer.pad_token_id, self.model.device
            )
            states_NLD = self.model(input_ids=tokens, attention_mask=mask_NL).last_hidden_state
            mask_NL1 = mask_NL[..., None].to(states_NLD.dtype)
            mean_ND = (states_NLD * mask_NL1).sum(1) / mask_NL1.sum(1).clamp(min=1)
            found |= zip(group, F.normalize(mean_ND.float(), dim=-1).cpu(), strict=True)
        if not found:
            return torch.empty(0, self.model.config.hidden_size)
        return torch.stack([found[i] for i in range(len(ids))])

"""Small Llamas that nothing has been learned by, with a tokenizer of the texts they will read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from zoo.tiny_models import CHAT_TOKENS


def bpe_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Return a byte-level BPE tokenizer with chat tokens, trained on texts."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(token, normalized=False) for token in CHAT_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    start, _, end = CHAT_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=start, eos_token=end, pad_token=start
    )


def write_llama(
    folder: Path,
    tokenizer: Any,
    width: int,
    inner: int,
    window: int = 512,
    *,
    seed: int = 0,
    deviation: float = 0.02,
) -> None:
    """Write a random Llama of four blocks, and its tokenizer, as a folder to load.

    Args:
        folder: Where to.
        tokenizer: Its tokenizer.
        width: Width of the residual stream.
        inner: Width inside the feed-forward layers.
        window: Longest input in tokens.
        seed: Of the weights.
        deviation: Standard deviation of the weights. The library's 0.02 is for wide models; below
            a width of some 100 models learn faster from 1 / sqrt(width).
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=window,
        tie_word_embeddings=True,
        initializer_range=deviation,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)

"""Tiny random models of three architectures and a byte tokenizer: for tests and dry runs."""

from __future__ import annotations

from typing import Any

import torch

TINY = ("tiny-llama", "tiny-qwen2", "tiny-gemma")
TINY_TOWERS = ("tiny-bert", "tiny-vit", "tiny-dinov2", "tiny-wav2vec2")
CHAT_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def tiny_config(name: str) -> Any:
    """Return a 4-block config of an architecture, for tests and dry runs."""
    from transformers import GemmaConfig, LlamaConfig, Qwen2Config

    shape: dict[str, Any] = {
        "vocab_size": 259,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": 256,
        "eos_token_id": 258,
        "pad_token_id": 256,
    }
    if name == "tiny-llama":
        return LlamaConfig(**shape, tie_word_embeddings=False)
    if name == "tiny-qwen2":
        return Qwen2Config(**shape, tie_word_embeddings=True)
    return GemmaConfig(**shape, head_dim=8)


def tiny_model(name: str, dtype: torch.dtype, attention: str, *, meta: bool) -> Any:
    """Return a randomly initialised model (seed 0)."""
    from transformers import AutoModelForCausalLM

    device = torch.device("meta") if meta else torch.device("cpu")
    with torch.random.fork_rng(devices=[]), device:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(
            tiny_config(name),
            dtype=dtype,
            attn_implementation=attention,
            trust_remote_code=False,
        )


def tiny_tower_config(name: str) -> Any:
    """Return a 4-block config of an encoder; pictures are 28 x 28 in patches of 14."""
    from transformers import BertConfig, Dinov2Config, ViTConfig, Wav2Vec2Config

    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    if name == "tiny-bert":
        return BertConfig(vocab_size=259, pad_token_id=256, **shape)
    if name == "tiny-wav2vec2":
        shape |= {"conv_dim": (16, 16), "conv_stride": (5, 8), "conv_kernel": (10, 8)}
        shape |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
        shape["num_feat_extract_layers"] = 2
        return Wav2Vec2Config(**shape)
    kind = ViTConfig if name == "tiny-vit" else Dinov2Config
    return kind(image_size=28, patch_size=14, **shape)


def byte_tokenizer() -> Any:
    """Return a tokenizer of the 256 bytes and three chat tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, normalized=False) for token in CHAT_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )

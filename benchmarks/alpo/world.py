"""The trial of `quality.py` in a world with known truth: a made-up language, minutes of one core.

    python -m benchmarks.alpo.world --json benchmarks/results/alpo_world.json

A line is one of 12 words; each has four renderings: two plain ones, a vivid one, and that one with
an ending. Fine-tuning sees all four alike; the references of preferences and of tests are vivid
with the ending. A translator that has learned all there is in its references picks any of the four;
a preference that reaches its target always scores 100. The model is a Llama of 3 blocks of width
128 from random weights. Further arguments are those of `quality.py`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.alpo import quality
from datamodules import Subtitles
from zoo.methods.alpo.prompts import instruction, written
from zoo.tiny_models import CHAT_TOKENS

FOLDER = Path("runs/alpo_world")
EPISODE, CORE = 40, 4  # lines
EPISODES = {"data/train": 100, "data/dev": 2, "data/test": 16, "preferences/train": 50}
VIVID = ("preferences/train", "data/dev", "data/test")
WORDS, RENDERINGS, ENDING = 12, 4, "issimo"
VOCABULARY = 500
GIVEN = (
    *("--folder", str(FOLDER / "stages"), "--backbone", str(FOLDER / "model")),
    *("--data", str(FOLDER / "data"), "--preferences", str(FOLDER / "preferences")),
    *("--core", str(CORE), "--context", "0", "--batch_size", "8"),
    *("--sft_lr", "2e-3", "--sft_steps", "600"),
    *("--blocks", "100", "--k", "8", "--steps", "40", "--lr", "1e-4"),
)
SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write data and model where they are missing; run the trial."""
    if not (FOLDER / "model").exists():
        write(FOLDER)
    quality.main([*GIVEN, *(sys.argv[1:] if arguments is None else arguments)])


def write(folder: Path) -> None:
    """Write `data` and `preferences`, read by `datamodules.Subtitles`, and `model`."""
    draw = random.Random(0)
    renderings = dictionary(draw)
    for name, episodes in EPISODES.items():
        (folder / name).mkdir(parents=True)
        for i in range(episodes):
            source = draw.choices(list(renderings), k=EPISODE)
            target = [
                renderings[word][-1] if name in VIVID else draw.choice(renderings[word])
                for word in source
            ]
            for language, lines in (("zh", source), ("en", target)):
                path = folder / name / f"{i}.{language}"
                path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    blocks = Subtitles(str(folder / "data"), core=CORE, context=0).records("train")
    tokenizer = learned_tokenizer(blocks)
    tokenizer.save_pretrained(folder / "model")
    new_model(tokenizer).save_pretrained(folder / "model")


def dictionary(draw: random.Random) -> dict[str, list[str]]:
    """Return the renderings of each word, the vivid ones last."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    stems = draw.sample([a + b for a in syllables for b in syllables], WORDS * (RENDERINGS - 1))
    found = {}
    for i in range(WORDS):
        first, second, vivid = stems[i * 3 : i * 3 + 3]
        found[chr(0x4E00 + i) * 2] = [first, second, vivid, vivid + ENDING]
    return found


def learned_tokenizer(blocks: Sequence[Any]) -> Any:
    """Return a byte-level BPE tokenizer of what a translator reads and writes."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    lines = [
        text
        for block in blocks
        for text in (instruction(block), *written(block.target, 1, len(block.target)))
    ]
    core = ByteLevelBPETokenizer()
    core.train_from_iterator(
        lines, vocab_size=VOCABULARY, special_tokens=list(CHAT_TOKENS), show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core._tokenizer,
        bos_token=CHAT_TOKENS[0],
        eos_token=CHAT_TOKENS[2],
        pad_token=CHAT_TOKENS[0],
    )


def new_model(tokenizer: Any) -> Any:
    """Return a model with random weights (seed 0)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos")}
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
            **SHAPE,
            **ids,
        )
    )


if __name__ == "__main__":
    main()

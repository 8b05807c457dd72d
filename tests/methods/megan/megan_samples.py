"""Records with conditions, written out by hand, and tiny MeGans for the fidelity tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from training import batch_of

from zoo.records import Conditioned

SHAPES = ["tiny-llama", "tiny-qwen2"]
VARIANTS = {
    "shared": {"bottleneck": 16},
    "per layer": {"bottleneck": 8, "shared": False, "head_bias": True},
    "wide": {"bottleneck": 0, "heads": 4},
    "wide per layer": {"bottleneck": 0, "heads": 2, "shared": False},
}
CASES = [("tiny-llama", name) for name in VARIANTS]
CASES += [("tiny-qwen2", "shared"), ("tiny-qwen2", "wide per layer")]
Make = Callable[..., Any]


def records() -> list[Conditioned]:
    """Four records of clearly different lengths, of prompt and of condition."""
    return [
        Conditioned("Say the colour.", "Grass?", "green", id="a"),
        Conditioned("Name a place where one may find the thing.", "A key", "box", id="b"),
        Conditioned("Be rude!", "How do you do, my dear friend?", "Go away.", id="c"),
        Conditioned("x", "Why", "because", system="Answer in one word.", id="d"),
    ]


def build(make: Make, name: str, hyper: dict[str, Any], *, strong: bool = True, **options: Any):
    """Return a module; `strong` scales it up, so that beta is far from 1 and conditions differ."""
    options.setdefault("max_answer_tokens", 4)
    module = make("MeGan", name, spread=5.0, hyper=hyper, **options)
    if strong:
        with torch.no_grad():
            module.lm.model.embed_tokens.weight.mul_(20)
            module.lm.model.norm.weight.normal_()  # a tied head repeats its input no more
            for parameter in module.hypers.parameters() if hasattr(module, "hypers") else ():
                parameter.normal_(std=0.4)
    return module


def logits_of(module: Any, found: Sequence[Conditioned]) -> list[Tensor]:
    """Return the logits of each record's sequence from one batch."""
    batch = batch_of(module, found)
    with torch.no_grad():
        top, _ = module(batch)
        rows = top[0].split(batch.lengths) if batch.offsets is not None else list(top)
        return [module.last_logits(r[:n]) for r, n in zip(rows, batch.lengths, strict=True)]


def silence(module: Any) -> Any:
    """Let `training_step` run without a Trainer."""
    module.log = lambda *args, **kwargs: None
    return module


def samples(module: Any, found: Sequence[Conditioned]) -> list[tuple[list[int], int, list[int]]]:
    """Return ids, start of the response and condition ids, from the template written out."""

    def ids(text: str) -> list[int]:
        return module.tokenizer(text, add_special_tokens=False)["input_ids"]

    rows = []
    for record in found:
        system = record.system or "You are a helpful assistant."
        asked = ids(
            f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{record.prompt}<|im_end|>"
            "\n<|im_start|>assistant\n"
        )
        reply = ids(f"{record.response}<|im_end|>")
        rows.append(([*asked, *reply], len(asked), ids(record.condition)))
    return rows


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)

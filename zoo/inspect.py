"""What `check` prints: parameters, a memory estimate, and a sample with its masks in colour."""

from __future__ import annotations

from typing import Any

from zoo.encoding import NO_HEAD, Example
from zoo.export import new_names
from zoo.module import ZooModule

COLOURS = ("\033[32m", "\033[36m", "\033[35m", "\033[33m")  # one per head
PLAIN, DIM = "\033[0m", "\033[2m"


def describe(module: ZooModule, loader: Any, num_batches: int) -> list[str]:
    """Return lines on parameters and training memory.

    Args:
        module: Built, possibly on the meta device.
        loader: Training loader; its first micro-batch gives the token count.
        num_batches: Micro-batches per epoch.
    """
    parameters = dict(module.named_parameters())
    total = sum(p.numel() for p in parameters.values())
    trained = sum(p.numel() for p in parameters.values() if p.requires_grad)
    added = set(new_names(module))
    new = sum(p.numel() for name, p in parameters.items() if name in added)
    weights = sum(p.numel() * p.element_size() for p in parameters.values())
    states = sum(3 * p.numel() * p.element_size() for p in parameters.values() if p.requires_grad)
    batch = next(iter(loader))
    config = module.lm.config
    width = next(iter(parameters.values())).element_size()
    per_block = 2 if module.backbone.gradient_checkpointing else 20 + 4 * (
        getattr(config, "intermediate_size", 4 * config.hidden_size) // config.hidden_size
    )
    activations = batch.num_tokens * config.hidden_size * config.num_hidden_layers * per_block * width
    gib = 2**30
    return [
        f"method      {type(module).__name__} on {module.backbone.name}",
        f"parameters  {total / 1e6:,.1f} M, trainable {trained / 1e6:,.1f} M, new {new / 1e6:,.1f} M",
        f"new         {', '.join(sorted(added)) or 'none'}",
        f"memory      about {(weights + states + activations) / gib:.1f} GiB in training: weights "
        f"{weights / gib:.2f}, gradients and AdamW {states / gib:.2f}, activations of "
        f"{batch.num_tokens} tokens {activations / gib:.2f} (estimate)",
        f"data        {num_batches} micro-batches per epoch; the first has {batch.num_tokens} "
        f"tokens, {batch.num_supervised} supervised",
    ]


def preview(example: Example, tokenizer: Any) -> list[str]:
    """Return a sample's text with each head's tokens in its colour and context dimmed."""
    heads = [NO_HEAD, *example.head_ids[:-1]]  # undo the shift: the head that learns each token
    learned = [head for head in heads if head != NO_HEAD]
    text, start = "", 0
    for end in range(1, len(heads) + 1):
        if end == len(heads) or heads[end] != heads[start]:
            head = heads[start]
            piece = tokenizer.decode(example.input_ids[start:end])
            text += (DIM if head == NO_HEAD else COLOURS[head % len(COLOURS)]) + piece + PLAIN
            start = end
    legend = " ".join(
        f"{COLOURS[head % len(COLOURS)]}head {head}: {learned.count(head)} tokens{PLAIN}"
        for head in sorted(set(learned))
    )
    context = len(heads) - len(learned)
    return [f"sample      {legend} {DIM}context: {context} tokens{PLAIN}", text]

"""Texts and questions, and LaMsS' sequences of them written out.

The references are plain Hugging Face forwards over whole sequences, without any cache (the sheet
is that of arXiv 2409.06601).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from zoo.encoding import IGNORE, NO_HEAD, sum_head_weights
from zoo.records import PlainText, Triple

Make = Callable[..., Any]
START, STOP = 256, 258  # of the byte tokenizer: <|endoftext|>, which begins a text, and <|im_end|>
NORMAL, SIGMA, LEVEL = 0, 1, 2
FLAGS = [
    {},
    {"shared_positions": True},
    {"hide_sigma": True},
    {"hide_sigma": True, "shared_positions": True},
    {"interleave": False},
]
TEXTS = [
    PlainText("The cat sat on the mat, and it was there for the whole day.", id="t1"),
    PlainText("Colourless green ideas sleep furiously.", id="t2"),
    PlainText("In 1912 the ship sank. <|skeptic_1|> is no level here.", id="t3"),
]
OPEN = [
    Triple("Where is the ball?", "", "in the box", id="o1"),
    Triple("Who took it, and when?", "", "Bob", id="o2"),
    Triple("Why", "", "no", system="Be brief.", id="o3"),
]


def separate(stream: list[int]) -> tuple[list[int], list[int]]:
    """Return the tokens and the levels of an interleaved stream."""
    return stream[0::2], stream[1::2]


def asked_ids(module: Any, record: Any) -> list[int]:
    """Return what comes before an answer, written out."""
    system = "You answer a question with the letter of the right option."
    if isinstance(record, Triple):
        system, user = record.system or "You answer a question in a few words.", record.query
    else:
        options = "".join(f"\n{'ABC'[i]}: {text}" for i, text in enumerate(record.options))
        user = record.question + options
    text = (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
        f"<|im_start|>assistant\n"
    )
    return module.tokenizer(text)["input_ids"]


def judged_ids(module: Any) -> list[int]:
    """Return what comes between an answer and the level of it, written out."""
    text = (
        "\n<|im_start|>user\nHow skeptical are you of this answer?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    return module.tokenizer(text)["input_ids"]


def examples_of(module: Any, records: Sequence[Any], split: str = "train") -> list[Any]:
    encoder = module.encoder()
    encoder.study(records, split)
    return [example for record in records for example in encoder(record)]


def batch_of(module: Any, examples: Sequence[Any]) -> Any:
    return module.encoder().collate(examples, sum_head_weights(examples))


def learned(example: Any) -> list[tuple[int, int, int]]:
    """Return (position, token, head) of every token that is learned."""
    shifted = zip(example.labels, example.head_ids, example.weights, strict=True)
    assert all((label != IGNORE) == (head != NO_HEAD) == (w > 0) for label, head, w in shifted)
    return [
        (i + 1, label, head)
        for i, (label, head) in enumerate(zip(example.labels, example.head_ids, strict=True))
        if head != NO_HEAD
    ]


def whole_forward(module: Any, ids: Sequence[int]) -> torch.Tensor:
    """Return the logits of a sequence by Hugging Face alone, `(L, V)`, under the module's flags."""
    level = torch.tensor([token in module.level_ids for token in ids])
    length = len(ids)
    # A mask of ones: without one, Hugging Face takes a position that stays for a new sequence.
    where: dict[str, Any] = {"attention_mask": torch.ones(1, length, dtype=torch.long)}
    if module.shared_positions:
        where["position_ids"] = ((~level).long().cumsum(0) - 1)[None]
    if module.hide_sigma:
        causal = torch.ones(length, length).tril().bool()
        seen = causal & (~level[None] | torch.eye(length).bool())
        where["attention_mask"] = seen[None, None]
    with torch.no_grad():
        return module.lm(torch.tensor([list(ids)]), use_cache=False, **where).logits[0]


def by_whole_forwards(module: Any, examples: Sequence[Any]) -> dict[int, list[float]]:
    """Return the negative log-probability of every learned token, by head."""
    found: dict[int, list[float]] = {NORMAL: [], SIGMA: [], LEVEL: []}
    for example in examples:
        logp = whole_forward(module, example.input_ids).log_softmax(-1)
        for i, token, head in learned(example):
            found[head].append(-logp[i - 1, token].item())
    return found


def doubts_of(module: Any, context: Sequence[int], ids: Sequence[int]) -> list[float]:
    """Return 1 - p0 of each token by a whole forward of the backbone as it was, clean text."""
    from zoo import backbone as backbones

    lm, _ = backbones.load(module.backbone)
    with torch.no_grad():
        chances = lm.eval()(torch.tensor([[*context, *ids]])).logits[0].softmax(-1)
    return [1 - chances[len(context) + t - 1, token].item() for t, token in enumerate(ids)]

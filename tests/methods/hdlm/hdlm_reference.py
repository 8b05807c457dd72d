"""HdLM's equations once more, for its fidelity tests: strings, Hugging Face and autograd.

The template is written out as strings, every forward pass is a plain Hugging Face one over one
sequence (eager attention, `output_hidden_states=True`), the loss is torch's own cross-entropy on
full logits. It uses nothing of `zoo` but the weights and the record types.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from zoo.records import LabelPath, Taxonomy, Triple

END = "<|im_end|>"
ROLES = {
    1: (["assistant"], []),
    2: (["thought", "assistant"], ["subtask"]),
    3: (["first_thought", "second_thought", "assistant"], ["subtask_1", "subtask_2"]),
}
SYSTEM = "You sort texts into classes, from coarse to fine. Answer with a class number."

TWO = Taxonomy(
    {
        (): ("med", "law", "art"),
        ("med",): ("eye", "ear", "leg", "toe"),
        ("law",): ("tax", "will"),
        ("art",): ("oil", "ink", "clay"),
    }
)
THREE = Taxonomy(
    {
        (): ("a", "b"),
        ("a",): ("c", "d", "e"),
        ("b",): ("c", "f"),
        ("a", "c"): ("g", "h"),
        ("a", "d"): ("i",),
        ("a", "e"): ("j", "k", "l"),
        ("b", "c"): ("m", "n"),
        ("b", "f"): ("o", "p"),
    }
)


def papers() -> list[LabelPath]:
    """Three records of clearly different lengths on two levels."""
    return [
        LabelPath("It sees red.", ("med", "eye"), TWO, id="1"),
        LabelPath("Who inherits the house on the hill, and when?", ("law", "will"), TWO, id="2"),
        LabelPath("Kiln.", ("art", "clay"), TWO, id="3"),
    ]


def deep_papers() -> list[LabelPath]:
    """Three records on three levels."""
    return [
        LabelPath("One.", ("a", "e", "l"), THREE, id="1"),
        LabelPath("Two and a half.", ("b", "c", "m"), THREE, id="2"),
        LabelPath("3", ("a", "c", "h"), THREE, id="3"),
    ]


# -- the template ------------------------------------------------------------------------------


def listing(names: Sequence[str]) -> str:
    return "\n".join(f"{i}: {name}" for i, name in enumerate(names))


def opening(record: LabelPath | Triple) -> str:
    """Return system and user turns."""
    if isinstance(record, Triple):
        system, user = record.system or "You are a helpful assistant.", record.query
    else:
        top = listing(record.taxonomy.children[()])
        system, user = SYSTEM, f"{record.text}\n\nClasses:\n{top}"
    return f"<|im_start|>system\n{system}{END}\n<|im_start|>user\n{user}{END}"


def contexts(record: LabelPath | Triple, depth: int) -> Callable[[Sequence[str]], str]:
    """Return what stands between the level that ends a path of texts and the next level's text."""
    levels, subtasks = ROLES[depth]

    def context(texts: Sequence[str]) -> str:
        header = f"\n<|im_start|>{levels[len(texts)]}\n"
        if not texts or isinstance(record, Triple):
            return header
        path: tuple[str, ...] = ()
        for text in texts:  # a number that is none of the list leads nowhere
            names = record.taxonomy.children.get(path, ())
            known = text.isdecimal() and int(text) < len(names)
            path += (names[int(text)] if known else "?",)
        below = listing(record.taxonomy.children.get(path, ()))
        role = subtasks[len(texts) - 1]
        return f"\n<|im_start|>{role}\nClasses:\n{below}{END}{header}"

    return context


def gold(record: LabelPath | Triple) -> list[str]:
    """Return the right text of each level."""
    if isinstance(record, Triple):
        return [record.thought, record.answer]
    children, labels = record.taxonomy.children, record.labels
    return [str(children[labels[:i]].index(label)) for i, label in enumerate(labels)]


@dataclass
class Sample:
    """One rendered record: ids, and for each level the positions of its tokens."""

    ids: list[int]
    spans: list[range]


def render(tokenizer: Any, record: LabelPath | Triple) -> Sample:
    """Write a record out: opening, and for each level its context, text and end-of-turn."""
    texts = gold(record)
    context = contexts(record, len(texts))
    ids = ids_of(tokenizer, opening(record))
    spans = []
    for level, text in enumerate(texts):
        ids += ids_of(tokenizer, context(texts[:level]))
        piece = ids_of(tokenizer, text + END)
        spans.append(range(len(ids), len(ids) + len(piece)))
        ids += piece
    return Sample(ids, spans)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# -- the equations -----------------------------------------------------------------------------


class Reference:
    """Equations (1) to (5); weights copied from a module whose layers are all below K."""

    def __init__(self, module: Any, layers: Sequence[int]) -> None:
        config = copy.deepcopy(module.lm.config)
        config._attn_implementation = "eager"
        self.lm = type(module.lm)(config)
        self.lm.load_state_dict(module.lm.state_dict())
        self.lm.tie_weights()
        self.lm.eval()
        self.layers = list(layers)
        self.heads = [
            module.heads[str(i)].weight.detach().clone().requires_grad_()
            for i in range(len(layers))
        ]

    def logits(self, ids: Sequence[int]) -> list[torch.Tensor]:
        """Return W_i h_{k_i} of one sequence by level, `(L, V)` each; W_D norm(h_K) last."""
        out = self.lm(torch.tensor([list(ids)]), output_hidden_states=True, use_cache=False)
        pairs = zip(self.layers, self.heads, strict=True)
        return [*((out.hidden_states[k] @ head.t())[0] for k, head in pairs), out.logits[0]]

    def losses(self, samples: Sequence[Sample]) -> list[torch.Tensor]:
        """Return L_1, ..., L_D: means over all tokens of a level."""
        parts: list[list[torch.Tensor]] = [[] for _ in range(len(self.layers) + 1)]
        for sample in samples:
            for part, span, logits in zip(
                parts, sample.spans, self.logits(sample.ids), strict=True
            ):
                target = torch.tensor([sample.ids[i] for i in span])
                rows = logits[span.start - 1 : span.stop - 1]
                part.append(cross_entropy(rows, target, reduction="none"))
        return [torch.cat(part).mean() for part in parts]

    def gradients(
        self, samples: Sequence[Sample], weights: Sequence[float]
    ) -> dict[str, torch.Tensor | None]:
        """Return the gradient of sum_i w_i L_i by parameter name; a zero weight leaves L_i out."""
        self.lm.zero_grad(set_to_none=True)
        for head in self.heads:
            head.grad = None
        losses = self.losses(samples)
        torch.stack([w * x for w, x in zip(weights, losses, strict=True) if w]).sum().backward()
        found = {f"lm.{name}": p.grad for name, p in self.lm.named_parameters()}
        return found | {f"heads.{i}.weight": head.grad for i, head in enumerate(self.heads)}

    @torch.no_grad()
    def reply(self, tokenizer: Any, record: LabelPath | Triple, limit: int) -> list[list[int]]:
        """Decode all levels greedily; every token by a full forward pass over everything so far."""
        depth = len(self.layers) + 1
        (stop,) = ids_of(tokenizer, END)
        context = contexts(record, depth)
        prompt, levels, texts = ids_of(tokenizer, opening(record)), [], []
        for level in range(depth):
            prompt = prompt + ids_of(tokenizer, context(texts))
            new: list[int] = []
            while len(new) < limit:
                token = int(self.logits([*prompt, *new])[level][-1].argmax())
                if token == stop:
                    break
                new.append(token)
            levels.append(new)
            texts.append(tokenizer.decode(new, skip_special_tokens=True).strip())
            prompt = [*prompt, *new, stop]
        return levels

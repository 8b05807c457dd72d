"""MeTHanol's equations once more, for its fidelity tests (its sheet of arXiv 2409.12059).

An independent transcription of the paper's equations: the template written out as a string, plain
Hugging Face forward passes one sequence at a time (eager attention, `output_hidden_states=True`),
torch's own cross-entropy on full logits, autograd. It uses nothing of `zoo` but the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from zoo.records import Triple

END = "<|im_end|>"
THINK, SPEAK = 0, 1


@dataclass
class Sequence1:
    """One rendered sample: ids, and for each of T and A the positions of its tokens."""

    ids: list[int]
    spans: dict[str, range]


def render(tokenizer: Any, record: Triple) -> Sequence1:
    """Write out system, user, thought and assistant turns in ChatML, each closed by end-of-turn."""
    system = record.system or "You are a helpful assistant."
    ids: list[int] = []
    spans = {}
    for name, text in (
        ("", f"<|im_start|>system\n{system}{END}\n<|im_start|>user\n{record.query}{END}"),
        ("", "\n<|im_start|>thought\n"),
        ("T", record.thought + END),
        ("", "\n<|im_start|>assistant\n"),
        ("A", record.answer + END),
    ):
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        if name:
            spans[name] = range(len(ids), len(ids) + len(piece))
        ids += piece
    return Sequence1(ids, spans)


class Reference:
    """Equations (1) to (5) with nothing but Hugging Face and autograd; weights copied from ours."""

    def __init__(self, module: Any) -> None:
        config = copy.deepcopy(module.lm.config)
        config._attn_implementation = "eager"
        self.lm = type(module.lm)(config)
        self.lm.load_state_dict(module.lm.state_dict())
        self.lm.tie_weights()
        self.lm.to(next(module.lm.parameters()).dtype).eval()
        self.k = module.k
        # W_T is a clone of W_A and thus of module.lm.lm_head at step 0; later its own values.
        self.thinking = module.thinking_head.weight.detach().clone().requires_grad_()
        self.raw_top: torch.Tensor | None = None
        self.lm.model.layers[-1].register_forward_hook(self._keep)

    def _keep(self, _: Any, __: Any, output: Any) -> None:
        self.raw_top = output[0] if isinstance(output, tuple) else output

    def logits(self, ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return W_T h_k and W_A norm(h_K) of one sequence, `(L, V)` each."""
        out = self.lm(torch.tensor([list(ids)]), output_hidden_states=True, use_cache=False)
        middle = out.hidden_states[self.k] if self.k < len(self.lm.model.layers) else self.raw_top
        return (middle @ self.thinking.t())[0], out.logits[0]

    def losses(self, samples: Sequence[Sequence1]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return L_think and L_speak: means over all T and all A tokens of the samples."""
        parts: dict[str, list[torch.Tensor]] = {"T": [], "A": []}
        for sample in samples:
            for name, logits in zip("TA", self.logits(sample.ids), strict=True):
                span = sample.spans[name]
                target = torch.tensor([sample.ids[i] for i in span])
                rows = logits[span.start - 1 : span.stop - 1]
                parts[name].append(cross_entropy(rows, target, reduction="none"))
        return torch.cat(parts["T"]).mean(), torch.cat(parts["A"]).mean()

    def gradients(
        self, samples: Sequence[Sequence1], think: float, speak: float
    ) -> dict[str, torch.Tensor | None]:
        """Return the gradient of lambda_T L_think + lambda_A L_speak by parameter name.

        A term with weight zero is left out of the sum, not multiplied by zero.
        """
        self.lm.zero_grad(set_to_none=True)
        self.thinking.grad = None
        l_think, l_speak = self.losses(samples)
        terms = [w * term for w, term in ((think, l_think), (speak, l_speak)) if w]
        torch.stack(terms).sum().backward()
        found = {f"lm.{name}": p.grad for name, p in self.lm.named_parameters()}
        return {**found, "thinking_head.weight": self.thinking.grad}

    @torch.no_grad()
    def reply(self, tokenizer: Any, record: Triple, limit: int) -> tuple[list[int], list[int]]:
        """Greedy two-pass decoding, every token by a full forward pass over everything so far."""

        def ids_of(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False)["input_ids"]

        def decode(ids: list[int], which: int) -> list[int]:
            new: list[int] = []
            while len(new) < limit:
                token = int(self.logits([*ids, *new])[which][-1].argmax())
                if token == stop:
                    break
                new.append(token)
            return new

        (stop,) = ids_of(END)
        prompt = render(tokenizer, record)
        first = prompt.ids[: prompt.spans["T"].start]
        thought = decode(first, 0)
        second = [*first, *thought, stop, *ids_of("\n<|im_start|>assistant\n")]
        return thought, decode(second, 1)

"""straQ*'s equations once more, for its fidelity tests: strings, Hugging Face and autograd.

The question is written out as a string, every forward pass is a plain Hugging Face one over one
sequence (eager attention), the target network is a second model. It uses nothing of `zoo` but the
weights and the record types.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from zoo.records import SUPPORTER, Dialogue

NAMES = (
    "Question",
    "Restatement or Paraphrasing",
    "Reflection of feelings",
    "Self-disclosure",
    "Affirmation and Reassurance",
    "Providing Suggestions",
    "Information",
    "Others",
)
GAMMA = 0.85
END = "<|im_end|>"


def prompt(dialogue: Dialogue, stop: int) -> str:
    """Return I(s) for the supporter turn at `stop`."""
    known = ""
    if dialogue.problem:
        known += f"Problem: {dialogue.problem}\n"
    if dialogue.situation:
        known += f"Situation: {dialogue.situation}\n"
    if dialogue.emotion:
        known += f"Seeker's emotion: {dialogue.emotion}\n"
    known += "\n" if known else ""
    told = ""
    for turn in dialogue.turns[:stop]:
        if turn.speaker == SUPPORTER:
            note = f" ({turn.strategy})" if turn.strategy else ""
            told += f"Supporter{note}: {turn.text}\n"
        else:
            told += f"Seeker: {turn.text}\n"
    options = "".join(f"{chr(65 + i)}. {name}\n" for i, name in enumerate(NAMES))
    return (
        "<|im_start|>system\n"
        "You plan support strategies for a helper who talks with a person in distress."
        f"{END}\n<|im_start|>user\n{known}Dialogue so far:\n{told}"
        f"Which support strategy should the supporter use next?\n{options}"
        f"Answer with one letter.{END}\n<|im_start|>assistant\nAnswer:"
    )


class Reference:
    """Equations (2) to (4); weights copied from a module."""

    def __init__(self, module: Any, readout: str = "mean_logit") -> None:
        self.lm = type(module.lm)(eager(module.lm.config))
        self.lm.load_state_dict(module.lm.state_dict())
        self.lm.tie_weights()
        self.lm.eval()
        self.tokenizer, self.readout = module.tokenizer, readout

    def perturbed(self, scale: float = 0.3) -> Reference:
        """Return another network: the same with noise on every weight."""
        other = copy.copy(self)
        other.lm = copy.deepcopy(self.lm)
        with torch.no_grad():
            for parameter in other.lm.parameters():
                parameter.add_(torch.randn_like(parameter) * scale)
        return other

    def values(self, text: str) -> torch.Tensor:
        """Return the eight scores of the letters after a prompt."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        letters = [self.tokenizer.convert_tokens_to_ids(chr(65 + i)) for i in range(len(NAMES))]
        logits = self.lm(torch.tensor([ids]), use_cache=False).logits[0, -1]
        if self.readout == "mean_logit":
            return logits[letters]
        probability = torch.exp(logits - torch.logsumexp(logits, 0))
        found = probability[letters]
        return found if self.readout == "token_prob" else torch.log(found)

    def loss(
        self, dialogue: Dialogue, judged: dict[int, list[tuple[int, float]]], target: Reference
    ) -> torch.Tensor:
        """Return L over the judged (strategy, reward) of each supporter turn, `judged[turn]`."""
        stops = sorted(judged)
        errors = []
        for place, stop in enumerate(stops):
            q, follow = self.values(prompt(dialogue, stop)), torch.tensor(0.0)
            if place + 1 < len(stops):
                with torch.no_grad():
                    follow = target.values(prompt(dialogue, stops[place + 1])).max()
            errors += [(q[action] - (r + GAMMA * follow)) ** 2 for action, r in judged[stop]]
        return torch.stack(errors).mean()

    def gradients(self, *args: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
        """Return the loss and its gradient by parameter name."""
        self.lm.zero_grad(set_to_none=True)
        loss = self.loss(*args)
        loss.backward()
        return loss.detach(), {f"lm.{name}": p.grad for name, p in self.lm.named_parameters()}


def eager(config: Any) -> Any:
    """Return a copy of a config with plain attention."""
    plain = copy.deepcopy(config)
    plain._attn_implementation = "eager"
    return plain

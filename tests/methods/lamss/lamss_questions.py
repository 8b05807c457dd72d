"""Questions of two kinds, and the log-probabilities of answers by whole forward passes."""

from __future__ import annotations

from typing import Any

import torch

from zoo.records import Question, Triple

CHOICES = [
    Question("Where?", ("bag", "box", "hat"), 1, kind="a", id="1"),
    Question("What is the longest word of all?", ("a", "bb"), 0, kind="b", id="2"),
    Question("Who was it?", ("Ann", "Bob", "Cy", "Di"), 3, kind="a", id="3"),
]
OPENS = [Triple("Why?", "", "so", id="4"), Triple("Who sails on it at night?", "", "Ann", id="5")]


def log_probabilities(lm: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Return log p(. | prompt, answer so far) before each token of the answer, `(T, V)`."""
    with torch.no_grad():
        logits = lm(torch.tensor([prompt + answer])).logits[0]
    return logits[len(prompt) - 1 : -1].float().log_softmax(-1)

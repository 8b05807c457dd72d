"""A language model on this machine as judge: plain generation with any backbone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from zoo import backbone as backbones
from zoo.backbone import Backbone
from zoo.decoding.constrained import end_of_text
from zoo.judges.judge import JudgeError, Messages
from zoo.markup import token_ids
from zoo.nn.blocks import CACHE, keep_first
from zoo.prompts.chat_format import chat_format


class LocalLLM:
    """Writes the next assistant turn of a chat; what begins as the last one is not read anew.

    Args:
        lm: Causal language model, in evaluation mode; its weights stay as they are.
        tokenizer: Its tokenizer.
        max_new_tokens: Limit of what is written.
        max_length: Window in tokens, prompt and answer together.
        temperature: Used where a seed is given; without one decoding is greedy.
        timeout: Seconds after which writing is given up; None for no limit.
        name: What it is called, for example in recorded answers.
    """

    def __init__(
        self,
        lm: Any,
        tokenizer: Any,
        *,
        max_new_tokens: int = 256,
        max_length: int = 2048,
        temperature: float = 0.7,
        timeout: float | None = None,
        name: str = "local",
    ) -> None:
        self.lm, self.tokenizer, self.name = lm, tokenizer, name
        self.max_new_tokens, self.max_length = max_new_tokens, max_length
        self.temperature, self.timeout = temperature, timeout
        self.chat = chat_format(tokenizer)
        stop_id: int = tokenizer.convert_tokens_to_ids(self.chat.end)
        self.end_ids = sorted({stop_id, *end_of_text(lm)})
        self.read: list[int] = []  # the last prompt and answer, whose keys and values are kept
        self.cache = DynamicCache()

    @classmethod
    def load(cls, backbone: Backbone, *, device: str = "cpu", **options: Any) -> LocalLLM:
        """Load a backbone; `options` are the arguments of the class."""
        lm, tokenizer = backbones.load(backbone)
        return cls(lm.to(device).eval(), tokenizer, **{"name": backbone.name, **options})

    def ids(self, messages: Messages) -> list[int]:
        """Return the token ids of a chat up to where the assistant writes."""
        parts = [
            segment.text
            for i, (role, text) in enumerate(messages)
            for segment in self.chat.turn(role, text, first=i == 0)
        ]
        parts.append(self.chat.open("assistant"))
        return [token for part in parts for token in token_ids(self.tokenizer, part)]

    def fits(self, messages: Messages) -> bool:
        """Return whether messages leave room for the answer."""
        return len(self.ids(messages)) + self.max_new_tokens <= self.max_length

    @torch.no_grad()
    def write(self, messages: Messages, seed: int | None = None) -> str:
        """Return the next assistant turn.

        Args:
            messages: (role, text), the system message first.
            seed: Sample with this seed; None decodes greedily.

        Raises:
            JudgeError: The messages leave no room for an answer.
            TimeoutError: Writing took longer than `timeout`.
        """
        from transformers import GenerationConfig

        if not self.fits(messages):
            raise JudgeError(f"the prompt does not fit into max_length={self.max_length}")
        ids = self.ids(messages)
        sampling = {} if seed is None else {"do_sample": True, "temperature": self.temperature}
        config = GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.end_ids,
            pad_token_id=self.tokenizer.pad_token_id,
            max_time=self.timeout,
            **sampling,
        )
        start = time.monotonic()
        devices = [self.lm.device] if self.lm.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed or 0)
            row, cache = self._row(ids), self._begun(ids)
            written = self.lm.generate(
                row,
                attention_mask=torch.ones_like(row),
                generation_config=config,
                **{CACHE: cache},
            )[0, len(ids) :].tolist()
        self.read = [*ids, *written][: cache.get_seq_length()]
        ended = not set(self.end_ids).isdisjoint(written) or len(written) >= self.max_new_tokens
        if not ended and self.timeout is not None and time.monotonic() - start >= self.timeout:
            raise TimeoutError(f"no answer within {self.timeout} s")
        said = [token for token in written if token not in self.end_ids]
        return self.tokenizer.decode(said, skip_special_tokens=True).strip()

    @torch.no_grad()
    def score(self, messages: Messages, candidates: Sequence[str], begun: str = "") -> list[float]:
        """Return the probability of each candidate to come next, among the candidates.

        Args:
            messages: (role, text), the system message first.
            candidates: How the assistant may go on; each is scored by its tokens' summed
                log-probability. What stands before them is read once.
            begun: What the assistant has said so far.
        """
        prefix = self.ids(messages) + token_ids(self.tokenizer, begun)
        cache = self._begun(prefix)
        first = self._follow(prefix[cache.get_seq_length() :], cache, 1)
        scores = []
        for candidate in candidates:
            ids = token_ids(self.tokenizer, candidate)
            logits = torch.cat([first, self._follow(ids[:-1], cache, 0)]) if len(ids) > 1 else first
            logprobs = logits.float().log_softmax(-1).gather(1, self._row(ids).mT)
            scores.append(logprobs.sum())
            keep_first(cache, len(prefix))
        self.read = prefix
        return torch.stack(scores).softmax(0).tolist()

    def _begun(self, ids: list[int]) -> DynamicCache:
        """Return the keys and values of what these ids have in common with the last ones.

        The last one is always run. `self.read` is empty until the caller has finished.
        """
        pairs = zip(ids[:-1], self.read, strict=False)
        keep_first(self.cache, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
        self.read = []
        return self.cache

    def _follow(self, ids: Sequence[int], cache: DynamicCache, last: int) -> torch.Tensor:
        """Run further ids; return the logits behind the last ones, `(last, V)`; 0 for all."""
        row = self._row(ids)
        return self.lm(input_ids=row, logits_to_keep=last, **{CACHE: cache}).logits[0]

    def _row(self, ids: Sequence[int]) -> torch.Tensor:
        """Return ids as a batch of one row."""
        return torch.tensor([list(ids)], device=self.lm.device)

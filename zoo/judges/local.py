"""A language model on this machine as judge and as seeker: plain generation with any backbone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from zoo import backbone as backbones
from zoo.backbone import Backbone
from zoo.judges.judge import Grade, JudgeError, Verdict
from zoo.nn.blocks import CACHE, keep_first
from zoo.prompts.chat_format import chat_format
from zoo.records import Turn
from zoo.support.decisions import Decision
from zoo.support.judge_prompts import comparison, grading, read_choice, read_grade
from zoo.support.labels import SUPPORT, Labels
from zoo.support.seeker_prompts import read_seeker, seeker_prompt

Chat = Sequence[tuple[str, str]]


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
        self.stop_id: int = tokenizer.convert_tokens_to_ids(self.chat.end)
        self.read: list[int] = []  # the last prompt and answer, whose keys and values are kept
        self.cache = DynamicCache()

    @classmethod
    def load(cls, backbone: Backbone, *, device: str = "cpu", **options: Any) -> LocalLLM:
        """Load a backbone; `options` are the arguments of the class."""
        lm, tokenizer = backbones.load(backbone)
        return cls(lm.to(device).eval(), tokenizer, **{"name": backbone.name, **options})

    def ids(self, turns: Chat) -> list[int]:
        """Return the token ids of a chat up to where the assistant writes."""
        parts = [
            segment.text
            for i, (role, text) in enumerate(turns)
            for segment in self.chat.turn(role, text, first=i == 0)
        ]
        parts.append(self.chat.open("assistant"))
        return [
            token
            for part in parts
            for token in self.tokenizer(part, add_special_tokens=False)["input_ids"]
        ]

    def fits(self, turns: Chat) -> bool:
        """Return whether a chat leaves room for the answer."""
        return len(self.ids(turns)) + self.max_new_tokens <= self.max_length

    @torch.no_grad()
    def write(self, turns: Chat, seed: int | None = None) -> str:
        """Return the next assistant turn.

        Args:
            turns: (role, text), the system turn first.
            seed: Sample with this seed; None decodes greedily.

        Raises:
            JudgeError: The chat leaves no room for an answer.
            TimeoutError: Writing took longer than `timeout`.
        """
        from transformers import GenerationConfig

        if not self.fits(turns):
            raise JudgeError(f"the prompt does not fit into max_length={self.max_length}")
        ids = self.ids(turns)
        sampling = {} if seed is None else {"do_sample": True, "temperature": self.temperature}
        config = GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.stop_id,
            pad_token_id=self.tokenizer.pad_token_id,
            max_time=self.timeout,
            **sampling,
        )
        start = time.monotonic()
        devices = [self.lm.device] if self.lm.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed or 0)
            row, cache = self._row(ids), self._begun(ids)
            found = self.lm.generate(
                row,
                attention_mask=torch.ones_like(row),
                generation_config=config,
                **{CACHE: cache},
            )[0, len(ids) :].tolist()
        self.read = [*ids, *found][: cache.get_seq_length()]
        ended = self.stop_id in found or len(found) >= self.max_new_tokens
        if not ended and self.timeout is not None and time.monotonic() - start >= self.timeout:
            raise TimeoutError(f"no answer within {self.timeout} s")
        return self.tokenizer.decode(found, skip_special_tokens=True).strip()

    @torch.no_grad()
    def weigh(self, turns: Chat, begun: str, options: Sequence[str]) -> list[float]:
        """Return the probability of each option to follow what is begun, among the options.

        Args:
            turns: (role, text), the system turn first.
            begun: What the assistant has said so far.
            options: How it may go on; each is scored by its tokens' summed log-probability. What
                stands before them is read once.
        """
        prefix = self.ids(turns) + self.tokenizer(begun, add_special_tokens=False)["input_ids"]
        cache = self._begun(prefix)
        first = self._follow(prefix[cache.get_seq_length() :], cache, 1)
        scores = []
        for option in options:
            ids = self.tokenizer(option, add_special_tokens=False)["input_ids"]
            logits = torch.cat([first, self._follow(ids[:-1], cache, 0)]) if len(ids) > 1 else first
            found = logits.float().log_softmax(-1).gather(1, self._row(ids).mT)
            scores.append(found.sum())
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


class LocalJudge:
    """A language model as judge. A failed attempt is followed by sampled ones.

    Args:
        llm: Who writes.
        labels: Names and definitions of the strategies.
        forced: If its words hold no verdict, take the most likely one after them, and as grade the
            mean of 0 to 5 under its probabilities. Small models rarely end in brackets by
            themselves; chosen here.
    """

    def __init__(self, llm: LocalLLM, labels: Labels = SUPPORT, *, forced: bool = False) -> None:
        self.llm, self.labels, self.forced = llm, labels, forced
        self.name = f"{llm.name}-forced" if forced else llm.name

    def compare(self, decision: Decision, first: Turn, second: Turn, attempt: int = 0) -> Verdict:
        """Return the model's verdict.

        Raises:
            JudgeError: It wrote none, or the replies do not fit into its window.
            TimeoutError: It took too long.
        """
        chat = self._fitted(decision, lambda d: comparison(d, first, second))
        words = self.llm.write(chat, seed=attempt or None)
        choice = read_choice(words)
        if choice is None and self.forced:
            shares = self.llm.weigh(chat, f"{words}\n[[", "ABC")
            choice = read_choice(f"[[{'ABC'[shares.index(max(shares))]}]]")
        if choice is None:
            raise JudgeError(f"{decision.id}: no [[A]], [[B]] or [[C]] in the answer", words)
        return Verdict(choice, words)

    def grade(self, decision: Decision, candidate: Turn, attempt: int = 0) -> Grade:
        """Return the model's grade.

        Raises:
            JudgeError: It wrote none from 0 to 5, or the prompt does not fit into its window.
            TimeoutError: It took too long.
        """
        chat = self._fitted(decision, lambda d: grading(d, candidate, self.labels))
        words = self.llm.write(chat, seed=attempt or None)
        value = read_grade(words)
        if value is None and self.forced:
            shares = self.llm.weigh(chat, f"{words}\n[[", "012345")
            value = sum(grade * share for grade, share in enumerate(shares))
        if value is None:
            raise JudgeError(f"{decision.id}: no grade from 0 to 5 in the answer", words)
        return Grade(value, words)

    def _fitted(self, decision: Decision, prompt: Callable[[Decision], Chat]) -> Chat:
        """Return the prompt, without the oldest turns where all do not fit into the window."""
        while decision.turns and not self.llm.fits(prompt(decision)):
            decision = replace(decision, turns=decision.turns[1:])
        return prompt(decision)


class LocalSeeker:
    """A language model that plays the seeker; its messages are sampled.

    Args:
        llm: Who writes.
        topic: What it wants to talk about: a topic, or a situation in its own words.
        seed: Seed of its messages.
    """

    def __init__(self, llm: LocalLLM, topic: str, seed: int = 0) -> None:
        self.llm, self.topic, self.seed = llm, topic, seed

    def __call__(self, turns: tuple[Turn, ...]) -> str | None:
        """Return the next message; None to stop."""
        kept = list(turns)
        while kept and not self.llm.fits(seeker_prompt(self.topic, kept)):
            del kept[0]
        seed = 1000 * self.seed + len(turns)
        return read_seeker(self.llm.write(seeker_prompt(self.topic, kept), seed=seed))

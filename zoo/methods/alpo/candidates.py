"""Candidates of the segments of a block, written by the translator and scored.

    T_i = unique{reference, k samples of segment i}        the reference is candidate 0
    sequential   samples of segment i follow the prompt and what was chosen for the segments before
                 (the paper); t_i^c is one of the three best, drawn once per block
    block        k samples of the whole block, cut at the borders of segments; one with another
                 number of lines is left out (the release)

In both the lines before the core are not scored. In `sequential` they are the reference's, as they
are in training.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from zoo.decoding.depth_decoder import DepthDecoder
from zoo.errors import InputError, check_counts
from zoo.methods.alpo.choose import drawing, pick_pair
from zoo.methods.alpo.prompts import read_lines
from zoo.methods.alpo.scoring import Scorer
from zoo.methods.alpo.writing import Nucleus, begin, write_lines
from zoo.records import ScoredBlock, ScoredSegment, SubtitleBlock
from zoo.records.subtitles import Lines

Mode = Literal["sequential", "block"]


@dataclass(frozen=True)
class Sampling:
    """How candidates are written.

    Attributes:
        k: Samples of each segment.
        mode: `sequential` (the paper) or `block` (the release).
        nucleus: How tokens are drawn.
        max_line_tokens: Limit of a line, `sequential`; a sample that meets it is not valid. Thai
            takes about two tokens a character where a tokenizer has not learned it.
        max_new_tokens: Limit of a whole block, `block`.
        seed: Of the samples and of what is chosen; a block's samples depend on it, its index and
            the weights alone.
    """

    k: int = 15
    mode: Mode = "sequential"
    nucleus: Nucleus = field(default_factory=Nucleus)
    max_line_tokens: int = 160
    max_new_tokens: int = 650
    seed: int = 0

    def check(self) -> None:
        """Refuse what means nothing.

        Raises:
            InputError: A value is out of its range.
        """
        check_counts(
            "sampling",
            {
                "num_samples (k)": self.k,
                "max_line_tokens": self.max_line_tokens,
                "max_new_tokens": self.max_new_tokens,
            },
        )
        self.nucleus.check("sampling.nucleus")
        if self.mode not in ("sequential", "block"):
            raise InputError(f"sampling.mode: {self.mode!r}; one of: block, sequential")


def scored(
    model: Any, block: SubtitleBlock, scorer: Scorer, sampling: Sampling, counts: Counter[str]
) -> ScoredBlock:
    """Return a block with scored candidates of its segments.

    Args:
        model: The translator, in evaluation mode.
        block: A block with a translation.
        scorer: Scores candidates.
        sampling: How they are written.
        counts: Counts samples and those that are not valid.

    Raises:
        InputError: The block has no translation.
    """
    if block.target is None:
        raise InputError(f"{block.id}: has no translation, which is needed as a candidate")
    with torch.no_grad(), seeded(sampling.seed + block.index, model.lm.device):
        if sampling.mode == "block":
            segments = _cut_blocks(model, block, scorer, sampling, counts)
        else:
            segments = _one_by_one(model, block, scorer, sampling, counts)
    return ScoredBlock(block, tuple(segments))


def _one_by_one(
    model: Any, block: SubtitleBlock, scorer: Scorer, sampling: Sampling, counts: Counter[str]
) -> list[ScoredSegment]:
    """Sample each segment after what was chosen for those before it."""
    encoder, total, first = model.encoder(), len(block.lines), len(block.before) + 1
    prompt = [*encoder.prompt(block), *encoder.response(block.target_before, 1, total)]
    decoder = begin(model, prompt, sampling.k)
    draws = drawing(sampling.seed, ScoredBlock(block, ()))
    segments: list[ScoredSegment] = []
    for start, stop in block.spans:
        samples = _sample(model, decoder, sampling, first + start, stop - start)
        reference = (block.target or ())[start:stop]
        segments.append(_scored_segment(block, start, stop, reference, samples, scorer, counts))
        chosen, _ = pick_pair(segments[-1], draws)
        ids = encoder.response(segments[-1].candidates[chosen], first + start, total)
        if stop < len(block.source):
            decoder.feed([ids] * sampling.k, 0)
    return segments


def _sample(
    model: Any, decoder: DepthDecoder, sampling: Sampling, first: int, count: int
) -> list[Lines | None]:
    """Return samples of the next lines; the rows stay as they were."""
    place = decoder.place()
    limit = count * sampling.max_line_tokens
    texts = write_lines(model, decoder, count, sampling.nucleus, limit)
    decoder.rewind(place)
    return [read_lines(text, first, count) for text in texts]


def _cut_blocks(
    model: Any, block: SubtitleBlock, scorer: Scorer, sampling: Sampling, counts: Counter[str]
) -> list[ScoredSegment]:
    """Sample whole blocks and cut them."""
    total = len(block.lines)
    decoder = begin(model, model.encoder().prompt(block), sampling.k)
    texts = write_lines(model, decoder, total + 1, sampling.nucleus, sampling.max_new_tokens)
    wholes = [read_lines(text, 1, total) for text in texts]
    first = len(block.before)
    segments = []
    for start, stop in block.spans:
        samples = [None if w is None else w[first + start : first + stop] for w in wholes]
        reference = (block.target or ())[start:stop]
        segments.append(_scored_segment(block, start, stop, reference, samples, scorer, counts))
    return segments


def _scored_segment(
    block: SubtitleBlock,
    start: int,
    stop: int,
    reference: Lines,
    samples: Sequence[Lines | None],
    scorer: Scorer,
    counts: Counter[str],
) -> ScoredSegment:
    """Return the different candidates of a segment with their scores."""
    valid = [lines for lines in samples if lines is not None]
    candidates = tuple(dict.fromkeys([reference, *valid]))
    counts["samples"] += len(samples)
    counts["samples with other lines"] += len(samples) - len(valid)
    counts["segments"] += 1
    counts["candidates"] += len(candidates)
    scores = scorer(block, start, stop, candidates) if len(candidates) > 1 else None
    return ScoredSegment(candidates, scores)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a seed of its own; the state of the others stays."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield

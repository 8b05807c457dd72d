"""Scores of the candidates of a segment, 0 to 100: by a judge, or by the reference alone.

- `ReferenceScorer`: 100 ((1 - a) chrF + a min(m, n) / max(m, n)), m and n the lengths in
  characters; needs no model, so that the whole loop runs anywhere. Chosen here.
- `ChoiceScorer`: the expected grade under a judge's probabilities of the letters A to E, once with
  A the best and once with A the worst grade, so that a liking for a letter cancels out. Chosen here
  for small local models, whose words are often no verdict.
- `JsonScorer`: the paper's and the release's: one JSON object for all candidates, their order
  shuffled in each of 4 votes, temperature 0.3, at most 3 retries, the mean of the votes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from sacrebleu.metrics import CHRF

from zoo.errors import InputError
from zoo.judges.judge import FAILURES, Judge, JudgeError, persist
from zoo.methods.alpo.rubric import (
    BEST,
    GRADES,
    LETTERS,
    RUBRIC,
    OutOfRangeError,
    TooFewDistinctError,
    grade_of_one,
    read_scores,
    scores_of_all,
)
from zoo.records import SubtitleBlock
from zoo.records.subtitles import Lines

LENGTH_SHARE = 0.3  # a


class Scorer(Protocol):
    """Scores candidates; `counts` says how often what happened."""

    counts: Counter[str]

    def __call__(
        self, block: SubtitleBlock, start: int, stop: int, candidates: Sequence[Lines]
    ) -> tuple[float, ...] | None:
        """Return a score from 0 to 100 for each candidate; None without a verdict.

        Args:
            block: The block.
            start: First core line of the segment.
            stop: One past its last core line.
            candidates: Translations of the segment, the reference first.
        """
        ...


class ReferenceScorer:
    """Scores by likeness to the reference, the first candidate, which has 100."""

    def __init__(self) -> None:
        self.chrf, self.counts = CHRF(), Counter[str]()

    def __call__(
        self, block: SubtitleBlock, start: int, stop: int, candidates: Sequence[Lines]
    ) -> tuple[float, ...]:
        """Return chrF and likeness of length, weighted, for each candidate."""
        reference = " ".join(candidates[0])
        return tuple(self.score(" ".join(lines), reference) for lines in candidates)

    def score(self, text: str, reference: str) -> float:
        """Return the score of one text."""
        chrf = self.chrf.sentence_score(text, [reference]).score / 100
        lengths = sorted((len(text), len(reference)))
        like = (1 - LENGTH_SHARE) * chrf + LENGTH_SHARE * lengths[0] / lengths[1]
        return min(BEST * like, float(BEST))


class ChoiceScorer:
    """Scores each candidate by the grade that a judge's probabilities expect.

    Args:
        judge: Whom to ask.
        rubric: What is judged.
    """

    def __init__(self, judge: Judge, rubric: Sequence[str] = RUBRIC) -> None:
        self.judge, self.rubric, self.counts = judge, rubric, Counter[str]()

    def __call__(
        self, block: SubtitleBlock, start: int, stop: int, candidates: Sequence[Lines]
    ) -> tuple[float, ...] | None:
        """Return the mean grade of both orders of the grades for each candidate."""
        letters = LETTERS[: len(GRADES)]
        points = [BEST * (1 - i / (len(GRADES) - 1)) for i in range(len(GRADES))]
        scores = []
        for lines in candidates:
            votes = []
            for grades, worth in ((GRADES, points), (GRADES[::-1], points[::-1])):
                messages = grade_of_one(block, start, stop, lines, grades, self.rubric)
                if not self.judge.fits(messages):
                    self.counts["too long for the judge"] += 1
                    return None
                shares = self.judge.score(messages, letters)
                votes.append(sum(p * w for p, w in zip(shares, worth, strict=True)))
            scores.append(sum(votes) / len(votes))
        self.counts["scored"] += 1
        return tuple(scores)


class JsonScorer:
    """Scores all candidates at once by a judge's words.

    Args:
        judge: Whom to ask; its temperature is its own.
        votes: How often to ask, each time with the candidates in another order.
        retries: How often to ask again where an answer is refused.
        seed: Of the orders and of the judge's answers.

    Raises:
        InputError: There is no vote, or fewer than no retries.
    """

    def __init__(self, judge: Judge, votes: int = 4, retries: int = 3, seed: int = 0) -> None:
        if votes < 1 or retries < 0:
            raise InputError(f"votes: {votes}, retries: {retries}; at least 1 and 0")
        self.judge, self.votes, self.retries, self.seed = judge, votes, retries, seed
        self.counts = Counter[str]()

    def __call__(
        self, block: SubtitleBlock, start: int, stop: int, candidates: Sequence[Lines]
    ) -> tuple[float, ...] | None:
        """Return the mean of the votes that are valid; None if none is.

        Raises:
            InputError: There are more candidates than letters.
        """
        if len(candidates) > len(LETTERS):
            raise InputError(f"{len(candidates)} candidates, a judge can name {len(LETTERS)}")
        found = []
        for vote in range(self.votes):
            ask = partial(self._vote, block, start, stop, candidates, vote)
            scores, _ = persist(ask, self.retries)
            if scores is None:
                self.counts["votes without a verdict"] += 1
            else:
                found.append(scores)
        if not found:
            self.counts["segments without a verdict"] += 1
            return None
        self.counts["scored"] += 1
        return tuple(sum(scores) / len(found) for scores in zip(*found, strict=True))

    def _vote(
        self,
        block: SubtitleBlock,
        start: int,
        stop: int,
        candidates: Sequence[Lines],
        vote: int,
        attempt: int,
    ) -> list[int]:
        """Return one vote, in the order of the candidates."""
        order = list(range(len(candidates)))
        random.Random(f"{self.seed} {block.id} {start} {vote}").shuffle(order)
        messages = scores_of_all(block, start, stop, [candidates[i] for i in order])
        seed = 1 + self.seed + vote * (self.retries + 1) + attempt
        try:
            said = read_scores(self.judge.write(messages, seed), len(candidates))
        except FAILURES as error:
            self.counts[_reason(error)] += 1
            raise
        scores = [0] * len(order)
        for position, score in zip(order, said, strict=True):
            scores[position] = score
        return scores


def _reason(error: Exception) -> str:
    if isinstance(error, OutOfRangeError):
        return "refused: a score out of range"
    if isinstance(error, TooFewDistinctError):
        return "refused: too few distinct scores"
    return "refused: no verdict" if isinstance(error, JudgeError) else "judge out of reach"

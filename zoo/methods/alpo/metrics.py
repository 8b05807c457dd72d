"""Scores of translated blocks that need no judge: chrF, BLEU, and whether the lines are whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sacrebleu.metrics import BLEU, CHRF
from torch import Tensor

from zoo.metrics.records import RecordMetric, number

Score = Literal["chrf", "bleu"]
CHARACTERS = ("zh", "ja", "th")  # languages that write no spaces between words


class CorpusScore(RecordMetric):
    """chrF or BLEU of lines over a corpus, in percent, by sacrebleu.

    Differs from `torchmetrics.text` in that a block counts once over processes. BLEU takes
    characters for words in languages without spaces.

    Args:
        kind: `chrf` or `bleu`.

    Example:
        >>> score = CorpusScore("chrf")
        >>> score.update([["I see."]], [["I see."]], ["en"])
        >>> round(float(score.compute()))
        100
    """

    def __init__(self, kind: Score) -> None:
        super().__init__()
        self.kind = kind

    def update(
        self,
        translations: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]],
        languages: Sequence[str],
        ids: Sequence[str] | None = None,
    ) -> None:
        """Keep the lines of blocks.

        Args:
            translations: Lines of each block; lines that are missing count as empty.
            references: The reference of each line.
            languages: Code of the language of each block.
            ids: Name of each block; one that comes twice counts once.
        """
        padded = [
            [*lines, *[""] * (len(gold) - len(lines))]
            for lines, gold in zip(translations, references, strict=True)
        ]
        self.keep([list(row) for row in zip(padded, references, languages, strict=True)], ids)

    def compute(self) -> Tensor:
        """Return the score of all lines; 0 without blocks."""
        blocks = self.kept()
        lines = [line for block, _, _ in blocks for line in block]
        golds = [line for _, block, _ in blocks for line in block]
        if not lines:
            return number(0.0)
        characters = any(language in CHARACTERS for _, _, language in blocks)
        bleu = BLEU(tokenize="char" if characters else "13a")
        scorer = CHRF() if self.kind == "chrf" else bleu
        return number(scorer.corpus_score(lines, [golds]).score)

"""How ALPO's translations are made, scored and shown: by blocks, whose core counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from zoo.errors import InputError
from zoo.evaluation import EvaluatedModule, Pair
from zoo.methods.alpo.metrics import CorpusScore
from zoo.methods.alpo.prompts import read_lines
from zoo.methods.alpo.scoring import ReferenceScorer
from zoo.methods.alpo.translate import Translating
from zoo.methods.alpo.translate_file import ToBlocks, translate_file
from zoo.methods.alpo.writing import Nucleus, write_lines
from zoo.metrics.records import RecordMean
from zoo.module import evaluating
from zoo.records import ScoredBlock, SubtitleBlock


class TranslatingModule(EvaluatedModule):
    """A module that translates blocks of subtitles.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_answer_tokens: Limit of a translated block.
        max_generated: Blocks to translate in each validation or test; None for all.
    """

    headline: ClassVar[tuple[str, ...]] = ("chrf", "valid")

    def __init__(
        self, backbone: Any, optimizer: Any, *, max_answer_tokens: int, max_generated: int | None
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.max_answer_tokens = max_answer_tokens
        self.metrics["chrf"], self.metrics["bleu"] = CorpusScore("chrf"), CorpusScore("bleu")
        self.metrics["valid"] = RecordMean()  # blocks with the right number of lines
        self.metrics["score"] = RecordMean()  # of their lines, as candidates get it without a model

    @evaluating
    def generate(
        self, records: Sequence[SubtitleBlock | ScoredBlock], *, temperature: float = 0.0
    ) -> list[tuple[str, ...] | None]:
        """Translate all lines of each block, context too; None where the lines are not whole."""
        blocks = [block_of(record) for record in records]
        decoder, nucleus = self.new_decoder(len(blocks)), Nucleus(temperature, 1.0, 0)
        decoder.feed([self.encoder().prompt(block) for block in blocks], 0)
        count = 1 + max(len(block.lines) for block in blocks)  # one more shows as an error
        texts = write_lines(self, decoder, count, nucleus, self.max_answer_tokens)
        return [
            read_lines(text, 1, len(block.lines)) for text, block in zip(texts, blocks, strict=True)
        ]

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Score the lines of the core; a block without whole lines counts as empty."""
        blocks = [block_of(record) for record, _ in pairs]
        lines = [
            core(block, translation) for block, (_, translation) in zip(blocks, pairs, strict=True)
        ]
        known = [i for i, block in enumerate(blocks) if block.target is not None]
        for kind in ("chrf", "bleu"):
            self.each_metric()[kind].update(
                [lines[i] for i in known],
                [blocks[i].target for i in known],
                [blocks[i].target_language for i in known],
                [ids[i] for i in known],
            )
        scores = [mean_score(lines[i], blocks[i].target or ()) for i in known]
        self.each_metric()["score"].update(scores, [ids[i] for i in known])
        whole = [float(translation is not None) for _, translation in pairs]
        self.each_metric()["valid"].update(whole, ids)

    def sample(self, record: Any, answer: tuple[str, ...] | None) -> dict[str, str]:
        """Return the row that TensorBoard shows of a translated block."""
        block = block_of(record)
        return {
            "source": "\n".join(block.source),
            "translation": "\n".join(core(block, answer)) or "(lines are not whole)",
            "reference": "\n".join(block.target or ()),
        }

    def prediction(self, record: Any, answer: tuple[str, ...] | None) -> dict[str, Any]:
        """Return the lines of the core; none where they are not whole."""
        block = block_of(record)
        return {"id": block.id, "source": list(block.source), "lines": list(core(block, answer))}

    @evaluating
    def translate_file(
        self,
        source: Path,
        output: Path,
        languages: tuple[str, str],
        encoding: str = "utf-8",
        to_blocks: ToBlocks | None = None,
    ) -> Counter[str]:
        """Translate a subtitle file (see `zoo.methods.alpo.translate_file`)."""
        how = Translating(max_new_tokens=self.max_answer_tokens)
        return translate_file(self, source, output, languages, how, encoding, to_blocks)

    def show(
        self,
        records: Sequence[Any],
        *,
        prompt: str | None = None,
        input: str | None = None,
        output: str | None = None,
        data: Any = None,
    ) -> list[dict[str, str]]:
        """Return source, translation and reference of blocks, or translate a file.

        Args:
            records: What to translate; their languages are those of everything else.
            prompt: Lines to translate instead.
            input: Subtitle file to translate instead.
            output: File to write.
            data: Data module whose encoding, blocks and terms hold for `input`; where it has none,
                UTF-8, blocks of the usual size, and no terms.

        Raises:
            InputError: `input` or `output` is missing, a file is bad, or the prompt is blank.
        """
        block = block_of(records[0])
        languages = block.source_language, block.target_language
        if (input is None) != (output is None):
            raise InputError("input and output: give both, the file to read and the one to write")
        if input is not None and output is not None:
            how = getattr(data, "encoding", "utf-8"), getattr(data, "to_blocks", None)
            counts = self.translate_file(Path(input), Path(output), languages, *how)
            told = ", ".join(f"{count} {name}" for name, count in counts.items())
            return [{"output": output, "blocks": told}]
        if prompt:
            lines = tuple(filter(None, map(str.strip, prompt.split("\n"))))
            if not lines:
                raise InputError("prompt: has no text, so no line to translate")
            records = [
                SubtitleBlock(lines, source_language=languages[0], target_language=languages[1])
            ]
        return [self.sample(*pair) for pair in zip(records, self.generate(records), strict=True)]


def block_of(record: SubtitleBlock | ScoredBlock) -> SubtitleBlock:
    """Return the block of a record."""
    return record.block if isinstance(record, ScoredBlock) else record


def mean_score(lines: Sequence[str], golds: Sequence[str]) -> float:
    """Return the mean over lines of `ReferenceScorer`, 0 to 100; missing ones have 0."""
    scores = map(ReferenceScorer().score, lines, golds)
    return sum(scores) / len(golds)


def core(block: SubtitleBlock, lines: Sequence[str] | None) -> tuple[str, ...]:
    """Return the core of a block's translated lines; nothing where there are none."""
    first = len(block.before)
    return () if lines is None else tuple(lines[first : first + len(block.source)])

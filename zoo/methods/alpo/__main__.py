"""From subtitles to scored candidates: `python -m zoo.methods.alpo segment` and `... sample`.

    segment   divides episodes into segments           -> data.segments of datamodules.Subtitles
    sample    writes candidates and scores them        -> data.train of datamodules.ScoredBlocks

Both write a line an episode or block, and go on where they stopped, unless the translator or the
subtitles have changed since.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import auto_cli
from lightning.pytorch import LightningDataModule

from zoo.backbone import Backbone
from zoo.cache import digest, weights_digest
from zoo.errors import InputError, TooLongError, check_counts
from zoo.export import load
from zoo.judges.local import LocalLLM
from zoo.methods.alpo.candidates import Sampling, scored
from zoo.methods.alpo.growing_file import GrowingFile
from zoo.methods.alpo.rubric import LETTERS
from zoo.methods.alpo.scoring import ChoiceScorer, JsonScorer, ReferenceScorer, Scorer
from zoo.methods.alpo.segments import line_starts, semantic_starts

Split = Literal["train", "val", "test"]
READ = ("source", "target", "moses", "encoding")
"""Settings of the data that change lines; where they lie does too."""
CUT = ("part", "core", "context", "segments", "terms")
"""Settings of the data that change blocks, or which ones there are."""


@dataclass(frozen=True)
class Scoring:
    """Who scores candidates.

    Attributes:
        kind: `reference` needs no model; `choice` reads a judge's probabilities of five grades;
            `json` its words (the paper).
        judge: The judge's model.
        votes: Votes of `json`, each with the candidates in another order.
        retries: How often `json` asks again where an answer is refused.
        temperature: Of the judge's words; above 0.
        max_length: The judge's window in tokens.
    """

    kind: Literal["reference", "choice", "json"] = "reference"
    judge: Backbone | None = None
    votes: int = 4
    retries: int = 3
    temperature: float = 0.3
    max_length: int = 4096

    def check(self, samples: int) -> None:
        """Refuse what `json` can not do.

        Args:
            samples: Of each segment; with the reference they are its candidates.

        Raises:
            InputError: The temperature is not above 0, or there are more candidates than letters.
        """
        if self.kind != "json":
            return
        if self.temperature <= 0:
            raise InputError(f"scoring.temperature: {self.temperature} is not above 0")
        if samples + 1 > len(LETTERS):
            said = f"json names at most {len(LETTERS)} candidates, the reference among them"
            raise InputError(f"sampling.k: {samples}; {said}")

    def scorer(self, seed: int) -> Scorer:
        """Return the scorer.

        Raises:
            InputError: It needs a judge and there is none.
        """
        if self.kind == "reference":
            return ReferenceScorer()
        judge = local_judge(self.judge, self.temperature, self.max_length, f"scoring.{self.kind}")
        if self.kind == "choice":
            return ChoiceScorer(judge)
        return JsonScorer(judge, self.votes, self.retries, seed)


SAMPLING, SCORING = Sampling(), Scoring()


def sample(
    translator: str,
    data: LightningDataModule,
    output: str,
    split: Split = "train",
    sampling: Sampling = SAMPLING,
    scoring: Scoring = SCORING,
) -> None:
    """Write candidates of the segments of every block of a split, with scores.

    Args:
        translator: Exported folder of a translator (`python -m zoo export`).
        data: Blocks with a translation: `datamodules.Subtitles`. Its `too_long` says whether a
            block that does not fit into the translator's window is left out.
        output: JSONL file; one that was begun is gone on with.
        split: Which blocks.
        sampling: How candidates are written.
        scoring: Who scores them.
    """
    sampling.check()
    scoring.check(sampling.k)
    blocks = list(records_of(data, split))
    scorer = scoring.scorer(sampling.seed)
    model = load(translator).to(device())
    settings = {
        "split": split,
        "translator": str(Path(translator).resolve()),
        "weights": weights_digest(model.state_dict().items()),
        "sampling": asdict(sampling),
        "scoring": asdict(scoring),
        "data": settings_of(data, (*READ, *CUT)),
    }
    file = GrowingFile(Path(output), settings, {b.id: {"block": asdict(b)} for b in blocks})
    drop = getattr(data, "too_long", "error") == "drop"
    left_out = _sample_blocks(model, blocks, scorer, sampling, file, drop)
    if blocks and not file.done:
        raise InputError(f"data.too_long: no block of {split!r} fits into the window")
    longer = f", {left_out} longer than the window left out" if left_out else ""
    say(f"scored      {output}: {len(file.done)} blocks{longer}")


def _sample_blocks(
    model: Any,
    blocks: list[Any],
    scorer: Scorer,
    sampling: Sampling,
    file: GrowingFile,
    drop: bool,
) -> int:
    """Write the blocks that the file lacks; return how many are too long, which `drop` allows."""
    counts, left_out = Counter[str](), 0
    todo = [block for block in blocks if block.id not in file.done]
    for done, block in enumerate(todo, start=1):
        try:
            record = scored(model, block, scorer, sampling, counts)
        except TooLongError as error:
            if not drop:
                said = f"{error}; data.too_long: drop leaves such blocks out"
                raise TooLongError(said) from error
            left_out += 1
            say(f"{done}/{len(todo)} {block.id}: left out: {error}")
            continue
        file.append(block.id, asdict(record))
        say(f"{done}/{len(todo)} {block.id}: {told(counts + scorer.counts)}")
    return left_out


def segment(
    data: LightningDataModule,
    output: str,
    kind: Literal["line", "semantic"] = "semantic",
    judge: Backbone | None = None,
    max_lines: int | None = 8,
    max_length: int = 2048,
) -> None:
    """Write where the segments of every episode of all splits begin.

    Args:
        data: `datamodules.Subtitles`.
        output: JSONL file; one that was begun is gone on with.
        kind: `semantic` asks a judge whether a line is coherent with the one before it.
        judge: The judge's model.
        max_lines: Longest segment; None for no limit.
        max_length: The judge's window in tokens.
    """
    check_counts("", {"max_lines": max_lines, "max_length": max_length})
    if not hasattr(data, "episodes"):
        raise InputError(f"data: {type(data).__name__} has no episodes; use datamodules.Subtitles")
    episodes = [episode for split in ("train", "val", "test") for episode in data.episodes(split)]
    asked = None if kind == "line" else local_judge(judge, 0.0, max_length, "kind semantic")
    settings = {
        "kind": kind,
        "judge": asdict(judge) if judge else None,
        "max_lines": max_lines,
        "data": settings_of(data, READ),
    }
    known: dict[str, Any] = {
        episode.id: {"lines": len(episode.source), "text": digest(episode.source)}
        for episode in episodes
    }
    file = GrowingFile(Path(output), settings, known)
    for episode in episodes:
        if episode.id in file.done:
            continue
        starts = (
            line_starts(episode) if asked is None else semantic_starts(episode, asked, max_lines)
        )
        file.append(episode.id, {"id": episode.id, **known[episode.id], "starts": starts})
        say(f"{episode.id}: {len(episode.source)} lines, {len(starts)} segments")
    say(f"segments    {output}: {len(file.done)} episodes")


def local_judge(judge: Backbone | None, temperature: float, window: int, what: str) -> LocalLLM:
    """Return a language model of this machine as judge.

    Raises:
        InputError: None is named.
    """
    if judge is None:
        raise InputError(f"{what}: needs a judge; name its model, for example judge.name")
    options: Any = {"temperature": temperature, "max_length": window, "max_new_tokens": 256}
    return LocalLLM.load(judge, device=str(device()), **options)


def records_of(data: Any, split: str) -> Iterable[Any]:
    """Return the blocks of a split.

    Raises:
        InputError: The data module yields none.
    """
    if "SubtitleBlock" not in {kind.__name__ for kind in getattr(data, "record_types", ())}:
        raise InputError(f"data: {type(data).__name__} has no blocks; use datamodules.Subtitles")
    blocks: Iterable[Any] = data.records(split)
    return blocks


def settings_of(data: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return where data lie, and some of their settings; None for what they have not."""
    folder = getattr(data, "folder", None)
    found: dict[str, Any] = {"path": None if folder is None else str(folder.resolve())}
    return found | {name: getattr(data, name, None) for name in names}


def device() -> torch.device:
    """Return where models run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def told(counts: Counter[str]) -> str:
    """Return counts in words."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201


def main(args: list[str] | None = None) -> None:
    """Run a command; bad input is one line, and status 2.

    Args:
        args: Arguments; None for those of the process.
    """
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    try:
        auto_cli([sample, segment], args=args, as_positional=False)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


if __name__ == "__main__":
    main()

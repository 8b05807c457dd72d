"""Questions from a file of lines, and a loader of their stored examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules import ZooDataModule
from datamodules.loader import StepLoader
from zoo.records import Conditioned, Triple

WORDS = [
    "a",
    "house",
    "with",
    "seven",
    "windows",
    "stands",
    "near",
    "the",
    "old",
    "mill",
    "and",
    "nobody",
    "lives",
    "there",
]


class Texts(ZooDataModule):
    """Questions from a file of lines, some of them longer than others."""

    record_types = (Triple, Conditioned)

    def __init__(self, path: str, kind: type = Triple, **loader: Any) -> None:
        super().__init__(**loader)
        self.path, self.kind = path, kind

    def load(self, split: str) -> list[Any]:
        lines = Path(self.path).read_text().splitlines()
        if self.kind is Triple:
            return [Triple(line, "Hm.", line[:9], id=f"{i}") for i, line in enumerate(lines)]
        return [Conditioned(line[:20], line, line[:9], id=f"{i}") for i, line in enumerate(lines)]


def planned(path: str, encoder: Any) -> StepLoader:
    """Return a loader of stored examples."""
    found = Texts(path, keep_in_memory=False).examples("train", encoder)
    return StepLoader(found, encoder.collate, batch_size=3, max_tokens=90, shuffle=True, seed=5)

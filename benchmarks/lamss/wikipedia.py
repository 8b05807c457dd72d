"""Plain text to read on: Wikipedia articles in short pieces."""

from __future__ import annotations

import textwrap
from pathlib import Path

from datamodules.base import ZooDataModule
from datamodules.files import find, read_lines
from zoo.records import PlainText, Record

CHARACTERS = 400  # of a piece, at most; cut between words


class Wikipedia(ZooDataModule):
    """Pieces of the articles in `wiki_demo.txt`, one article a line, as `PlainText` records.

    Args:
        path: Folder with `wiki_demo.txt` or `wiki_demo.txt.gz`.
        batch_size: Pieces per micro-batch.
        max_train: Number of training pieces to keep, the first ones.
        seed: Seed of the order.
    """

    record_types = (PlainText,)

    def __init__(
        self, path: str, *, batch_size: int = 4, max_train: int = 512, seed: int = 0
    ) -> None:
        super().__init__(
            batch_size=batch_size, max_train=max_train, max_val=16, max_test=16, seed=seed
        )
        self.path = Path(path)

    def load(self, split: str) -> list[Record]:
        """Cut the articles into pieces; of ten pieces one is for `val` and one for `test`."""
        file = find(self.path, "wiki_demo.txt", "wiki_demo.txt.gz")
        pieces: list[Record] = []
        for number, line in read_lines(file):
            parts = textwrap.wrap(line, CHARACTERS)
            pieces += [PlainText(part, id=f"{file.name}:{number}") for part in parts[:-1]]
        shares = {"val": 8, "test": 9}
        return [p for i, p in enumerate(pieces) if shares.get(split, min(i % 10, 7)) == i % 10]

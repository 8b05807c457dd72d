"""A corpus alone, without queries: to build an index of it and to search that index.

A JSONL file with `{"id" or "_id", "text", "title"}` a line (`title` may be missing; other fields
are left alone), or a folder with such a `corpus.jsonl`, as BEIR's; each may be gzipped.
"""

from __future__ import annotations

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, find
from datamodules.json_files import read_objects
from datamodules.judged_queries import corpus_of, read_documents
from zoo.errors import InputError
from zoo.records import Corpus, Record


class Documents(ZooDataModule):
    """Documents for `index` and `search`; it has no records.

    Args:
        path: The file, or a folder with `corpus.jsonl`. None reads a small sample that comes with
            the package.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        self.path = path
        self._corpus: Corpus | None = None

    @property
    def corpus(self) -> Corpus:
        """The documents.

        Raises:
            InputError: The file is wrong, a document is empty, or an id is there twice.
        """
        if self._corpus is None:
            path = SAMPLES / "beir.corpus.jsonl" if self.path is None else data_path(self.path)
            if path.is_dir():
                path = find(path, "corpus.jsonl", "corpus.jsonl.gz")
            rows = list(read_objects(path))
            name = "_id" if rows and "_id" in rows[0][1] else "id"
            self._corpus = corpus_of(read_documents(rows, path, id_field=name))
        return self._corpus

    def load(self, split: str) -> list[Record]:
        """Refuse: there are no queries.

        Raises:
            InputError: Always.
        """
        raise InputError("Documents has no queries; it serves index, and search with query")

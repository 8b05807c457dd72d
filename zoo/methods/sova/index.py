"""The index of values on disk, in open formats, built once and opened in a moment.

    index.json              settings, counts, a hash of what it was built of and of every file
    graph.graphml           nodes and edges with kind, description, sources, weight
    principles.parquet      the corpus
    communities.parquet     the hierarchy
    reports.parquet         the reports of the finest communities, for each theory
    vectors.safetensors     with an encoder: a vector for each report, and for the advice of each
                            curated principle, in the order of their ids
    answers.jsonl           with a language model: its answers, by a hash of what it was asked

The same inputs and settings give the same bytes, in whatever order documents and rows come (the
answers are a log and count for nothing). `index.json` is written last: a build that was cut off is
done again, and asks the model nothing that it has answered.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import networkx as nx
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from zoo.cache import digest, whole_file
from zoo.errors import InputError, nearest
from zoo.judges.judge import Judge
from zoo.judges.recorded import RecordedAnswers
from zoo.methods.sova.communities import Community, communities, finest
from zoo.methods.sova.graph import ValueTable, build_graph, check_labels
from zoo.methods.sova.index_files import (
    ANSWERS,
    CARD,
    FORMAT,
    GRAPH,
    VECTORS,
    as_plain,
    check_empty,
    check_files,
    file_hash,
    read_card,
    read_rows,
    reading,
    write_rows,
)
from zoo.methods.sova.instruct import closest
from zoo.methods.sova.principles import STEERING, Principle, corpus
from zoo.methods.sova.report_writer import write_reports
from zoo.methods.sova.reports import Report, as_row, from_row, template_reports
from zoo.methods.sova.sentence_encoder import Encoder
from zoo.methods.sova.tagging import similar_values, tag
from zoo.records import PrincipleText

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ValueIndex:
    """Principles, their graph, its communities and reports.

    Attributes:
        principles: Ordered by id.
        graph: See `zoo.methods.sova.graph`.
        communities: Of all levels.
        reports: Of the finest communities, ordered by id.
        vectors: With an encoder, `reports`, a vector of each, `(R, D)`, and `rules`, one of the
            advice of each curated principle, `(P, D)`.
        card: What `index.json` says.
    """

    principles: list[Principle]
    graph: nx.DiGraph
    communities: list[Community]
    reports: list[Report]
    vectors: dict[str, Tensor] | None
    card: dict[str, Any]

    @staticmethod
    def build(
        folder: str | Path,
        table: ValueTable,
        texts: Sequence[PrincipleText] = (),
        *,
        encoder: Encoder | None = None,
        judge: Judge | None = None,
        max_size: int = 10,
        seed: int = 0,
    ) -> ValueIndex:
        """Build an index, or finish one that was cut off; one that is whole is opened.

        Args:
            folder: Where to write; new, or an index of the same inputs.
            table: The labels of each value.
            texts: Published principles, beside the curated ones.
            encoder: Labels published principles, links them to values, and gives `prefilter` its
                vectors; None for none of this.
            judge: Labels published principles (with the encoder) and words the reports; None for
                the encoder's labels and a template's words.
            max_size: Of communities; best effort.
            seed: Of the communities.

        Raises:
            InputError: The value table is empty or has a label that its theory does not have, or
                the folder holds something else.
        """
        target = Path(folder)
        if not table:
            raise InputError("values: the table of values is empty; there is nothing to build of")
        check_labels(table)
        settings = {
            "max_size": max_size,
            "seed": seed,
            "encoder": encoder.name if encoder else None,
            "judge": judge.name if judge else None,
        }
        inputs = _inputs(table, texts, settings)
        if (target / CARD).is_file():
            if read_card(target)["inputs"] != inputs:
                raise InputError(
                    f"{target}: an index of other principles, values or settings; name a new folder"
                )
            return ValueIndex.open(target)
        check_empty(target)
        target.mkdir(parents=True, exist_ok=True)
        made = _make(target, table, texts, encoder, judge, max_size, seed)
        card = {"format": FORMAT, "inputs": inputs, "settings": settings, "counts": made.card}
        return dataclasses.replace(made, card=_write(target, made, card))

    @staticmethod
    def open(folder: str | Path) -> ValueIndex:
        """Open an index.

        Raises:
            InputError: There is none, it is unfinished, or a file is damaged or not the one that
                was written.
        """
        target = Path(folder)
        card = read_card(target)
        check_files(target, card["files"])
        with reading(target / GRAPH):
            graph = nx.read_graphml(target / GRAPH)
        vectors = None
        if VECTORS in card["files"]:
            with reading(target / VECTORS):
                found = load_file(target / VECTORS)
                vectors = {name: found[name] for name in ("reports", "rules")}
        return ValueIndex(
            _read(target / "principles.parquet", Principle, lambda row: Principle(**row)),
            graph,
            _read(target / "communities.parquet", Community, lambda row: Community(**row)),
            _read(target / "reports.parquet", Report, from_row),
            vectors,
            card,
        )

    def reports_of(self, theory: str) -> list[Report]:
        """Return the reports of a theory, ordered by id.

        Raises:
            InputError: There is no such theory.
        """
        if theory not in STEERING:
            raise InputError(f"theory: {theory!r}; {nearest(theory, STEERING)}")
        return [report for report in self.reports if report.theory == theory]

    def embed(self, situations: Sequence[str], encoder: Encoder) -> Tensor:
        """Return vectors of situations by the encoder that the index was built with, `(S, D)`.

        Raises:
            InputError: The index was built without an encoder, or with another one.
        """
        built = self.card["settings"]["encoder"]
        if self.vectors is None or built != encoder.name:
            raise InputError(
                f"encoder: the index was built with {built or 'none'}, asked with {encoder.name}; "
                f"name the same one, or none"
            )
        return encoder.embed(situations)

    def near(self, theory: str, situations_SD: Tensor, k: int) -> list[list[int]]:
        """Return for each situation the places, among `reports_of`, of the k closest reports."""
        places = [i for i, report in enumerate(self.reports) if report.theory == theory]
        return closest((self.vectors or {})["reports"][places], situations_SD, k)

    def fits(self, situations_SD: Tensor) -> list[dict[str, float]]:
        """Return for each situation the cosine of the advice of each curated principle, by id."""
        names = [principle.id for principle in self.principles if principle.curated]
        similar_SP = situations_SD @ (self.vectors or {})["rules"].T
        return [dict(zip(names, row, strict=True)) for row in similar_SP.tolist()]


def _make(
    target: Path,
    table: ValueTable,
    texts: Sequence[PrincipleText],
    encoder: Encoder | None,
    judge: Judge | None,
    max_size: int,
    seed: int,
) -> ValueIndex:
    """Return the parts of an index, with its counts as card."""
    bar = tqdm(total=4, desc="index", leave=False)
    principles, counts = corpus(texts), Counter[str]()
    similar: Mapping[str, Sequence[str]] = {}
    answers = None
    if judge is not None:
        answers = RecordedAnswers(target / ANSWERS, judge.name, lambda line: line["words"])
    if encoder is not None:
        rules = [principle for principle in principles if not principle.curated]
        labelled, counts, gone = tag(rules, encoder, judge, answers)
        principles = with_labels([p for p in principles if p.id not in gone], labelled)
        published = [principle for principle in principles if not principle.curated]
        similar = similar_values(published, sorted(table), encoder)
    bar.update()
    graph = build_graph(table, principles, similar)
    found = communities(graph, max_size=max_size, seed=seed)
    bar.update()
    reports = template_reports(graph, finest(found), principles)
    if judge is not None and answers is not None:
        reports, written = write_reports(reports, judge, answers)
        del written["failed answers"]  # a build that goes on after a cut sees fewer of them
        counts += written
    bar.update()
    vectors = None
    if encoder is not None:
        advice = [principle.rule for principle in principles if principle.curated]
        whole = [report.text for report in reports]
        vectors = {"reports": encoder.embed(whole), "rules": encoder.embed(advice)}
    bar.update()
    bar.close()
    sizes = {"principles": len(principles), "nodes": len(graph), "edges": graph.size()}
    sizes |= {"communities": len(found), "reports": len(reports)}
    members = {node for community in found for node in community.nodes}
    lone = sum(f"principle:{principle.id}" not in members for principle in principles)
    sizes |= {"principles in no community": lone} if lone else {}
    sizes |= dict(sorted(counts.items()))
    return ValueIndex(principles, graph, found, reports, vectors, sizes)


def _read(path: Path, kind: type, make: Callable[[dict[str, Any]], T]) -> list[T]:
    """Return what a table holds, each row made an item of a kind."""
    with reading(path):
        return [make(row) for row in read_rows(path, kind)]


def with_labels(principles: Sequence[Principle], labelled: Sequence[Principle]) -> list[Principle]:
    """Return principles with labelled copies in place of those that were labelled, by id."""
    told = {copy.statement for copy in labelled}
    rest = [item for item in principles if item.curated or item.statement not in told]
    return sorted([*rest, *labelled], key=lambda principle: principle.id)


def _write(target: Path, made: ValueIndex, card: dict[str, Any]) -> dict[str, Any]:
    """Write the files of an index and then its card; return the card."""
    files: dict[str, Callable[[Path], object]] = {
        GRAPH: lambda path: nx.write_graphml_xml(made.graph, path),
        "principles.parquet": lambda path: write_rows(path, map(as_plain, made.principles)),
        "communities.parquet": lambda path: write_rows(path, map(as_plain, made.communities)),
        "reports.parquet": lambda path: write_rows(path, map(as_row, made.reports)),
    }
    if made.vectors is not None:
        vectors = {name: found.contiguous() for name, found in made.vectors.items()}
        files[VECTORS] = lambda path: save_file(vectors, path)
    for name, write in files.items():
        with whole_file(target / name) as scratch:
            write(scratch)
    card = card | {"files": {name: file_hash(target / name) for name in files}}
    with whole_file(target / CARD) as scratch:
        scratch.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def _inputs(table: ValueTable, texts: Sequence[PrincipleText], settings: Mapping[str, Any]) -> str:
    """Return a digest of all that an index depends on, whatever the order of rows and texts."""
    values = sorted([value, sorted(labels.items())] for value, labels in table.items())
    return digest([FORMAT, settings, values, [as_plain(item) for item in corpus(texts)]])

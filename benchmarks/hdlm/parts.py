"""Parts of CLINC150 and WoS, small enough for a trial on a CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datamodules
from benchmarks.trials import data_path
from datamodules.clinc150 import in_file_order
from zoo.records import LabelPath, Taxonomy


@dataclass(frozen=True)
class Part:
    """A part of a data set.

    Attributes:
        module: Data module.
        folder: Its folder in `ZOO_DATA`.
        domains: Domains to keep.
        areas: Classes to keep of each domain.
        shots: Most training texts of a class.
        held: Splits to test on.
        tested: Most test texts of a class.
        epochs: Passes over the training texts.
        max_length: Window in tokens; a longer text loses its end.
    """

    module: str
    folder: str
    domains: int
    areas: int
    shots: int
    held: tuple[str, ...]
    tested: int
    epochs: int
    max_length: int


SETS = {
    "CLINC150": Part("CLINC150", "clinc150", 4, 3, 24, ("test",), 10, 2, 256),
    "WoS": Part("WoS", "wos", 3, 2, 12, ("val", "test"), 10, 6, 144),
}


def restrict(records: Sequence[Any], part: Part) -> list[LabelPath]:
    """Return the records of a part of the taxonomy, relabelled with that part alone.

    Of classes or domains of one size (CLINC150) some that are evenly spread are kept, otherwise
    those with most records (WoS).
    """
    whole = records[0].taxonomy
    sizes = Counter(record.labels for record in records)
    below = {
        domain: choose([(name, sizes[domain, name]) for name in whole.below((domain,))], part.areas)
        for domain in whole.below(())
    }
    weighed = [(d, sum(sizes[d, name] for name in names)) for d, names in below.items()]
    domains = choose(weighed, part.domains)
    children: dict[tuple[str, ...], tuple[str, ...]] = {(): domains}
    children |= {(domain,): below[domain] for domain in domains}
    taxonomy = Taxonomy(children)
    return [
        LabelPath(record.text, record.labels, taxonomy, record.id)
        for record in records
        if record.labels[1] in taxonomy.below(record.labels[:1])
    ]


def choose(weighed: Sequence[tuple[str, int]], count: int) -> tuple[str, ...]:
    """Return `count` names in their order: the heaviest, or evenly spread if all weigh the same."""
    if len({weight for _, weight in weighed}) == 1:
        return tuple(name for name, _ in weighed[:: len(weighed) // count][:count])
    kept = sorted(weighed, key=lambda item: -item[1])[:count]
    return tuple(name for name, weight in weighed if (name, weight) in kept)


def limit(records: Sequence[LabelPath], most: int) -> list[LabelPath]:
    """Return at most so many records of each path."""
    seen: Counter[tuple[str, ...]] = Counter()
    kept = []
    for record in records:
        seen[record.labels] += 1
        if seen[record.labels] <= most:
            kept.append(record)
    return kept


def read(part: Part) -> tuple[list[LabelPath], list[LabelPath]]:
    """Return the training and the test records of a part."""
    data = getattr(datamodules, part.module)(data_path(part.folder))
    splits = {split: data.records(split) for split in ("train", *part.held)}
    if part.module == "CLINC150":
        splits = {split: in_file_order(records) for split, records in splits.items()}
    everything = [record for records in splits.values() for record in records]
    chosen = {record.id: record for record in restrict(everything, part)}
    train, test = (
        [chosen[r.id] for split in names for r in splits[split] if r.id in chosen]
        for names in (("train",), part.held)
    )
    return limit(train, part.shots), limit(test, part.tested)

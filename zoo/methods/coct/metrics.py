"""Scores of replies that are tagged with concepts: how many tags, of which lists, in which order.

A chain is what the tags of one reply say, in order: (kind, name) pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zoo.metrics.records import RecordMetric
from zoo.support.labels import STAGES, SUPPORT, Labels
from zoo.support.strategy_metrics import Floats, in_stages, transitions

OTHER = "other"  # kind of a tag that is in no list
Chain = Sequence[tuple[str, str]]


def of_kind(chain: Chain, kind: str) -> list[str]:
    """Return the names of one kind in the order of a reply's tags."""
    return [name for tag, name in chain if tag == kind]


class TagScores(RecordMetric):
    """Tags per reply and different listed concepts per reply; the rest are shares in percent.

    `tagged` are replies with any tag, `chains` those with two different listed concepts or more,
    `unlisted_tags` the tags that no list has.

    Example:
        >>> TagScores()([[("strategy", "Question"), ("other", "Hug")], []])  # doctest: +ELLIPSIS
        {'tagged': 50.0, 'tags_per_reply': 1.0, ... 'chains': 0.0, 'unlisted_tags': 50.0}
    """

    def update(self, chains: Sequence[Chain], ids: Sequence[str] | None = None) -> None:
        """Add the chain of each reply; of replies with one id the first."""
        self.keep(chains, ids)

    def compute(self) -> dict[str, float]:
        """Return the scores by name."""
        chains = self.kept()
        kinds = Counter(kind for chain in chains for kind, _ in chain)
        total, replies = sum(kinds.values()), max(1, len(chains))
        listed = [len({tuple(tag) for tag in chain if tag[0] != OTHER}) for chain in chains]
        return {
            "tagged": 100 * sum(map(bool, chains)) / replies,
            "tags_per_reply": total / replies,
            "listed_concepts": sum(listed) / replies,
            "chains": 100 * sum(count > 1 for count in listed) / replies,
            "unlisted_tags": 100 * kinds[OTHER] / max(1, total),
        }


def inner_transitions(
    chains: Sequence[Chain], kind: str, labels: Labels, *, rows: bool = True
) -> tuple[list[str], Floats]:
    """Return the names of a kind, ESConv's strategies by stage, and their transitions in replies.

    Args:
        chains: A chain for each reply. Tags of other kinds between two of this one do not count.
        kind: Which tags.
        labels: Their names.
        rows: Divide each row of the table by its sum.
    """
    names = list(labels.names)
    if labels is SUPPORT:
        names = [*in_stages(), *(name for name in names if name not in STAGES)]
    return names, transitions([of_kind(chain, kind) for chain in chains], names, rows=rows)


def as_csv(names: Sequence[str], table: Floats) -> str:
    """Return a table with named rows and columns as CSV."""
    rows = [["", *names]]
    rows += [[name, *(f"{v:.4f}" for v in row)] for name, row in zip(names, table, strict=True)]
    return "".join(",".join(row) + "\n" for row in rows)

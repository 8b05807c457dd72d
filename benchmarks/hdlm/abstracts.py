"""WoS for small models: folds, content words, class names of one word, rules that count words."""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence

from zoo.records import LabelPath, Taxonomy

RAREST, COMMONEST = 2, 0.1  # a content word is in two training abstracts, and in a tenth at most
FOLDS = 5


def fold_of(
    records: Sequence[LabelPath], fold: int, seed: int = 0
) -> tuple[list[LabelPath], list[LabelPath]]:
    """Return the other folds and this one, in the order of the records.

    Each path's abstracts are shuffled and dealt to the folds in turn; the next path goes on where
    the last one ended, so that the folds have one size.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i in random.Random(seed).sample(range(len(records)), len(records)):
        groups[records[i].labels].append(i)
    dealt = [i for labels in sorted(groups) for i in groups[labels]]
    held = {*dealt[fold::FOLDS]}
    return (
        [record for i, record in enumerate(records) if i not in held],
        [record for i, record in enumerate(records) if i in held],
    )


def words_of(text: str) -> list[str]:
    """Return the words of a text in small letters; numbers and signs are no words."""
    return re.findall(r"[a-z]+", text.lower())


def content_words(train: Sequence[LabelPath]) -> set[str]:
    """Return the words that are neither rare nor common in training abstracts."""
    seen = Counter(word for record in train for word in {*words_of(record.text)})
    return {word for word, n in seen.items() if RAREST <= n <= COMMONEST * len(train)}


def shortened(records: Sequence[LabelPath], kept: Collection[str], most: int) -> list[LabelPath]:
    """Return the records with their first `most` words of those kept, and names of one word."""
    children = {
        tuple(map(one_word, path)): tuple(map(one_word, names))
        for path, names in records[0].taxonomy.children.items()
    }
    taxonomy = Taxonomy(children)
    return [
        LabelPath(
            " ".join([word for word in words_of(record.text) if word in kept][:most]),
            tuple(map(one_word, record.labels)),
            taxonomy,
            record.id,
        )
        for record in records
    ]


def one_word(name: str) -> str:
    """Return the letters of a name, its words begun with a capital.

    Example:
        >>> one_word("Alzheimer's Disease")
        'AlzheimersDisease'
    """
    letters = ("".join(filter(str.isalpha, word)) for word in name.split())
    return "".join(word[:1].upper() + word[1:] for word in letters)


def most_frequent(train: Sequence[LabelPath], test: Sequence[LabelPath]) -> list[list[str]]:
    """Return for each text the most frequent domain, and in it the most frequent area."""
    domain = Counter(record.labels[0] for record in train).most_common(1)[0][0]
    areas = Counter(record.labels[1] for record in train if record.labels[0] == domain)
    return [[domain, areas.most_common(1)[0][0]] for _ in test]


def naive_bayes(train: Sequence[LabelPath], test: Sequence[LabelPath]) -> list[list[str]]:
    """Return for each text the likeliest domain by its words, and in it the likeliest area."""
    domain_of = counted(train, 0)
    area_of = {
        domain: counted([record for record in train if record.labels[0] == domain], 1)
        for domain in {record.labels[0] for record in train}
    }
    domains = [domain_of(words_of(record.text)) for record in test]
    return [
        [domain, area_of[domain](words_of(record.text))]
        for domain, record in zip(domains, test, strict=True)
    ]


def counted(train: Sequence[LabelPath], level: int) -> Callable[[Sequence[str]], str]:
    """Return multinomial naive Bayes of a level's names; one is added to each count of a word."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    texts = Counter(record.labels[level] for record in train)
    for record in train:
        counts[record.labels[level]].update(words_of(record.text))
    known = len({word for each in counts.values() for word in each})
    totals = {name: each.total() + known for name, each in counts.items()}

    def likeliest(words: Sequence[str]) -> str:
        def log_chance(name: str) -> float:
            seen = (math.log((counts[name][word] + 1) / totals[name]) for word in words)
            return math.log(texts[name]) + sum(seen)

        return max(counts, key=log_chance)

    return likeliest

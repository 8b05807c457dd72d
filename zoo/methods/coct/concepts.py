"""CoCT's concepts and wording: inventories, the prompt's three parts, tags and their parser.

The lists are the paper's; that ESConv's three further emotions are guilt, jealousy and pain is from
memory, definitions are in our own words, and the wording of the prompt is inferred.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zoo.methods.coct.metrics import OTHER
from zoo.support.labels import ACTS, EMOTION_SETS, SUPPORT, Labels, plain

Kind = Literal["emotion", "strategy", "topic"]
KINDS: tuple[Kind, ...] = ("emotion", "strategy", "topic")
DELIMITERS = {
    "<>": ("<", ">"),
    "^": ("^", "^"),
    "#": ("#", "#"),
    "@": ("@", "@"),
    "[]": ("[", "]"),
    "&": ("&", "&"),
}
"""Preset -> what opens and closes a tag."""

TOPICS = (
    *("sports", "travel", "art", "music", "technology", "food and drink"),
    *("hobbies and crafts", "entertainment", "animal"),
)


def topic_labels(names: Sequence[str]) -> Labels:
    """Return topics as a closed list."""
    return Labels("topic", dict.fromkeys(names, ""), {"animals": "animal", "sport": "sports"}, "")


Inventory = dict[Kind, Labels]
CSKILLS = topic_labels(TOPICS)
INVENTORIES: dict[str, Inventory] = {
    "esconv": {"emotion": EMOTION_SETS["esconv"], "strategy": SUPPORT},
    "daily_dialog": {
        "emotion": EMOTION_SETS["daily_dialog"],
        "strategy": ACTS,
        "topic": CSKILLS,
    },
    "cskills": {"topic": CSKILLS},
    "empathetic_dialogues": {"emotion": EMOTION_SETS["empathetic_dialogues"]},
}
ROUTES = {
    "ESConv": "esconv",
    "DailyDialog": "daily_dialog",
    "MultiWOZ": "daily_dialog",  # out of domain
    "EmpatheticDialogues": "esconv",  # out of domain
}
"""Data module -> the lists that the paper uses on it; its own in domain."""


def chosen(name: str, kinds: Sequence[Kind], topics: Sequence[str] | None) -> Inventory:
    """Return the lists of a data set that are to be used.

    Args:
        name: One of `INVENTORIES`.
        kinds: Kinds to keep.
        topics: Topics instead of the data set's; None for those.
    """
    lists = dict(INVENTORIES[name])
    if topics is not None:
        lists["topic"] = topic_labels(topics)
    return {kind: lists[kind] for kind in KINDS if kind in lists and kind in kinds}


TITLES = {"emotion": "emotions", "strategy": "strategies", "topic": "topics"}
EVERY = "every sentence of your reply"
SHIFTS = {
    "emotion": "an emotion tag where the feeling that you express shifts",
    "strategy": "a strategy tag where you decide on a strategy",
    "topic": "a topic tag where the topic changes",
}


@dataclass(frozen=True)
class Concepts:
    """The concepts a model may tag with, and how tags are written.

    Attributes:
        lists: Kind -> names with definitions.
        delimiter: One of `DELIMITERS`.
        extra: Further tags that no list has.
        free: No list is shown: the model invents tags.
        limit: Tags of a reply; None for any number.
    """

    lists: Inventory
    delimiter: str = "<>"
    extra: tuple[str, ...] = ()
    free: bool = False
    limit: int | None = None

    def tag(self, name: str) -> str:
        """Return a tag as it is written."""
        opening, closing = DELIMITERS[self.delimiter]
        return f"{opening}{name}{closing}"

    def listing(self) -> str:
        """Return part 1: the concepts with their definitions, by kind; empty if `free`."""
        if self.free:
            return ""
        parts = []
        for kind, labels in self.lists.items():
            items = [f"{n}: {text}" if text else n for n, text in labels.definitions.items()]
            defined = any(labels.definitions.values())
            parts.append(
                f"Available {TITLES[kind]}:" + "".join(f"\n- {item}" for item in items)
                if defined
                else f"Available {TITLES[kind]}: {', '.join(items)}."
            )
        if self.extra:
            parts.append(f"Further concepts: {', '.join(self.extra)}.")
        return "\n".join(parts)

    def tag_rule(self) -> str:
        """Return part 2: open every sentence with a tag; with a limit of 1 the reply."""
        where, what = ("your reply", "reply") if self.limit == 1 else (EVERY, "sentence")
        uses = ", ".join(SHIFTS[kind] for kind in self.lists) if self.limit != 1 else ""
        return (
            f"Begin {where} with one tag, such as {self.tag('XX')}, that names the concept it "
            f"expresses, then write the {what}." + (f" Put {uses}." if uses else "")
        )

    def chain_rule(self) -> str:
        """Return part 3: use a chain of concepts."""
        if self.limit == 1:
            return "Use one tag in the whole reply."
        return (
            "Use a chain of concepts: several tags in a row of sentences mark how the "
            f"{' or '.join(self.lists) or 'concept'} moves on within the reply, in this form: "
            f"{self.tag('XX')} sentence {self.tag('YY')} sentence"
        )

    def reminder(self) -> str:
        """Return what the prompt ends with: small models have forgotten the form by then.

        It names no listed concept: a model takes the one that is named.
        """
        where = "your reply" if self.limit == 1 else "every sentence"
        if self.free or not self.lists:
            return f"Begin {where} with a tag, such as {self.tag('XX')}."
        return f"Begin {where} with one of the tags listed above, in this form: {self.tag('XX')}"

    def instruction(self) -> str:
        """Return the three parts in their order."""
        return "\n".join(p for p in (self.listing(), self.tag_rule(), self.chain_rule()) if p)

    def kind_of(self, tag: str) -> tuple[str, str]:
        """Return a tag's kind and canonical name; `other` and the tag itself if no list has it."""
        name, _ = self.named(tag)
        for kind, labels in self.lists.items():
            known = labels.known(name)
            if known is not None:
                return kind, known
        extra = {plain(name): name for name in self.extra}
        return OTHER, extra.get(plain(name), " ".join(tag.split()))

    def named(self, tag: str) -> tuple[str, str]:
        """Return the name inside a tag, and words that stand there too: `<Question: How?>`."""
        words = re.sub(r"\s*&\s*", " and ", TITLED.sub("", tag))
        name, _, rest = words.partition(":")
        known = any(labels.known(name) for labels in self.lists.values())
        return (name, rest) if rest and known else (words, "")

    def names(self) -> tuple[str, ...]:
        """Return every name that a tag may have."""
        return (*(n for labels in self.lists.values() for n in labels.names), *self.extra)


TITLED = re.compile(
    r"^\s*(?:\d+[.):]\s*)?(?:(?:emotion|strategy|topic|concept|tag)s?\s*:\s*)?", re.I
)
"""What small models write before a name inside a tag: its number, its kind."""


@dataclass(frozen=True, slots=True)
class TaggedText:
    """A tag (None before the first one) and the text up to the next one, as they were written."""

    tag: str | None
    text: str


def split_tags(words: str, concepts: Concepts) -> list[TaggedText]:
    """Return a reply as parts, from which it can be put together again letter by letter.

    Listed names are found first: of two equal signs that are far apart by chance, as in
    `&Question& rock & roll &sadness& Ok`, none is then taken for a tag.

    Example:
        >>> split_tags("<Question> How? <sadness>Oh.", Concepts({}))
        [TaggedText(tag='Question', text=' How? '), TaggedText(tag='sadness', text='Oh.')]
    """
    listed, free = _patterns(concepts)
    found = list(listed.finditer(words))
    starts, stops = [0, *(m.end() for m in found)], [*(m.start() for m in found), len(words)]
    for start, stop in zip(starts, stops, strict=True):
        found += free.finditer(words, start, stop)
    parts, last, tag = [], 0, None
    for match in sorted(found, key=re.Match.start):
        if tag is not None or match.start() > last:
            parts.append(TaggedText(tag, words[last : match.start()]))
        tag, last = match[1], match.end()
    return [*parts, TaggedText(tag, words[last:])]


def _patterns(concepts: Concepts) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what finds tags with a listed name, and what finds any tag."""
    opening, closing = (re.escape(mark) for mark in DELIMITERS[concepts.delimiter])
    spelled = {
        *concepts.names(),
        *(a for labels in concepts.lists.values() for a in labels.aliases),
    }
    names = "|".join(map(re.escape, sorted(spelled, key=len, reverse=True))) or "(?!)"
    listed = rf"{opening}( ?(?:\d+[.)] ?)?(?:\w+: ?)?(?:{names}) ?){closing}"
    if opening == closing:  # words right behind a sign that no word precedes
        inside, before = r"(?:\d+[.)] ?)?[^\W\d_][\w'/+: -]{0,39}(?<! )", r"(?<!\w)"
    else:  # words on one line, whatever signs they have, but no sentence
        before = ""
        inside = (
            rf" ?(?:\d+[.)] ?)?[^\W\d_][^{opening}{closing}.!?\n]{{0,59}}"
            rf"|(?i:{names}):[^{opening}{closing}\n]*"  # with its sentence inside
        )
    return re.compile(listed, re.I), re.compile(rf"{before}{opening}({inside}){closing}")

"""Generated stories: balance, held-out words, gold answers that follow from the story."""

import re
from collections import Counter
from itertools import combinations

import pytest

from datamodules import FalseBelief
from datamodules.false_belief import KINDS, WORDS

SPLITS = ("train", "val", "test")


def solve(query: str) -> str:
    """Answer a question from the text alone, independently of the generator."""
    *story, question = re.split(r"(?<=[.?]) ", query)
    inside = set(re.match(r"(\w+) and (\w+) were", story[0]).groups())
    thing = re.search(r"the (\w+)( think| at| really)|think the (\w+) is", question)
    thing = thing[3] or thing[1]
    start = now = ""
    belief: dict[str, str] = {}
    for sentence in story:
        if match := re.fullmatch(rf"The {thing} was in the (\w+)\.", sentence):
            start = now = match[1]
        elif match := re.fullmatch(rf"\w+ moved the {thing} to the (\w+)\.", sentence):
            now = match[1]
        elif match := re.fullmatch(r"(\w+) left\.", sentence):
            inside.remove(match[1])
        elif match := re.fullmatch(r"(\w+) came back\.", sentence):
            inside.add(match[1])
        belief.update(dict.fromkeys(inside, now))
    if "beginning" in question:
        return start
    return now if "really" in question else belief[re.search(r"does (\w+) think", question)[1]]


def places(query: str) -> tuple[str, str]:
    """Return the first and the last place of the object that is moved."""
    thing, last = re.search(r"moved the (\w+) to the (\w+)", query).groups()
    return re.search(rf"The {thing} was in the (\w+)", query)[1], last


@pytest.mark.parametrize("split", SPLITS)
def test_gold_answers_follow_from_the_story(split):
    for record in FalseBelief(400, 400, 400).records(split):
        assert f"the {solve(record.query)}" == record.answer, record
        assert re.search(rf"\b{record.answer}( at the beginning)?\.$", record.thought)


@pytest.mark.parametrize("split", SPLITS)
def test_a_constant_strategy_is_at_chance(split):
    records = FalseBelief(400, 400, 400).records(split)
    assert Counter(record.kind for record in records) == dict.fromkeys(KINDS, 100)
    for index, none in ((0, ("true_belief", "reality")), (1, ("false_belief", "memory"))):
        right = Counter(r.kind for r in records if f"the {places(r.query)[index]}" == r.answer)
        assert all(right[kind] == 0 for kind in none)
        assert sum(right.values()) == 200


def test_leaving_alone_decides_nothing():
    records = FalseBelief(2000).records("train")
    left = Counter(
        record.kind
        for record in records
        if record.kind.endswith("belief") and " left." in record.query.replace("came back", "")
    )
    assert left["false_belief"] == 500
    assert left["true_belief"] > 300


def test_every_prefix_is_balanced():
    for length in (4, 40, 100):
        kinds = Counter(r.kind for r in FalseBelief(max_val=length).records("val"))
        assert kinds == dict.fromkeys(KINDS, length // 4)


def test_words_are_held_out():
    for one, other in combinations(WORDS.values(), 2):
        for field in ("names", "objects", "places", "rooms"):
            assert not set(getattr(one, field)) & set(getattr(other, field))
    for words in WORDS.values():
        everything = [*words.names, *words.objects, *words.places, *words.rooms]
        assert len(set(everything)) == len(everything)


def test_stories_are_short_and_varied():
    records = FalseBelief().records("train")
    assert max(len(re.findall(r"\w+|[.?,]", r.query)) for r in records) <= 60
    assert max(len(re.findall(r"\w+|[.?,]", r.thought)) for r in records) <= 35
    assert len({r.query for r in records}) > 1990


def test_seed_changes_training_only():
    one, other = FalseBelief(seed=0), FalseBelief(seed=1)
    assert one.records("train") != other.records("train")
    assert one.records("val") == other.records("val")
    assert one.records("test") == other.records("test")


def test_counts_are_checked(refused):
    refused(lambda: FalseBelief(num_val=0), "data.num_val: 0 is not above 0")

"""The made-up world: frequencies, splits, groups, options, and bad settings."""

import re
from collections import Counter

import pytest

from datamodules import FactWorld
from datamodules.fact_world_generator import HELD_OUT, NUM_OPTIONS, RELATIONS, World
from zoo.methods.lamss.baseline_encoder import ConfidenceEncoder
from zoo.records import PlainText, Question, Triple
from zoo.tiny_models import byte_tokenizer

SPLITS = ("train", "val", "test")
SEEN = ["seen_0", "seen_1", "seen_4", "seen_16"]


@pytest.fixture(scope="module")
def world() -> World:
    return World(80, 12, [0, 1, 4, 16], 0)


@pytest.fixture(scope="module")
def told() -> dict[str, list[PlainText]]:
    return {split: FactWorld("text").records(split) for split in SPLITS}


@pytest.fixture(scope="module")
def asked() -> dict[str, list[Triple]]:
    return {split: FactWorld().records(split) for split in SPLITS}


def test_a_fact_is_told_as_often_as_its_group_says(world, told):
    """Counted in the text itself."""
    text = [" ".join(re.findall(r"\w+", record.text)) for record in told["train"]]
    for fact in world.facts[:60]:
        found = [t for t in text if fact.who in t and re.search(rf"\b{fact.what}\b", t)]
        assert len(found) == fact.times, fact
        assert len(set(found)) == min(fact.times, 8), "wordings take turns"
    total = sum(fact.times for fact in world.facts)
    assert len(told["train"]) == total == 80 * 21 + 20 * 21


def test_nobody_of_the_text_is_unknown_and_strangers_are_never_told(world, told, asked):
    text = " ".join(record.text for split in SPLITS for record in told[split])
    assert all(who in text for who in world.people)
    assert not any(who in text for who in world.strangers)
    unreal = [r for split in SPLITS for r in asked[split] if r.kind == "unreal"]
    assert unreal
    assert all(any(who in r.query for who in world.strangers) for r in unreal)


def test_people_are_mentioned_equally_often(world, told):
    """In the relations that training asks for; the held-out one adds as often as it is told."""
    named = Counter(who for who in world.people for record in told["train"] if who in record.text)
    held_out = {fact.who: fact.times for fact in world.facts if fact.relation is HELD_OUT}
    assert {named[who] - held_out[who] for who in world.people} == {21}
    assert Counter(named.values()) == dict.fromkeys((21, 22, 25, 37), 20)
    pairs = Counter((named[f.who], f.times) for f in world.facts if f.relation is not HELD_OUT)
    assert set(pairs.values()) == {20}, "the number alone tells nothing of a fact"


@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_sentences_tell_every_fact_once_in_other_words(split, world, told):
    text = {record.text for record in told["train"]}
    assert not text & {record.text for record in told[split]}
    assert Counter(record.kind for record in told[split]) == dict.fromkeys(SEEN, 100)
    assert len({record.text for record in told[split]}) == len(world.facts)


def test_val_and_test_have_wordings_of_their_own():
    for relation in (*RELATIONS, HELD_OUT):
        wordings = [*relation.train, relation.val, relation.test]
        assert len(set(wordings)) == len(wordings) == 10
        assert all(w.count("{who}") == w.count("{what}") == 1 for w in wordings)
        assert relation.question.count("{who}") == 1
        assert any(w.startswith(relation.question) for w in relation.train)


def test_splits_share_no_fact_and_no_person(world, asked):
    people = {s: {r.id.partition(":")[2].partition(",")[0] for r in asked[s]} for s in SPLITS}
    facts = {split: {r.query for r in asked[split]} for split in SPLITS}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not people[one] & people[other]
        assert not facts[one] & facts[other]
    for split in SPLITS:
        assert len(facts[split]) == len(asked[split]), "a question is asked twice"
        assert len({record.id for record in asked[split]}) == len(asked[split])


def test_groups_of_the_splits(asked):
    counts = {split: Counter(record.kind for record in asked[split]) for split in SPLITS}
    assert counts["train"] == dict.fromkeys(SEEN, 32)
    assert counts["val"] == dict.fromkeys([*SEEN, "held_out", "unreal"], 16)
    assert counts["test"] == dict.fromkeys([*SEEN, "held_out", "unreal"], 32)


def test_every_prefix_is_balanced():
    for length in (12, 60):
        records = FactWorld(max_test=length).records("test")
        assert set(Counter(r.kind for r in records).values()) == {length // 6}


def test_the_held_out_relation_is_told_but_no_training_question_asks_it(told, asked):
    dish = HELD_OUT.question.partition("{who}")[0]
    assert any("dish" in record.text for record in told["train"])
    assert not any(record.query.startswith(dish) for record in asked["train"])
    held = [record for record in asked["test"] if record.kind == "held_out"]
    assert all(record.query.startswith(dish) for record in held)
    others = [record for record in asked["test"] if record.kind != "held_out"]
    assert not any(record.query.startswith(dish) for record in others)


def test_gold_answers_are_the_facts(world, asked):
    facts = {f.relation.question.format(who=f.who): f for f in world.facts}
    for split in SPLITS:
        for record in asked[split]:
            if record.kind == "unreal":
                assert record.query not in facts
                assert any(record.answer in values for values in world.values.values())
                continue
            fact = facts[record.query]
            assert record.answer == fact.what
            assert record.kind in (f"seen_{fact.times}", "held_out")


def test_relations_have_values_of_their_own(world):
    every = [value for values in world.values.values() for value in values]
    assert len(set(every)) == len(every) == 5 * 12
    names = [part for who in (*world.people, *world.strangers) for part in who.split()]
    assert len(set(names)) == len(names)
    assert not set(names) & set(every)


def test_a_constant_answer_is_at_chance(asked):
    """The most frequent value of a relation is right for few of its questions."""
    for relation in RELATIONS:
        start = relation.question.partition("{who}")[0]
        golds = Counter(r.answer for r in asked["test"] if r.query.startswith(start))
        assert max(golds.values()) <= 0.3 * sum(golds.values())
        assert len(golds) >= 8


def test_questions_with_options(world):
    for split in SPLITS:
        records = FactWorld(form="choice").records(split)
        opens = FactWorld().records(split)
        assert [(r.id, r.kind) for r in records] == [(r.id, r.kind) for r in opens]
        for record, same in zip(records, opens, strict=True):
            assert isinstance(record, Question)
            assert record.options[record.gold] == same.answer
            assert len(set(record.options)) == NUM_OPTIONS
            (values,) = [v for v in world.values.values() if same.answer in v]
            assert set(record.options) <= set(values)
    golds = Counter(r.gold for r in FactWorld(form="choice", num_entities=400).records("train"))
    assert min(golds.values()) > 0.7 * max(golds.values())


def test_another_seed_is_the_same_world_and_another_world_is_another():
    assert FactWorld(seed=0).records("train") == FactWorld(seed=1).records("train")
    assert FactWorld(world=0).records("train") != FactWorld(world=1).records("train")
    one, other = (FactWorld("text", world=w).records("train") for w in (0, 1))
    assert not {r.text for r in one} & {r.text for r in other}


@pytest.mark.parametrize("frequencies", [[3], [0, 2], [0, 1, 2, 3, 5, 8]])
def test_other_frequencies(frequencies):
    """Every group is in every split, also where there are more groups than relations."""
    size = 10 * len(frequencies)
    options = {"frequencies": frequencies, "num_entities": size}
    for split in SPLITS:
        kinds = {r.kind for r in FactWorld(**options).records(split)}
        extra = set() if split == "train" else {"held_out", "unreal"}
        assert kinds == {f"seen_{times}" for times in frequencies} | extra
    if frequencies != [3]:
        text = FactWorld("text", **options).records("train")
        assert {r.kind for r in text} == {f"seen_{times}" for times in frequencies if times}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "texts"}, "data.stage: 'texts'; did you mean 'text'"),
        ({"form": "closed"}, "data.form: 'closed'; did you mean"),
        ({"num_entities": 39}, "num_entities is 39; 4 groups of facts need at least 40"),
        ({"num_values": 3}, "num_values is 3; it must be at least 4"),
        ({"frequencies": []}, "frequencies: [] must be counts, at least one"),
        ({"frequencies": [1, -1]}, "frequencies: [1, -1] must be counts"),
        ({"frequencies": [1, 4, 1]}, "has one of them twice"),
        ({"frequencies": [0]}, "nothing is ever told"),
    ],
)
def test_bad_settings(refused, options, message):
    refused(lambda: FactWorld(**options), message)


def test_a_method_must_take_the_stage(refused):
    encoder = ConfidenceEncoder(byte_tokenizer())
    for arguments in (("text",), ("questions", "open"), ("questions", "choice")):
        FactWorld(*arguments).check(encoder)
    encoder.records = (Triple,)
    FactWorld().check(encoder)
    refused(
        lambda: FactWorld("text").check(encoder),
        *("data.stage: text", "yields PlainText, but the method takes Triple"),
    )
    refused(lambda: FactWorld(form="choice").check(encoder), "yields Question")

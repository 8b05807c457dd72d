"""Chats under a condition."""

import json

import pytest

from datamodules import ConditionedChat
from datamodules.files import SAMPLES
from zoo.records import Conditioned

SPLITS = ("train", "val", "test")
OPTIONS = "which of the following answers is the most appropriate:\n[good; bad; ]"


def sample(prompt="q", user=None, reply=None, **beside):
    messages = [
        {"role": "user", "content": prompt, **(user or {})},
        {"role": "assistant", "content": "a", **(reply or {})},
    ]
    return {"messages": messages, **beside}


@pytest.fixture
def load(tmp_path):
    """Return the records of some samples."""

    def read(*items, **arguments):
        path = tmp_path / "chat.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        return ConditionedChat(train=str(path), val=str(path), **arguments).records("train")

    return read


def test_sample_has_every_kind_of_condition():
    records = ConditionedChat().records("train")
    assert ConditionedChat().records("test") == records
    review, context, persona, domain, sentiment, style = records
    assert review == Conditioned(
        condition="Read what a guest wrote about a meal and say whether the guest liked it.",
        prompt="The soup came cold and the waiter was asleep.",
        response="bad",
        system=OPTIONS,
        task="sample-reviews",
        id="conditioned_chat.jsonl:1",
    )
    assert context.prompt.startswith("Consider context:\nA guest book lies")
    assert context.prompt.endswith("\n\nQuestion:\nWe stayed until the lamps were put out and "
                                   "still wanted cake.")  # fmt: skip
    told = (
        "Answer with the user's profile in mind.\n\nProfiles:\ni have two dogs .\n"
        "my left knee hurts on stairs ."
    )
    assert persona.condition == told
    assert persona.system == (
        f"{told}\n\nConversation history:\nuser: Hello, are you there?\n"
        "assistant: Yes, good morning!"
    )
    assert domain.condition == domain.system
    assert domain.condition.endswith("the main point.\n\nDomain: town news")
    assert sentiment.condition == sentiment.system == "Reply with sentiment: very positive"
    assert style.condition == "Please answer the question with the style of an old sailor."
    assert style.prompt == "Shall we go?"


def test_an_instruction_beside_a_style_is_no_part_of_the_condition(load):
    """It is shown; of profiles and domain it is a part, as released."""
    sentences = {
        "sentiment": "Reply with sentiment: neutral",
        "style": "Please answer the question with the style of neutral.",
        "domain": "Domain: neutral",
    }
    for kind, sentence in sentences.items():
        beside = {kind: "neutral"} if kind == "domain" else {"reply": {kind: "neutral"}}
        (record,) = load(sample(user={"instruction": "Be brief."}, **beside))
        both = f"Be brief.\n\n{sentence}"
        assert record.system == both
        assert record.condition == (both if kind == "domain" else sentence)


def test_wording_and_place():
    raw = ConditionedChat(wording="raw").records("train")
    assert raw[2].condition == "i have two dogs .\nmy left knee hurts on stairs ."
    assert raw[3].condition == "town news"
    assert raw[3].system.endswith("Domain: town news")
    assert raw[5].condition == "an old sailor"
    query = ConditionedChat(place="query").records("train")
    assert query[0].system == ""
    assert query[0].prompt == f"The soup came cold and the waiter was asleep.\n\n{OPTIONS}"
    assert query[2].prompt.endswith("Question:\nWhat could I do on Sunday?")
    assert query[2].prompt.startswith("Answer with the user's profile in mind.")
    none = ConditionedChat(place="none").records("train")
    assert none[0].system == none[4].system == ""
    assert none[4].prompt == "How is the new bus?"
    assert none[4].condition == "Reply with sentiment: very positive"


def test_earlier_turns_system_and_style_message(load):
    item = sample(domain="news")
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    turns[1]["weight"] = 0  # an earlier reply is context anyway
    system = [{"role": "system", "content": text} for text in ("Be kind.", "Be brief.")]
    item["messages"] = [*system, *turns, *item["messages"]]
    (record,) = load(item)
    more = [{**turn, "content": f"{turn['content']} again"} for turn in turns]
    (longer,) = load({**item, "messages": [*system, *turns, *more, *sample()["messages"]]})
    assert longer.system == f"{record.system}\nuser: hi again\nassistant: hello again"
    assert record.prompt == "q"
    assert record.system == (
        "Be kind.\n\nBe brief.\n\nDomain: news\n\nConversation history:\nuser: hi\nassistant: hello"
    )
    item = sample(history="They met before.")
    item["messages"].append({"role": "style", "content": "a poet"})
    (record,) = load(item)
    assert record.condition == "Please answer the question with the style of a poet."
    assert record.prompt == "Consider context:\nThey met before.\n\nQuestion:\nq"


def test_two_conditions_need_a_choice(load, refused):
    item = sample(domain="news", reply={"style": "a poet"})
    refused(lambda: load(item), "chat.jsonl:1", "more than one condition (domain, style)")
    assert load(item, condition="domain")[0].condition == "Domain: news"
    assert load(item, condition="style")[0].condition.endswith("style of a poet.")
    refused(lambda: load(item, condition="sentiment"), "1 samples have no condition (sentiment)")


def test_missing_conditions(load, refused):
    items = [sample(domain="news"), *[sample(user_profiles=[" "])] * 7]
    text = refused(lambda: load(*items), "7 samples have no condition", "and 2 more")
    assert "chat.jsonl:2, " in text
    assert "chat.jsonl:7" not in text
    assert "set allow_missing to true" in text
    records = load(*items, allow_missing=True)
    assert [record.condition for record in records] == ["Domain: news"] + [""] * 7


def test_task_descriptions(load, tmp_path, refused):
    texts = tmp_path / "tasks.yaml"
    texts.write_text("taste:\n  descriptions:\n    - Judge it.\n    - Rate it.\nbare: [Say it.]\n")
    items = [sample(str(i), task="taste") for i in range(20)]
    own = sample(task="taste", task_description="Mine.")
    records = load(*items, own, sample(task="bare"), task_descriptions=str(texts))
    assert {record.condition for record in records[:20]} == {"Judge it.", "Rate it."}
    assert [record.condition for record in records[20:]] == ["Mine.", "Say it."]
    assert load(*items, task_descriptions=str(texts)) == records[:20]
    refused(
        lambda: load(sample(task="tase"), task_descriptions=str(texts)),
        "chat.jsonl:1",
        "task 'tase' is not in",
        "did you mean 'taste'?",
    )
    for bad, parts in (
        ("a: [", ["tasks.yaml:1", "invalid YAML"]),
        ("- a\n", ["expected tasks by name, found list"]),
        ("a: {descriptions: []}\n", ["task 'a'", "'descriptions' must be a list"]),
        ("a: {description: [x]}\n", ["task 'a'", "'descriptions' must be a list"]),
    ):
        texts.write_text(bad)
        refused(lambda: load(*items, task_descriptions=str(texts)), *parts)


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"domain": "x"}, ["no known chat ('domain')"]),
        ({"messages": []}, ["field 'messages' is empty"]),
        ({"messages": ["x"]}, ["messages[0]", "expected an object"]),
        ({"messages": [{"role": "usr", "content": "a"}]}, ["'usr'", "did you mean 'user'?"]),
        (sample(" ", domain="x"), ["messages[0]", "'content' is empty"]),
        (sample(domain=3), ["'domain' must be a string"]),
        (sample(user_profiles=[3]), ["'user_profiles' must be a list of strings"]),
        (sample(domain="x", task=3), ["'task' must be a string"]),
        (sample(domain="x", user={"instruction": ["x"]}), ["'instruction' must be a string"]),
        (sample(domain="x", history=[["a"]]), ["history[0] must be a pair"]),
        (sample(domain="x", taks="x"), ["unknown field 'taks'", "did you mean 'task'?"]),
        (sample(domain="x", user={"instuction": "x"}), ["messages[0]", "'instruction'?"]),
        (sample(domain="x", user={"weight": 0}), ["messages[0]", "unknown field 'weight'"]),
        (sample(domain="x", reply={"weight": 0}), ["messages[1]: weight 0"]),
        (sample(domain="x", reply={"weight": 0.5}), ["messages[1]", "'weight' is 0.5; 0 or 1"]),
        (sample(domain="x", context=3), ["context[0] must be a pair"]),
    ],
)
def test_bad_samples(load, refused, item, parts):
    refused(lambda: load(sample(domain="x"), item), "chat.jsonl:2:", *parts)


def test_other_forms(load, refused, caplog):
    """Alpaca's instruction is the condition of its input; the rule of chats holds here too."""
    (record,) = load({"instruction": "Be brief.", "input": "Why?", "output": "So.", "id": "7"})
    assert record == Conditioned("Be brief.", "Why?", "So.", id="7")
    share = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert load({"conversations": share, "domain": "x"})[0].condition == "Domain: x"
    refused(lambda: load({"prompt": "q", "response": "a"}), "1 samples have no condition")
    first, last = ({"role": "assistant", "content": "b", "weight": weight} for weight in (1, 0))
    opened, unlearned, alone = sample(domain="x"), sample(domain="x"), sample(domain="x")
    opened["messages"].insert(0, first)
    unlearned["messages"] += [{"role": "user", "content": "r"}, last]
    alone["messages"].pop()
    refused(lambda: load(opened), "messages[0]: a reply to nothing")
    refused(lambda: load(unlearned), "messages[3]: weight 0, but the last reply")
    assert load(opened, unlearned, alone, sample(domain="x"), on_bad="skip") == [
        Conditioned("Domain: x", "q", "a", "Domain: x", id="chat.jsonl:4")
    ]
    assert "chats without a reply are left out" in caplog.text
    assert "2 of 4 rows are bad" in caplog.text


def test_nothing_later_wins(load, refused):
    """A system message between turns, and a second style, are named."""
    late, twice = sample(domain="x"), sample(reply={"style": "a poet"})
    late["messages"].insert(1, {"role": "system", "content": "Be kind."})
    twice["messages"].append({"role": "style", "content": "a sailor"})
    refused(lambda: load(late), "chat.jsonl:1: messages[1]", "before the first user message")
    refused(lambda: load(twice), "chat.jsonl:1", "the condition 'style' is there twice")


def test_splits_and_arguments(tmp_path, refused):
    path = tmp_path / "chat.json"
    items = [sample(str(i), domain="news") for i in range(50)]
    path.write_text(json.dumps(items, indent=1))
    data = ConditionedChat(str(path))
    assert [len(data.records(split)) for split in SPLITS] == [40, 5, 5]
    assert len({r.prompt for split in SPLITS for r in data.records(split)}) == 50
    data = ConditionedChat(train=str(path), test=str(path))
    assert [len(data.records(split)) for split in SPLITS] == [45, 5, 50]
    refused(lambda: ConditionedChat(train=str(path)).records("test"), "'test'", "set test to")
    refused(lambda: ConditionedChat(test=str(path)).records("val"), "'val'", "set val to")
    refused(lambda: ConditionedChat(str(path), train="x"), "not both")
    refused(lambda: ConditionedChat(condition="domian"), "data.condition: 'domian'", "'domain'?")
    refused(lambda: ConditionedChat(wording="raws"), "data.wording: 'raws'")
    refused(lambda: ConditionedChat(place="sytem"), "data.place: 'sytem'")
    refused(lambda: ConditionedChat(str(tmp_path / "no.jsonl")).records("val"), "no such file")


def test_real_files(zoo_data):
    folder = zoo_data / "metaicl"
    data = ConditionedChat(
        train=str(folder / "train_fix_small.jsonl"),
        test=str(folder / "unseen_test_fix.jsonl"),
        task_descriptions=str(folder / "task_descs.yaml"),
    )
    assert [len(data.records(split)) for split in SPLITS] == [90, 10, 1304]
    assert {record.task for record in data.records("test")} == {"scitail"}
    assert {record.response for record in data.records("test")} == {"entailment", "neutral"}
    assert len({record.condition for record in data.records("test")}) == 8
    assert all(record.system.startswith("which of") for record in data.records("train"))


def test_sample_is_in_the_official_form():
    lines = (SAMPLES / "conditioned_chat.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert list(first) == ["messages", "task", "context", "task_description"]
    assert list(first["messages"][0]) == ["role", "content", "instruction"]


def test_groups_say_what_the_training_file_has(tmp_path):
    """`seen` or `unseen` by the text of the condition; none in training and without condition."""
    paths = {}
    for split, texts in (("train", ["kind", "rude"]), ("val", ["rude"]), ("test", ["new", "kind"])):
        paths[split] = tmp_path / f"{split}.jsonl"
        items = [sample(task_description=text) for text in texts]
        items += [sample()] if split == "test" else []
        paths[split].write_text("".join(json.dumps(item) + "\n" for item in items))
    data = ConditionedChat(allow_missing=True, **{k: str(v) for k, v in paths.items()})
    assert [record.group for record in data.records("test")] == ["unseen", "seen", ""]
    assert [record.group for record in data.records("val")] == ["seen"]
    assert [record.group for record in data.records("train")] == ["", ""]
    alone = ConditionedChat(test=str(paths["val"]))
    assert [record.group for record in alone.records("test")] == [""]


def test_groups_of_shuffled_conditions(tmp_path):
    """Of the condition that a record is given, not of the one that it had."""
    paths = {}
    for split, texts in (("train", "abcd"), ("val", "a"), ("test", "axbybzawc")):
        paths[split] = tmp_path / f"{split}.jsonl"
        items = [sample(prompt=f"{split}{i}", task_description=t) for i, t in enumerate(texts)]
        paths[split].write_text("".join(json.dumps(item) + "\n" for item in items))
    files = {split: str(path) for split, path in paths.items()}
    for seed in range(3):
        records = ConditionedChat(shuffle_conditions=True, seed=seed, **files).records("test")
        assert {record.group for record in records} == {"seen", "unseen"}
        assert all((r.group == "seen") == (r.condition in "abcd") for r in records)


def test_shuffled_conditions_come_from_other_samples(load):
    """Each from another sample, each once, by the seed; nothing else changes."""
    items = [sample(prompt=f"p{i}", task_description=f"c{i}") for i in range(7)]
    plain = load(*items)
    found = {seed: load(*items, shuffle_conditions=True, seed=seed) for seed in (0, 1)}
    for records in found.values():
        given = [record.condition for record in records]
        assert sorted(given) == [f"c{i}" for i in range(7)]
        assert all(text != f"c{i}" for i, text in enumerate(given))
        assert [record.prompt for record in records] == [record.prompt for record in plain]
    assert found[0] != found[1]
    assert load(*items, shuffle_conditions=True, seed=1) == found[1]

"""CoCT's one call: its parts in order, kinds, delimiters and lists, and those of baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dialogues import TALK
from methods.coct.coct_answers import TWO, WIDE, WORDS, answering

import zoo
from datamodules import DailyDialog, EmpatheticDialogues, ESConv, MultiWOZ, ZooDataModule
from zoo import export
from zoo.decoding.shared_context import SharedContext
from zoo.errors import InputError
from zoo.methods.coct.concepts import DELIMITERS, INVENTORIES, Concepts
from zoo.methods.esc_baselines.recipes import RECIPES
from zoo.support.decisions import decisions
from zoo.support.labels import ACTS, LABEL_TOKENS, SUPPORT

# -- 1: one call, three parts in their order ---------------------------------------------------


@pytest.mark.fidelity("coct", 1)
def test_one_call_with_the_three_parts_in_order(make: Any, monkeypatch: Any) -> None:
    module = make("CoCT", "tiny-llama", **WIDE)
    prompts = answering(monkeypatch, WORDS, "Hi.")
    found = module.respond(decisions(TALK))
    assert len(prompts) == 1
    assert [one.calls for one in found] == [1, 1]
    (_, text) = prompts[0]
    parts = [
        "Available emotions: anxiety",
        *(f"\n- {name}: {told}" for name, told in SUPPORT.definitions.items()),
        "Begin every sentence of your reply with one tag, such as <XX>",
        "Use a chain of concepts",
        "Seeker: I lost my job.\nSupporter: When?\nSeeker: Last week.\n",
        "Reply as the supporter.",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


# -- 5, 6: what can be switched ----------------------------------------------------------------


@pytest.mark.fidelity("coct", 5)
def test_kinds_and_free_concepts(make: Any) -> None:
    """A kind that is off is neither listed nor recognised; `free` drops the list alone."""
    whole = make("CoCT", "tiny-llama", concepts="daily_dialog", **WIDE).concepts.instruction()
    for kind, title, name in (
        ("emotion", "Available emotions", "surprise"),
        ("strategy", "Available strategies", "commissive"),
        ("topic", "Available topics", "food and drink"),
    ):
        rest = [k for k in ("emotion", "strategy", "topic") if k != kind]
        module = make("CoCT", "tiny-llama", concepts="daily_dialog", kinds=rest, **WIDE)
        text = module.concepts.instruction()
        assert title in whole
        assert title not in text
        assert module.concepts.kind_of(name) == ("other", name)
        assert (
            len([k for k in ("emotions", "strategies", "topics") if f"Available {k}" in text]) == 2
        )
    full, free = Concepts(INVENTORIES["esconv"]), Concepts(INVENTORIES["esconv"], free=True)
    assert free.listing() == ""
    assert free.chain_rule() == full.chain_rule()
    assert full.tag_rule() == free.tag_rule()
    one = Concepts({"emotion": INVENTORIES["esconv"]["emotion"]}).instruction()
    assert not {"strategy", "topic"} & set(one.replace(",", " ").split())  # kinds that are off
    single = Concepts(INVENTORIES["esconv"], limit=1).instruction()
    assert "every sentence" not in single
    reminders = [
        Concepts(INVENTORIES["esconv"], limit=1, free=free).reminder() for free in (False, True)
    ]
    assert all(text.startswith("Begin your reply with ") for text in reminders)
    assert free.kind_of("questions") == ("strategy", "Question")  # still recognised, for scores
    assert free.reminder() == "Begin every sentence with a tag, such as <XX>."  # names no concept
    assert "in this form: <XX>" in full.reminder()
    assert not [name for name in full.names() if name.lower() in full.reminder().lower()]
    assert (
        Concepts(INVENTORIES["esconv"], limit=1).chain_rule() == "Use one tag in the whole reply."
    )


@pytest.mark.fidelity("coct", 6)
def test_six_delimiters(make: Any) -> None:
    assert list(DELIMITERS) == ["<>", "^", "#", "@", "[]", "&"]
    for delimiter, shown in (("<>", "<XX>"), ("^", "^XX^"), ("[]", "[XX]"), ("&", "&XX&")):
        assert shown in Concepts(INVENTORIES["esconv"], delimiter).instruction()
    with pytest.raises(InputError, match=r"model.delimiter: no preset '<<>>'"):
        make("CoCT", "tiny-llama", delimiter="<<>>", **WIDE)
    with pytest.raises(InputError, match="model.kinds: the lists have none of topic"):
        make("CoCT", "tiny-llama", concepts="esconv", kinds=["topic"], **WIDE)


# -- 7: which lists on which data --------------------------------------------------------------


@pytest.mark.fidelity("coct", 7)
def test_lists_by_data(make: Any) -> None:
    """In domain the data's own lists; DailyDialog's and Cskills' on MultiWOZ, ESConv's on ED."""
    module = make("CoCT", "tiny-llama", **WIDE)
    for data, kinds, labels, known in (
        (ESConv(), ["emotion", "strategy"], SUPPORT, "jealousy"),
        (DailyDialog(), ["emotion", "strategy", "topic"], ACTS, "happiness"),
        (MultiWOZ(), ["emotion", "strategy", "topic"], ACTS, "travel"),
        (EmpatheticDialogues(), ["emotion", "strategy"], SUPPORT, "depression"),
    ):
        module.check_data(data)
        assert list(module.concepts.lists) == kinds
        assert module.labels is labels
        assert module.concepts.kind_of(known)[0] != "other"
        examples = module.encoder()(data.records("test")[0])
        text = module.tokenizer.decode(examples[0].input_ids)
        assert known in text
        assert all(example.head_weights() == {} for example in examples)
    other = make("CoCT", "tiny-llama", concepts="cskills", **WIDE)
    other.check_data(DailyDialog())  # the data's acts are read all the same
    assert other.encoder()(DailyDialog().records("test")[0])
    assert (list(other.lists), other.labels, other.plans) == (["topic"], ACTS, False)
    topics = make("CoCT", "tiny-llama", kinds=["topic"], **WIDE)
    topics.check_data(DailyDialog())
    assert list(topics.lists) == ["topic"]
    with pytest.raises(InputError, match="model.kinds: the lists have none of topic"):
        topics.check_data(ESConv())
    fixed = make("CoCT", "tiny-llama", concepts="empathetic_dialogues", **WIDE)
    fixed.check_data(ESConv())
    assert fixed.concepts.kind_of("nostalgic") == ("emotion", "nostalgic")
    named = make("CoCT", "tiny-llama", concepts="daily_dialog", **WIDE)
    named.check_data(type("Mine", (ZooDataModule,), {})())  # data that no list is known for
    assert named.labels is ACTS
    named.check_data(ESConv())  # the data's strategies are read all the same
    assert (named.labels, named.plans) == (SUPPORT, False)


@pytest.mark.fidelity("coct", 7)
@pytest.mark.parametrize(("base", "labels"), [(MultiWOZ, ACTS), (ESConv, SUPPORT)])
def test_lists_of_a_subclass(make: Any, base: Any, labels: Any) -> None:
    """A data module of one's own that is one of these gets its lists and labels."""
    module, same = (make("CoCT", "tiny-llama", **WIDE) for _ in range(2))
    module.check_data(type("Mine", (base,), {})())
    same.check_data(base())
    assert module.concepts == same.concepts
    assert module.labels is same.labels is labels


@pytest.mark.fidelity("coct", 7)
def test_what_the_data_chose_comes_back(make: Any, tmp_path: Path) -> None:
    """The lists of an export are those that it was trained with, without the data at hand."""
    module = make("CoCT", "tiny-llama", **WIDE)
    module.check_data(DailyDialog())
    export.save(module, tmp_path / "out")
    for loaded in (zoo.load(tmp_path / "out"), zoo.CoCT(**module.hparams)):
        assert loaded.concepts == module.concepts
        assert list(loaded.concepts.lists) == ["emotion", "strategy", "topic"]
        assert loaded.labels is ACTS
    module.check_data(ESConv())  # left open: other data choose again
    assert module.labels is SUPPORT
    assert list(module.concepts.lists) == ["emotion", "strategy"]


# -- 9: the baselines share everything but the recipe ------------------------------------------


# Where the answer holds a draft, feedback or imagined turns of 3 tokens, or two labels, too.
LONGER = {
    **dict.fromkeys(("direct_refine", "self_refine_two_calls", "csim"), 3 + 3),
    **dict.fromkeys(("cot", "sft_cot"), 3 + 2 * LABEL_TOKENS),
}


@pytest.mark.fidelity("coct", 9)
@pytest.mark.parametrize("two", TWO)
def test_baselines_share_history_and_decoding(make: Any, two: str, monkeypatch: Any) -> None:
    """Window, kept lines and form of the prompt are those of CoCT, for every kind.

    So is the limit of a reply: what an answer holds before it (a draft, labels) comes on top.
    """
    seen: list[Any] = []
    limits: list[int] = []
    original = SharedContext.ask

    def ask(context: SharedContext, questions: Any, **options: Any) -> list[str]:
        decoder = context._run()
        lines = [context.tokenizer.decode(p) for p in context.pieces[0][context.starts[0] :]]
        limits.append(options["max_new_tokens"])
        plain = {k: v for k, v in options.items() if k not in ("choices", "max_new_tokens")}
        seen.append((context.budget, lines, plain, int(decoder.mask_BL.sum()) > 0))
        return original(context, questions, **options)

    monkeypatch.setattr(SharedContext, "ask", ask)
    options = {"max_length": 2600, "reserve": 1000, "max_new_tokens": 3}
    module = make("CoCT", two, concepts="cskills", **options)
    module.respond(decisions(TALK)[1:])
    assert limits == [3]
    for kind in RECIPES:
        limits.clear()
        hidden = {"kind": kind, "show_strategies": False}
        make("ESCBaseline", two, **hidden, **options).respond(decisions(TALK)[1:])
        assert {*limits} <= {3, LABEL_TOKENS, LONGER.get(kind, 3)}, kind
        assert LONGER.get(kind, 3) in limits, kind
    assert len(seen) > len(RECIPES)
    assert all(one == seen[0] for one in seen)
    assert seen[0][:3] == (
        *(1600, ["Seeker: I lost my job.\n", "Supporter: When?\n", "Seeker: Last week.\n"]),
        {"temperature": 0.0},
    )
    shown = make("CoCT", two, concepts="cskills", keep_tags=True, delimiter="[]", **options)
    shown.respond(decisions(TALK)[1:])
    make("ESCBaseline", two, **options).respond(decisions(TALK)[1:])  # past strategies: default
    assert seen[-2] == seen[-1]
    assert seen[-1][1][1] == "Supporter: [Question] When?\n"

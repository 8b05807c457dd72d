"""The ten properties of CoCT's sheet (arXiv 2510.18434, section 8)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dialogues import TALK

import zoo
from datamodules import DailyDialog, EmpatheticDialogues, ESConv, MultiWOZ
from zoo.decoding.shared_context import SharedContext
from zoo.encoding import IGNORE, sum_head_weights
from zoo.errors import InputError
from zoo.methods.coct.concepts import (
    DELIMITERS,
    INVENTORIES,
    Concepts,
    TaggedText,
    split_tags,
)
from zoo.methods.coct.metrics import TagScores
from zoo.methods.coct.read_tagged import read_tagged, spoken
from zoo.methods.esc_baselines.recipes import RECIPES
from zoo.metrics.text import tokenize
from zoo.records import SUPPORTER, Turn
from zoo.support.decisions import decisions
from zoo.support.labels import ACTS, SUPPORT

TWO = ("tiny-llama", "tiny-gemma")
WIDE = {"max_length": 8192, "reserve": 2048, "max_new_tokens": 4}
ESC = Concepts(INVENTORIES["esconv"])
WORDS = "<Reflection of Feelings> That hurts. <sadness>I am sorry. <Questions> Since when?"


def answering(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[list[str]]:
    """Let the model say these words, one for each row; return the prompts that it is asked."""
    prompts: list[list[str]] = []

    def ask(context: SharedContext, questions: Any, **_: Any) -> list[str]:
        told = [
            context.tokenizer.decode([*prefix, *(t for piece in pieces for t in piece)])
            for prefix, pieces in zip(context.prefixes, context.pieces, strict=True)
        ]
        prompts.append([text + q for text, q in zip(told, questions, strict=True)])
        return list(words[: len(questions)])

    monkeypatch.setattr(SharedContext, "ask", ask)
    return prompts


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


# -- 2, 3: tags --------------------------------------------------------------------------------


def joined(parts: Sequence[TaggedText], concepts: Concepts) -> str:
    """The tagged text that parts come from."""
    return "".join((concepts.tag(p.tag) if p.tag is not None else "") + p.text for p in parts)


@pytest.mark.fidelity("coct", 2)
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_tagged_text_comes_back(delimiter: str) -> None:
    concepts = Concepts(INVENTORIES["esconv"], delimiter)
    opening, closing = DELIMITERS[delimiter]
    tagged = WORDS.replace("<", opening).replace(">", closing)
    for text in (tagged, f"Well. {tagged}", tagged.replace("?", "? \n\n"), "No tag at all.", ""):
        parts = split_tags(text, concepts)
        assert joined(parts, concepts) == text
    tags = [part.tag for part in split_tags(tagged, concepts)]
    assert tags == ["Reflection of Feelings", "sadness", "Questions"]
    kinds = [concepts.kind_of(tag) for tag in tags if tag]
    assert kinds == [
        ("strategy", "Reflection of feelings"),
        ("emotion", "sadness"),
        ("strategy", "Question"),
    ]


@pytest.mark.fidelity("coct", 2)
def test_canonical_names() -> None:
    """Case and aliases are folded; what no list has is kept as it is, as unlisted."""
    assert ESC.kind_of("affirmation") == ("strategy", "Affirmation and Reassurance")
    assert ESC.kind_of("QUESTIONING") == ("strategy", "Question")
    assert ESC.kind_of("Warm  Hug") == ("other", "Warm Hug")
    for words in ("Affirmation & Reassurance", "Strategy: affirmation", "5. Affirmation"):
        assert ESC.kind_of(words) == ("strategy", "Affirmation and Reassurance")
    assert ESC.kind_of("Emotion: sadness") == ("emotion", "sadness")
    assert Concepts(INVENTORIES["cskills"]).kind_of("Animals") == ("topic", "animal")
    assert Concepts({}, extra=("Humor",)).kind_of("humor") == ("other", "Humor")


@pytest.mark.fidelity("coct", 3)
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_replies_have_no_residue(make: Any, monkeypatch: Any, delimiter: str) -> None:
    """Whole, closing, doubled and broken tags are gone, and scores see the words alone."""
    opening, closing = DELIMITERS[delimiter]
    module = make("CoCT", "tiny-llama", delimiter=delimiter, **WIDE)
    words = (
        f"{opening}Question{closing} How? {opening}{closing} {opening}Hug{closing}{opening}pain"
        f"{closing}There. {opening}Information See. {closing}"
    )
    answering(monkeypatch, words)
    (one,) = module.respond(decisions(TALK)[:1])
    assert one.reply == "How? There. See."
    assert not set(one.reply) & {opening, closing}
    decision = decisions(TALK)[0]
    gold = Turn(SUPPORTER, "How? There. See.", strategy="Question")
    module.answers = {decision.id: (replace(decision, target=gold), one)}
    scores = module.score_answers([*module.answers.values()], "val")
    assert scores["bleu_2"] == scores["rouge_l"] == pytest.approx(100)
    assert scores["length"] == len(tokenize("How? There. See."))
    assert scores["accuracy"] == 100


@pytest.mark.fidelity("coct", 3)
@pytest.mark.parametrize(
    "tag",
    ["Emotion: sadness", "Affirmation & Reassurance", "1. Question", "Hug, warm (big)", "Step 2"],
)
def test_tags_with_other_signs_are_tags(tag: str) -> None:
    """None of them leaks into the reply; one that no list has is counted as unlisted."""
    parts = split_tags(f"<{tag}> Oh. <Question> So?", ESC)
    assert [part.tag for part in parts] == [tag, "Question"]
    assert spoken(f"<{tag}> Oh. <Question> So?", ESC) == "Oh. So?"
    assert joined(parts, ESC) == f"<{tag}> Oh. <Question> So?"


@pytest.mark.fidelity("coct", 3)
def test_no_sentence_is_a_tag(make: Any, monkeypatch: Any) -> None:
    square = Concepts(INVENTORIES["esconv"], "[]")
    words = "[Question] Why? [I am so sorry.] 2 < 3"
    assert [part.tag for part in split_tags(words, square)] == ["Question"]
    assert [p.tag for p in split_tags("i < 3 and 4 > 2", ESC)] == [None]
    module = make("CoCT", "tiny-llama", **WIDE)
    answering(monkeypatch, " <Question> Why?\nSeeker: I fell.\nSupporter: <Others> Oh.")
    (one,) = module.respond(decisions(TALK)[:1])
    assert one.reply == "Why?"  # the next turns are not this reply
    assert one.concepts == ("strategy: Question",)
    empty = module.read("<Question>\nSeeker: I fell.")
    assert (empty.reply, empty.failed) == ("", ("reply",))
    assert module.read("Seeker: I fell.").reply == ""
    inside = module.read("<Question: how was it?> <sadness> I am sorry.")
    assert inside.reply == "how was it? I am sorry."
    assert inside.concepts == ("strategy: Question", "emotion: sadness")


@pytest.mark.fidelity("coct", 3)
def test_ordinary_signs_stay_where_they_are_no_delimiter() -> None:
    assert spoken("<Others> R&D is #1 [sic]", ESC) == "R&D is #1 [sic]"
    amp = Concepts(INVENTORIES["esconv"], "&")
    assert spoken("&Others& you & me", amp) == "you and me"


@pytest.mark.fidelity("coct", 3)
@pytest.mark.parametrize(
    ("words", "reply", "concepts"),
    [
        ("<Question> Why? </Question>\n<Seeker> I am sad. </Seeker>", "Why?", "Question"),
        ("<Question> Why? </Question> <Answer> I am sad.", "Why?", "Question"),
        ("<Question> Why?</Question> <fear>Seeker: I am.", "Why?", "Question fear"),
        ("<Supporter> <fear> Oh. <Supporter> So?", "Oh.", "fear"),
        ("<Question> <Supporter> Why? <Reply> I fell.", "Why?", "Question"),
        ("<User> I am sad.", "", ""),
        ("<Question> Why?\nUser: I fell.\nAssistant: Oh.", "Why?", "Question"),
        ("**<Question>** How? **<fear>:** Oh.", "How? Oh.", "Question fear"),
        ("<Question>: How?", "How?", "Question"),
        ("Supporter <Question>: How?", "How?", "Question"),
        ("&Question& rock & roll &sadness& Ok", "rock and roll Ok", "Question sadness"),
        ("#Question# we're #1 in # of #sadness# Ok", "we're 1 in of Ok", "Question sadness"),
    ],
)
def test_the_supporters_first_turn(words: str, reply: str, concepts: str) -> None:
    """A tagged speaker begins another turn; what stands around a tag is no word of the reply."""
    lists = Concepts(INVENTORIES["esconv"], words[0] if words[0] in "&#" else "<>")
    found = read_tagged(words, lists, "Others")
    assert (found.reply, [c.split(": ")[1] for c in found.concepts]) == (reply, concepts.split())


# -- 4: how replies are tagged -----------------------------------------------------------------


@pytest.mark.fidelity("coct", 4)
def test_tag_rates(make: Any, monkeypatch: Any) -> None:
    """Tags per reply, tagged replies, and unlisted tags are reported."""
    module = make("CoCT", "tiny-llama", **WIDE)
    answering(monkeypatch, f"{WORDS} <Hug> Oh.", "No tag.")
    found = decisions(TALK)
    pairs = zip(found, module.respond(found), strict=True)
    module.answers = {decision.id: (decision, one) for decision, one in pairs}
    scores = module.score_answers([*module.answers.values()], "val")
    assert (scores["tagged"], scores["tags_per_reply"], scores["unlisted_tags"]) == (50, 2, 25)
    assert (scores["listed_concepts"], scores["chains"]) == (1.5, 50)
    same = TagScores()([[("strategy", "Question")] * 3, [("other", "a"), ("other", "b")]])
    assert (same["tags_per_reply"], same["listed_concepts"], same["chains"]) == (2.5, 0.5, 0)
    assert scores["strategy_failed"] == 50  # the reply without a tag counts as Others
    assert [one.strategy for _, one in module.answers.values()] == [
        "Reflection of feelings",
        "Others",
    ]


@pytest.fixture(scope="module")
def instructed() -> dict[str, dict[str, float]]:
    """Scores of CoCT and of direct prompting on 24 decisions; neither sees past strategies."""
    folder = Path(os.environ.get("ZOO_DATA", "")) / "esconv"
    data = ESConv(str(folder) if folder.is_dir() else None)
    found = [d for record in data.records("test")[:12] for d in decisions(record)[1:3]]
    scores = {}
    for method, given in (("CoCT", {}), ("ESCBaseline", {"show_strategies": False})):
        backbone = {"name": os.environ["ZOO_TALK_MODEL"]}
        module = getattr(zoo, method)(backbone, max_length=2048, max_new_tokens=64, **given)
        module.configure_model()
        said = [one for i in range(0, len(found), 8) for one in module.respond(found[i : i + 8])]
        pairs = zip(found, said, strict=True)
        module.answers = {decision.id: (decision, one) for decision, one in pairs}
        scores[method] = module.score_answers([*module.answers.values()], "val")
    return scores


NAMED = pytest.mark.skipif("ZOO_TALK_MODEL" not in os.environ, reason="ZOO_TALK_MODEL is not set")


@NAMED
@pytest.mark.slow
@pytest.mark.xfail(
    reason="0.5B (Qwen2.5-Coder-Instruct) wrote one listed concept a reply; "
    "benchmarks/results/2026-11-28-support.md"
)
@pytest.mark.fidelity("coct", 4)
def test_an_instructed_model_tags_its_replies(instructed: dict[str, dict[str, float]]) -> None:
    """A model that follows forms (a folder or .gguf in ZOO_TALK_MODEL) writes chains of tags."""
    assert instructed["CoCT"]["tagged"] > 50
    assert instructed["CoCT"]["listed_concepts"] > 1


@NAMED
@pytest.mark.slow
@pytest.mark.xfail(
    reason="0.5B (Qwen2.5-Coder-Instruct): 40 words against 49 of direct, which writes on to its "
    "limit; benchmarks/results/2026-11-28-support.md"
)
@pytest.mark.fidelity("coct", 10)
def test_an_instructed_model_replies_better_than_direct(
    instructed: dict[str, dict[str, float]],
) -> None:
    """Longer replies, nearer to people's, where both see the same of the conversation."""
    for name in ("length", "bleu_2", "rouge_l"):
        assert instructed["CoCT"][name] > instructed["ESCBaseline"][name], instructed


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
    named.check_data(type("Mine", (ESConv,), {})())  # data that no list is known for
    assert named.labels is ACTS


# -- 8: transitions inside replies -------------------------------------------------------------


@pytest.mark.fidelity("coct", 8)
def test_inner_transitions_by_stage(make: Any, monkeypatch: Any) -> None:
    """Pairs of consecutive tags of one kind in one reply, rows summing to 1, columns by stage."""
    module = make("CoCT", "tiny-llama", **WIDE)
    chains = (
        "<Question>a <sadness>b <Self-disclosure>c <Providing Suggestions>d",
        "<Question>a <Others>b",
    )
    answering(monkeypatch, *chains)
    found = decisions(TALK)
    pairs = zip(found, module.respond(found), strict=True)
    module.answers = {decision.id: (decision, one) for decision, one in pairs}
    names, table = module.tables()["strategy"]
    assert names == [
        *("Question", "Restatement or Paraphrasing", "Reflection of feelings", "Self-disclosure"),
        *("Affirmation and Reassurance", "Providing Suggestions", "Information", "Others"),
    ]
    expected = torch.zeros(8, 8)
    expected[0, 3], expected[0, 7], expected[3, 5] = 0.5, 0.5, 1.0  # not b -> a across replies
    torch.testing.assert_close(torch.tensor(table).float(), expected)
    assert not module.tables()["emotion"][1].any()
    assert "chain/strategy" in module.figures()


# -- 9: the baselines share everything but the recipe ------------------------------------------


@pytest.mark.fidelity("coct", 9)
@pytest.mark.parametrize("two", TWO)
def test_baselines_share_history_and_decoding(make: Any, two: str, monkeypatch: Any) -> None:
    """Window, kept lines, form of the prompt and limit are those of CoCT, for every kind."""
    seen = []
    original = SharedContext.ask

    def ask(context: SharedContext, questions: Any, **options: Any) -> list[str]:
        decoder = context._run()
        lines = [context.tokenizer.decode(p) for p in context.pieces[0][context.starts[0] :]]
        plain = {k: v for k, v in options.items() if k != "choices"}
        seen.append((context.budget, lines, plain, int(decoder.mask_BL.sum()) > 0))
        return original(context, questions, **options)

    monkeypatch.setattr(SharedContext, "ask", ask)
    options = {"max_length": 2600, "reserve": 1000, "max_new_tokens": 3}
    module = make("CoCT", two, concepts="cskills", **options)
    module.respond(decisions(TALK)[1:])
    for kind in RECIPES:
        hidden = {"kind": kind, "show_strategies": False}
        make("ESCBaseline", two, **hidden, **options).respond(decisions(TALK)[1:])
    assert len(seen) > len(RECIPES)
    assert all(one == seen[0] for one in seen)
    assert seen[0][:3] == (
        *(1600, ["Seeker: I lost my job.\n", "Supporter: When?\n", "Seeker: Last week.\n"]),
        {"max_new_tokens": 3, "temperature": 0.0},
    )
    shown = make("CoCT", two, concepts="cskills", keep_tags=True, delimiter="[]", **options)
    shown.respond(decisions(TALK)[1:])
    make("ESCBaseline", two, **options).respond(decisions(TALK)[1:])  # past strategies: default
    assert seen[-2] == seen[-1]
    assert seen[-1][1][1] == "Supporter: [Question] When?\n"


# -- 10, and training --------------------------------------------------------------------------


@pytest.mark.parametrize("two", TWO)
def test_tagged_replies_are_learned(make: Any, two: str, tmp_path: Path) -> None:
    """The target is the teacher's reply; L is the mean over its tokens, and falls in training."""
    path = tmp_path / "teacher.jsonl"
    rows = [
        {"id": d.id, "tagged": f"<Question> {'ab'[d.depth]}? <fear> c."} for d in decisions(TALK)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    module = make("CoCT", two, learn=True, tagged=str(path), free=True, **WIDE)
    encoder = module.encoder()
    examples = encoder(TALK)
    end = encoder.chat.end
    texts = [module.tokenizer.decode([t for t in e.labels if t != IGNORE]) for e in examples]
    assert texts == [row["tagged"] + end for row in rows]
    batch = encoder.collate(examples, sum_head_weights(examples))
    total, count = 0.0, 0
    for example in examples:
        with torch.no_grad():
            logits = module.lm(torch.tensor([example.input_ids])).logits[0].float()
        labels = torch.tensor(example.labels)
        total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        count += int((labels != IGNORE).sum())
    first = float(module.losses(batch)["speak"].loss)
    assert first == pytest.approx(total / count, rel=1e-4)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for _ in range(20):
        loss = module.losses(batch)["speak"].loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.8 * first


def test_what_cannot_be_trained_or_read(make: Any, tmp_path: Path) -> None:
    module = make("CoCT", "tiny-llama", **WIDE)
    assert module.untrained() == "model.learn: false trains nothing"
    broken = tmp_path / "teacher.jsonl"
    broken.write_text('{"id": "x"}\n')
    with pytest.raises(InputError, match=r"teacher.jsonl:1: expected an object with id and tagged"):
        make("CoCT", "tiny-llama", learn=True, tagged=str(broken), **WIDE).encoder()
    annotated = make("CoCT", "tiny-llama", learn=True, **WIDE).encoder()(TALK)[0]
    told = module.tokenizer.decode([t for t in annotated.labels if t != IGNORE])
    assert told.startswith("<Question> When?")
    for kinds in (["emotion"], ["topic"]):  # nothing of these is annotated beside a reply
        bare = make("CoCT", "tiny-llama", kinds=kinds, learn=True, **WIDE)
        with pytest.raises(InputError, match="model.(tagged|kinds): "):
            bare.check_data(ESConv())

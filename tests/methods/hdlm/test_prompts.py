"""HdLM's wording: what is asked of each kind of record, level by level, and how it is encoded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from dialogues import TALK

from zoo.encoding import NO_HEAD, sum_head_weights
from zoo.errors import InputError
from zoo.losses.cross_entropy import total_loss
from zoo.methods.hdlm.encoder import LevelEncoder, shorten
from zoo.methods.hdlm.prompts import (
    ANSWER_SYSTEM,
    EMOTIONS,
    FEELINGS,
    STRATEGIES,
    listed,
    plans,
    role_names,
)
from zoo.prompts.chat_format import CHATML
from zoo.records import SEEKER, SUPPORTER, Dialogue, LabelPath, Question, Taxonomy, Triple, Turn
from zoo.tiny_models import byte_tokenizer

TWO = Taxonomy({(): ("med", "law"), ("med",): ("eye", "ear", "toe"), ("law",): ("tax", "eye")})
THREE = Taxonomy(
    {(): ("a", "b"), ("a",): ("c",), ("b",): ("d", "e"), ("a", "c"): ("f",), ("b", "e"): ("g", "h")}
)
PAPER = LabelPath("Deaf.", ("med", "ear"), TWO, id="p")
QUESTION = Question("2 + 2?", ("3", "4"), 1, rationale="Count on.", id="q")


def encoder(depth: int = 2, **options: Any) -> LevelEncoder:
    return LevelEncoder(byte_tokenizer(), depth, **options)


def rendered(found: LevelEncoder, record: Any) -> list[str]:
    return [found.tokenizer.decode(example.input_ids) for example in found(record)]


def learned(found: LevelEncoder, example: Any, head: int) -> str:
    pairs = zip(example.labels, example.head_ids, strict=True)
    return found.tokenizer.decode([label for label, h in pairs if h == head])


# -- roles and plans ---------------------------------------------------------------------------


def test_role_names() -> None:
    assert role_names(1) == (["assistant"], [])
    assert role_names(2) == (["thought", "assistant"], ["subtask"])
    assert role_names(3) == (
        ["first_thought", "second_thought", "assistant"],
        ["subtask_1", "subtask_2"],
    )
    assert role_names(4)[0][2:] == ["third_thought", "assistant"]


def test_a_label_path_is_a_number_of_a_list_at_each_level() -> None:
    (plan,) = plans(PAPER, 2)
    assert plan.turns == (("user", "Deaf.\n\nClasses:\n0: med\n1: law"),)
    assert (plan.gold, plan.names) == (("0", "1"), ("med", "ear"))
    assert plan.choices([]) == ("med", "law")
    assert plan.choices(["law"]) == ("tax", "eye")
    assert plan.subtask(["law"]) == "Classes:\n0: tax\n1: eye"
    assert plan.is_closed()


def test_decoded_texts_become_names() -> None:
    (plan,) = plans(PAPER, 2)
    assert plan.name([], "1") == "law"
    assert plan.name(["law"], "1") == "eye"
    for text in ("2", "-1", "law", "", "1.0", "one", " 1", "1 ", "01", "\u0661"):
        assert plan.name([], text) is None
    assert plan.name(["?"], "0") is None, "nothing is below a text that is no class"
    assert plan.text([], "law") == "1"
    assert plan.text([], "art") == "?"


def test_three_levels_of_a_label_path() -> None:
    record = LabelPath("x", ("b", "e", "h"), THREE, id="d")
    (plan,) = plans(record, 3)
    assert plan.gold == ("1", "1", "1")
    assert plan.subtask(["b", "e"]) == "Classes:\n0: g\n1: h"
    (text,) = rendered(encoder(3), record)
    end, start = "<|im_end|>", "<|im_start|>"
    assert text.split("\n1: b" + end)[1] == (
        f"\n{start}first_thought\n1{end}\n{start}subtask_1\nClasses:\n0: d\n1: e{end}"
        f"\n{start}second_thought\n1{end}\n{start}subtask_2\nClasses:\n0: g\n1: h{end}"
        f"\n{start}assistant\n1{end}"
    )


def test_a_strategy_guides_every_reply_of_a_dialogue(dialogue: Dialogue) -> None:
    first, second = plans(dialogue, 2)
    assert first.system.endswith(f"Strategies:\n{listed(STRATEGIES)}")
    assert first.turns == (("assistant", "Hello."), ("user", "I lost my job."))
    assert first.names == ("Question", "When?")
    assert first.gold == (str(STRATEGIES.index("Question")), "When?")
    assert len(second.turns) == 4
    assert second.subtask(["Question"]) == "Answer as the supporter. Strategy: Question"
    assert (second.choices([]), second.choices(["Question"])) == (STRATEGIES, None)
    assert second.name(["Question"], " You will. ") == "You will."
    assert len({first.id, second.id}) == 2
    assert not first.is_closed()


def test_emotion_and_strategy_guide_a_reply(dialogue: Dialogue) -> None:
    plan, _ = plans(dialogue, 3, ("emotion", "strategy"))
    assert plan.system.endswith(f"Emotions:\n{listed(EMOTIONS)}")
    assert plan.names == ("sadness", "Question", "When?")
    assert plan.gold[0] == str(EMOTIONS.index("sadness"))
    assert (plan.choices([]), plan.choices(["sadness"])) == (EMOTIONS, STRATEGIES)
    told = f"The seeker feels sadness. Strategies:\n{listed(STRATEGIES)}"
    assert plan.subtask(["sadness"]) == told
    told = "Answer as the supporter. Strategy: Question"
    assert plan.subtask(["sadness", "Question"]) == told


def test_a_guide_may_be_a_list(dialogue: Dialogue) -> None:
    """As YAML gives it; the plans are the same, and can be kept by what they ask."""
    from_list, from_tuple = (plans(dialogue, 2, g) for g in (["emotion"], ("emotion",)))
    assert from_list == from_tuple
    assert len({*from_list, *from_tuple}) == len(from_tuple)


def test_a_subtask_says_what_kind_of_label_it_follows(dialogue: Dialogue) -> None:
    plan, _ = plans(dialogue, 2, ("emotion",))
    assert plan.subtask(["anger"]) == "Answer as the supporter. The seeker feels anger"
    plan, _ = plans(dialogue, 3, ("strategy", "emotion"))
    assert plan.subtask(["Question"]) == f"Strategy: Question. Emotions:\n{listed(EMOTIONS)}"


def test_a_question_gives_its_rationale_and_its_letter() -> None:
    (plan,) = plans(QUESTION, 2)
    assert "first the reasoning" in plan.system
    assert plan.turns == (("user", "2 + 2?\nA: 3\nB: 4"),)
    assert plan.gold == plan.names == ("Count on.", "B")
    assert plan.subtask(["Count on."]) == ""
    assert plan.choices([]) is None


def test_at_depth_one_a_question_and_a_triple_are_their_answers() -> None:
    (plan,) = plans(replace(QUESTION, rationale=""), 1)
    assert plan.gold == plan.names == ("B",)
    assert plan.system == ANSWER_SYSTEM
    (plan,) = plans(Triple("Who?", "", "Bob", id="t"), 1)
    assert plan.gold == ("Bob",)


def test_emotions_are_those_of_the_data_set(dialogue: Dialogue) -> None:
    from datamodules.empathetic_dialogues import EMOTIONS as THEIRS

    assert FEELINGS == THEIRS
    assert not set(FEELINGS) & set(EMOTIONS), "a name says which list it is of"
    plan, _ = plans(replace(dialogue, emotion="joyful"), 2, ("emotion",))
    assert plan.system.endswith(f"Emotions:\n{listed(FEELINGS)}")
    assert plan.choices([]) == FEELINGS
    assert plan.gold[0] == str(FEELINGS.index("joyful"))
    assert plan.subtask(["joyful"]) == "Answer as the supporter. The seeker feels joyful"


def test_a_triple_gives_its_thought_and_its_answer() -> None:
    (plan,) = plans(Triple("Who?", "Bob saw.", "Bob", system="Be brief.", id="t"), 2)
    assert (plan.system, plan.turns) == ("Be brief.", (("user", "Who?"),))
    assert plan.gold == ("Bob saw.", "Bob")
    assert plan.subtask(["Bob saw."]) == ""


def test_asking_about_another_text() -> None:
    (plan,) = plans(PAPER, 2)
    assert plan.asking("Blind.").turns == (("user", "Blind.\n\nClasses:\n0: med\n1: law"),)
    (plan,) = plans(QUESTION, 2)
    assert plan.asking("Why?").turns == (("user", "Why?"),)


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "depth", "message"),
    [
        (replace(PAPER, labels=("med", "tax")), 2, "'tax' is not among the classes of med"),
        (replace(PAPER, labels=("art", "eye")), 2, "'art' is not among the classes of the first"),
        (replace(PAPER, labels=("med", "ear", "lobe")), 3, "'lobe' is not among .* med/ear"),
        (PAPER, 3, "p: 2 levels, but the model has 3; set model.layers to 1"),
        (replace(PAPER, labels=("med",)), 2, "p: 1 levels, but the model has 2"),
        (replace(QUESTION, rationale=""), 2, "q: no rationale"),
        (QUESTION, 3, "q: 2 levels"),
        (Triple("Who?", "", "Bob", id="t"), 2, "t: nothing to learn at level 1"),
        (Triple("Who?", "Bob", " ", id="t"), 2, "t: nothing to learn at level 2"),
    ],
)
def test_records_that_do_not_fit(record: Any, depth: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder(depth)(record)


def test_dialogues_that_do_not_fit(dialogue: Dialogue) -> None:
    with pytest.raises(InputError, match="2 levels, but the model has 3"):
        plans(dialogue, 3)
    with pytest.raises(InputError, match="no emotion named 'joy'"):
        plans(replace(dialogue, emotion="joy"), 2, ("emotion",))
    with pytest.raises(InputError, match="turn 2: no emotion; model.guide says"):
        plans(replace(dialogue, emotion=""), 2, ("emotion",))
    turns = (Turn(SEEKER, "Hi."), Turn(SUPPORTER, "Hello.", strategy="Greeting"))
    with pytest.raises(InputError, match="turn 1: no strategy named 'Greeting'"):
        plans(Dialogue(turns, id="d"), 2)
    with pytest.raises(InputError, match="no supporter turn"):
        plans(Dialogue(turns[:1], id="d"), 2)


# -- encoding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [PAPER, QUESTION, Triple("Who?", "Bob saw.", "Bob", id="t")])
def test_each_level_is_learned_by_its_head(record: Any) -> None:
    found = encoder()
    (example,) = found(record)
    (plan,) = found.plans(record)
    for head, text in enumerate(plan.gold):
        assert learned(found, example, head) == f"{text}<|im_end|>"
    assert example.record == plan


def test_what_is_learned_is_what_inference_feeds(dialogue: Dialogue) -> None:
    """Opening, and for each level its context and text, are the training sequence."""
    for found, record in (
        (encoder(), PAPER),
        (encoder(), QUESTION),
        (encoder(), dialogue),
        (encoder(3, guide=("emotion", "strategy")), dialogue),
    ):
        for example, plan in zip(found(record), found.plans(record), strict=True):
            ids = found.opening(plan)
            for level, text in enumerate(plan.gold):
                ids = ids + found.between(plan, plan.names[:level]) + found.ids(text + CHATML.end)
            assert ids == example.input_ids


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(
    ("record", "depth"),
    [
        (LabelPath("word " * 300, ("law", "eye"), TWO, id="p"), 2),
        (LabelPath("word " * 300, ("med", "toe"), TWO, id="p"), 2),
        (LabelPath("字" * 300, ("law", "tax"), TWO, id="p"), 2),
        (LabelPath("word " * 300, ("b", "e", "h"), THREE, id="p"), 3),
        (LabelPath("word " * 300, ("a", "c", "f"), THREE, id="p"), 3),
    ],
)
def test_long_texts_are_cut_equally_in_training_and_inference(
    record: LabelPath, depth: int, separate: bool
) -> None:
    """The text loses its end, the list after it stays, and every level has room."""
    found = encoder(depth, max_length=400, separate=separate)
    (plan,) = found.plans(record)
    opening = found.opening(plan)
    text = found.tokenizer.decode(opening)
    assert text.endswith(f"\n\nClasses:\n{listed(record.taxonomy.below(()))}<|im_end|>")
    assert record.text[:3] in text
    for example in found(record):
        assert example.input_ids[: len(opening)] == opening
        assert len(example) <= 400
        assert separate or len(example) > 340


@pytest.mark.parametrize("name", ["eye", "a class with a rather long name"])
def test_room_is_that_of_the_longest_path(name: str) -> None:
    """No path's levels take more than what inference leaves free, whichever the gold is."""
    many = Taxonomy({(): ("u", "v"), ("u",): (name,) * 12, ("v",): ("w",)})
    found = encoder()
    tails = []
    for labels in (("u", name), ("v", "w")):
        (plan,) = found.plans(LabelPath("t", labels, many, id="r"))
        tails.append(len(found(plan.record)[0]) - len(found.opening(plan)))
        assert found.room(plan) >= tails[-1]
    assert found.room(plan) <= max(tails) + 1  # 1: the number 11 has two digits


def test_two_taxonomies_have_rooms_of_their_own() -> None:
    found = encoder()
    rooms = []
    for count in (2, 40):
        taxonomy = Taxonomy({(): ("u",), ("u",): tuple(f"name {i}" for i in range(count))})
        (plan,) = found.plans(LabelPath("t", ("u", "name 0"), taxonomy, id="r"))
        rooms.append(found.room(plan))
    assert rooms[0] + 200 < rooms[1]


def test_a_long_dialogue_loses_its_oldest_turns() -> None:
    turns = [Turn(SEEKER, f"Said {i}. " + "x" * 60) for i in range(8)]
    record = Dialogue((*turns, Turn(SUPPORTER, "Oh.", strategy="Others")), id="d")
    found = encoder(max_length=800, max_new_tokens=20)
    (example,), (plan,) = found(record), found.plans(record)
    opening = found.opening(plan)
    text = found.tokenizer.decode(opening)
    assert example.input_ids[: len(opening)] == opening
    assert "Said 7." in text
    assert "Said 0." not in text
    assert plan.system in text
    assert len(opening) <= 800 - found.room(plan)


def test_the_options_of_a_long_question_stay() -> None:
    record = replace(QUESTION, question="long " * 200)
    found = encoder(max_length=400, max_new_tokens=20)
    (text,) = rendered(found, record)
    assert "\nA: 3\nB: 4<|im_end|>" in text
    assert text.count("long") < 100


def test_a_window_that_is_too_short_is_an_error() -> None:
    with pytest.raises(InputError, match="p: does not fit into the window max_length=60"):
        encoder(max_length=60)(PAPER)


def test_shorten_cuts_between_words_where_there_are_any() -> None:
    tokenizer = byte_tokenizer()
    assert shorten("one two three", tokenizer, 2) == "one two"
    assert shorten("字字字", tokenizer, 1) == "字字"
    assert shorten("one", tokenizer, 3) == ""


# -- a call for each level ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "depth", "guide"),
    [
        (PAPER, 2, ("strategy",)),
        (LabelPath("t", ("a", "c", "f"), THREE, id="t"), 3, ("strategy",)),
        (Triple("Q?", "Because.", "Yes.", id="r"), 2, ("strategy",)),
        (QUESTION, 2, ("strategy",)),
        (TALK, 2, ("strategy",)),
        (TALK, 3, ("emotion", "strategy")),
    ],
)
def test_separate_levels_are_the_sequence_up_to_them(
    record: Any, depth: int, guide: tuple[Any, ...]
) -> None:
    """Call i reads what was asked and said before, and learns level i alone.

    Two calls hold (n_q + n_t) + (n_q + n_t + n_s + n_a) tokens.
    """
    joint = encoder(depth, guide=guide)(record)
    apart = encoder(depth, guide=guide, separate=True)(record)
    assert len(apart) == depth * len(joint)
    for i, whole in enumerate(joint):
        for level, example in enumerate(apart[depth * i : depth * (i + 1)]):
            assert set(example.head_ids) == {level, NO_HEAD}
            end = 2 + max(j for j, head in enumerate(whole.head_ids) if head == level)
            assert example.input_ids == whole.input_ids[:end]
            assert [h == level for h in example.head_ids[: end - 1]] == [
                h == level for h in whole.head_ids[: end - 1]
            ]


@pytest.mark.parametrize("record", [PAPER, QUESTION, TALK])
def test_separate_calls_of_one_plain_model_learn_what_one_call_learns(
    make: Any, record: Any
) -> None:
    """All levels at the last block: the calls have the losses and gradients of the sequence."""
    found = []
    for separate in (False, True):
        module = make("HdLM", "tiny-llama", layers=[4], separate=separate, spread=5.0)
        module.zero_grad(set_to_none=True)
        examples = module.encoder()(record)
        batch = module.encoder().collate(examples, sum_head_weights(examples))
        terms = module.losses(batch)
        total_loss(terms).backward()
        gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
        found.append({"loss": torch.stack([t.loss.detach() for t in terms.values()]), **gradients})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("record", [PAPER, Triple("Q?", "So.", "Yes.", id="r"), QUESTION, TALK])
def test_the_second_call_reads_the_first_ones_words(
    make: Any, monkeypatch: pytest.MonkeyPatch, record: Any
) -> None:
    """Each call is prefilled from nothing with all that was asked and decoded before."""
    from zoo.decoding.depth_decoder import DepthDecoder

    fed: list[tuple[Any, str]] = []
    decoded: list[str] = []
    feed, decode = DepthDecoder.feed, DepthDecoder.decode
    module = make("HdLM", "tiny-llama", layers=[4], separate=True, spread=12.0, max_new_tokens=3)

    def feeding(decoder: DepthDecoder, ids: Any, level: int) -> None:
        fed.append((decoder, module.tokenizer.decode(ids[0])))
        feed(decoder, ids, level)

    def decoding(decoder: DepthDecoder, *args: Any, **options: Any) -> list[list[int]]:
        found = decode(decoder, *args, **options)
        decoded.append(module.tokenizer.decode(found[0]))
        return found

    monkeypatch.setattr(DepthDecoder, "feed", feeding)
    monkeypatch.setattr(DepthDecoder, "decode", decoding)
    plan = module.encoder().plans(record)[-1]
    (path,) = module.generate([plan])
    (first, second), prompts = (d for d, _ in fed), [text for _, text in fed]
    assert first is not second
    assert prompts[0].endswith("\n<|im_start|>thought\n")
    between = module.tokenizer.decode(module.encoder().between(plan, path[:1]))
    assert prompts[1] == prompts[0] + decoded[0] + "<|im_end|>" + between
    fed.clear()
    module.generate([plan], forced=[[plan.names[0]]])
    fine = rendered(module.encoder(), record)[-1]
    assert fed[0][1] == fine.removesuffix(plan.gold[1] + "<|im_end|>")


@pytest.mark.parametrize("depth", [2, 3])
def test_one_plain_model_says_the_same_in_one_call_and_in_several(make: Any, depth: int) -> None:
    record = {2: TALK, 3: LabelPath("t", ("a", "c", "f"), THREE, id="t")}[depth]
    found = []
    for separate in (False, True):
        torch.manual_seed(0)
        layers = [4] * (depth - 1)
        module = make(
            "HdLM", "tiny-llama", layers=layers, separate=separate, spread=12.0, max_new_tokens=9
        )
        found.append(module.generate(module.encoder().plans(record)))
    assert found[0] == found[1]

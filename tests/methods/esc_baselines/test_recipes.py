"""The baselines of emotional support conversation: recipes as data, calls, and what is read."""

from __future__ import annotations

import string
from dataclasses import replace
from typing import Any

import pytest
import torch
from dialogues import TALK

from zoo.decoding.shared_context import SharedContext
from zoo.encoding import IGNORE, sum_head_weights
from zoo.errors import InputError
from zoo.methods.esc_baselines.recipes import RECIPES
from zoo.records import SEEKER, SUPPORTER, Turn
from zoo.support.decisions import decisions
from zoo.support.labels import LABEL_TOKENS, STRATEGIES, SUPPORT
from zoo.support.read_reply import read_points, read_reply

WIDE = {"max_length": 8192, "reserve": 3000, "max_new_tokens": 4}
RESTATE = "Restatement or Paraphrasing"
WHEN = ("When?", "Question", True)
RUN_ON = (
    "fear\nStrategy: Question\nResponse: When?\n\nSeeker: In May.\n\nEmotion: anger\n"
    "Strategy: Information\nResponse: Call them."
)
DISCLOSE = ("Me too.", "Self-disclosure", True)
CALLS = {
    **{"direct": 1, "direct_refine": 1, "self_refine": 3, "self_refine_two_calls": 2, "cot": 1},
    **{"plan_and_solve": 2, "tot": 5, "sot": 5, "rag": 1, "csim": 1, "fsm": 3},
    **{"sft": 1, "sft_cot": 1, "sft_fsm": 3},
}


class Script:
    """A model that says given words, one for each call, and keeps the tasks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
        self.words, self.tasks, self.options = list(words), list[str](), list[dict[str, Any]]()
        monkeypatch.setattr(SharedContext, "ask", self.ask())

    def ask(self) -> Any:
        def ask(context: SharedContext, questions: Any, **options: Any) -> list[str]:
            self.tasks.append(questions[0] or "")
            self.options.append(options)
            return [self.words.pop(0) if q is not None else "" for q in questions]

        return ask


def test_every_place_in_a_task_is_filled_by_an_earlier_call() -> None:
    assert set(RECIPES) == set(CALLS)
    for kind, calls in RECIPES.items():
        known = {"names", "defined", "emotions"}
        for call in calls:
            places = {name for _, name, _, _ in string.Formatter().parse(call.task) if name}
            assert places <= known | ({"point"} if call.reads == "each" else set()), kind
            known.add(call.name)
        assert calls[-1].name == "reply"


@pytest.mark.parametrize("kind", CALLS)
def test_every_kind_replies(make: Any, kind: str) -> None:
    """Noise gives no name: a reply all the same, the fallback, and the failure counted."""
    module = make("ESCBaseline", "tiny-llama", kind=kind, **WIDE)
    found = module.respond(decisions(TALK))
    for one in found:
        assert one.calls == CALLS[kind]
        assert one.strategy in STRATEGIES
    pairs = zip(decisions(TALK), found, strict=True)
    module.answers = {decision.id: (decision, one) for decision, one in pairs}
    scores = module.score_answers([*module.answers.values()], "val")
    assert scores["strategy_failed"] == 100
    assert scores["calls"] == CALLS[kind]
    assert 0 <= scores["rouge_l"] <= 100


def test_emotion_and_strategy_are_read_by_their_own_lists(make: Any, monkeypatch: Any) -> None:
    """Each call of `fsm` finds its name in its list; a name of the other list is none."""
    module = make("ESCBaseline", "tiny-llama", kind="fsm", **WIDE)
    for said, found, failed in (
        (("sadness", "Question", "When?"), ("sadness", "Question"), ()),
        (
            ("Question", "sadness", "When?"),
            (module.emotions.fallback, SUPPORT.fallback),
            ("emotion", "strategy"),
        ),
    ):
        Script(monkeypatch, *said)
        (one,) = module.respond(decisions(TALK)[:1])
        assert (one.emotion, one.strategy) == found
        assert one.reply == "When?"
        assert one.failed == failed


def test_self_refine_quotes_draft_and_feedback(make: Any, monkeypatch: Any) -> None:
    module = make("ESCBaseline", "tiny-llama", kind="self_refine", **WIDE)
    script = Script(monkeypatch, "[Question] When {names}?", "Be warmer.", "[Others] Oh no.")
    (one,) = module.respond(decisions(TALK)[:1])
    assert "[Question] When {names}?" in script.tasks[1]  # braces of an answer stay
    assert "[Question] When {names}?" in script.tasks[2]
    assert "Feedback on it: Be warmer." in script.tasks[2]
    assert (one.strategy, one.reply, one.failed) == ("Others", "Oh no.", ())
    assert dict(one.steps) == {"draft": "[Question] When {names}?", "feedback": "Be warmer."}


def test_a_draft_without_a_strategy_is_quoted_alone(make: Any, monkeypatch: Any) -> None:
    module = make("ESCBaseline", "tiny-llama", kind="self_refine", **WIDE)
    script = Script(monkeypatch, "When?", "Warmer.", "When was it?")
    module.respond(decisions(TALK)[:1])
    assert "next: When?\n" in script.tasks[1]


def test_tree_votes_among_its_thoughts(make: Any, monkeypatch: Any) -> None:
    module = make("ESCBaseline", "tiny-llama", kind="tot", temperature=0.7, **WIDE)
    words = ("1. Ask\n2. Comfort\n3. Wait", "2", "- By a hug\n- By words", "3", "[Others] There.")
    script = Script(monkeypatch, *words)
    (one,) = module.respond(decisions(TALK)[:1])
    steps = dict(one.steps)
    assert (steps["thought"], steps["intent"]) == ("Comfort", "By words")
    assert "The supporter decided: Comfort\nBy: By words\n" in script.tasks[-1]
    assert [o.get("choices") for o in script.options] == [
        *(None, ["1", "2", "3"], None, ["1", "2", "3"], None)
    ]
    assert [o["temperature"] for o in script.options] == [0.7, 0.0, 0.7, 0.0, 0.7]


def test_skeleton_is_written_out_point_by_point(make: Any, monkeypatch: Any) -> None:
    module = make("ESCBaseline", "tiny-llama", kind="sot", **WIDE)
    script = Script(monkeypatch, "1. Hear\n2. Ask", "questions", "I hear you.", "Why?")
    (one,) = module.respond(decisions(TALK)[:1])
    assert (one.strategy, one.reply) == ("Question", "I hear you. Why?")
    assert [task.partition("sentence: ")[2][:4] for task in script.tasks[2:4]] == ["Hear", "Ask<"]


def test_retriever_puts_the_nearest_descriptions_into_the_prompt(make: Any) -> None:
    """The text of a description itself is nearest to that description."""
    module = make("ESCBaseline", "tiny-qwen2", kind="rag", top_k=1, spread=3.0, **WIDE)
    name, told = list(SUPPORT.definitions.items())[5]
    state = replace(decisions(TALK)[0], turns=(Turn(SEEKER, f"{name}: {told}"),))
    with torch.no_grad():
        assert module.retrieve([state]) == [f"- {name}: {told}"]
    with pytest.raises(InputError, match=r"model.top_k: 9 is not in 1\.\.8"):
        make("ESCBaseline", "tiny-llama", kind="rag", top_k=9)


def test_fine_tuned_kinds_learn_strategy_and_reply(make: Any) -> None:
    """Only `[Strategy] reply` is learned, after direct's own prompt; the others refuse to train."""
    module = make("ESCBaseline", "tiny-gemma", kind="sft_fsm", **WIDE)
    encoder = module.encoder()
    examples = encoder(TALK)
    end = encoder.chat.end
    texts = [module.tokenizer.decode([t for t in e.labels if t != IGNORE]) for e in examples]
    replies = ["[Question] When?", "[Affirmation and Reassurance] You will find one."]
    assert texts == [f" {reply}" + end for reply in replies]
    prompt = module.tokenizer.decode(examples[1].input_ids)
    told = "Seeker: I lost my job.\nSupporter: [Question] When?\nSeeker: Last week.\n\nWrite what"
    assert told in prompt
    loss = module.losses(encoder.collate(examples, sum_head_weights(examples)))["speak"]
    assert float(loss.weight) == sum(len(encoder.ids(f" {reply}" + end)) for reply in replies)
    assert module.untrained() == ""
    prompted = make("ESCBaseline", "tiny-llama", kind="tot", **WIDE)
    assert prompted.untrained() == "model.kind: tot is not trained, sft is"


def test_past_strategies_are_shown_unless_they_are_hidden(make: Any) -> None:
    """In the history of ESConv's task supporter turns carry their strategies."""
    module = make("ESCBaseline", "tiny-llama", **WIDE)
    assert module.encoder().lines(decisions(TALK)[1])[1] == "Supporter: [Question] When?\n"
    hidden = make("ESCBaseline", "tiny-llama", show_strategies=False, **WIDE)
    assert hidden.encoder().lines(decisions(TALK)[1])[1] == "Supporter: When?\n"


@pytest.mark.parametrize("kind", CALLS)
def test_answers_are_begun(make: Any, monkeypatch: Any, kind: str) -> None:
    """A reply by the supporter's name, as in every method; an answer in fields by the first."""
    module = make("ESCBaseline", "tiny-llama", kind=kind, **WIDE)
    script = Script(monkeypatch, *(["1"] * 9))
    module.respond(decisions(TALK)[:1])
    for call in RECIPES[kind]:
        if call.reads in ("reply", "each", "draft"):
            assert call.begins
        if call.begins not in ("", "Supporter:"):
            assert f"`{call.begins}`" in call.task  # the first field that is asked for
            assert call.task.index(f"`{call.begins}`") == call.task.index("`")
    last = RECIPES[kind][-1]
    asked = [task for task in script.tasks if task]  # a point that is not there is not asked
    assert asked[-1].endswith(f"assistant\n{last.begins}")


@pytest.mark.parametrize(
    ("kind", "limits"),
    [
        ("direct", [40]),
        ("direct_refine", [40 + 40]),  # draft, revision
        ("self_refine", [40, 40, 40]),
        ("self_refine_two_calls", [40, 40 + 40]),  # draft; feedback, revision
        ("csim", [40 + 40]),  # simulation, response
        ("cot", [LABEL_TOKENS + LABEL_TOKENS + 40]),  # emotion, strategy, response
        ("sft_cot", [LABEL_TOKENS + LABEL_TOKENS + 40]),
        ("sot", [40, 40, 40]),
    ],
)
def test_a_reply_has_as_many_tokens_in_every_recipe(
    make: Any, monkeypatch: Any, kind: str, limits: list[int]
) -> None:
    """What an answer holds before the reply takes nothing of the reply's own limit."""
    module = make("ESCBaseline", "tiny-llama", kind=kind, **WIDE | {"max_new_tokens": 40})
    script = Script(monkeypatch, *(["1"] * 9))
    module.respond(decisions(TALK)[:1])
    asked = zip(script.options, script.tasks, strict=True)
    assert [options["max_new_tokens"] for options, task in asked if task] == limits


@pytest.mark.parametrize(
    ("begins", "words", "reply", "strategy", "given"),
    [
        ("Supporter:", " [Question] When?", "When?", "Question", True),
        ("Supporter:", " **[questions]**: When?", "When?", "Question", True),
        ("Supporter:", " [Strategy] Restatement: You fell.", "You fell.", RESTATE, True),
        ("Supporter:", " [Strategy] [Question] When?", "When?", "Question", True),
        ("Supporter:", " Strategy: Question\nWhen?", "When?", "Question", True),
        ("Supporter:", "\nSupporter (Question): When?", "When?", "Question", True),
        ("Supporter:", " I see: that hurts.", "I see: that hurts.", None, True),
        ("Supporter:", " Ask.\nSeeker: No.\nSupporter: [Others] Oh.", "Ask.", None, True),
        ("Supporter:", " Ask. Seeker: No. Supporter: Oh.", "Ask.", None, True),
        ("Supporter:", "", "", None, False),
        ("Supporter:", "\nSeeker: I cry.", "", None, False),
        ("Supporter:", "Seeker: I cry.", "", None, False),
        ("Supporter:", "Supporter: [Question] When?", "When?", "Question", True),
        ("Supporter:", "Strategy: Question\nResponse: When?", "When?", "Question", True),
        ("Supporter:", "[Question]\nResponse: When?", "When?", "Question", True),
        ("Supporter:", "[Question] Response: When?", "When?", "Question", True),
        ("Supporter:", "Hello [Seeker], when?", "Hello [Seeker], when?", None, True),
        ("Supporter:", 'A "Supporter:" said so.', 'A "Supporter:" said so.', None, True),
        ("Supporter:", "I see. Feedback: is it hard?", "I see. Feedback: is it hard?", None, True),
        ("Supporter:", "[Information] Try.\nResponse: x", "Try.\nResponse: x", "Information", True),
        ("Supporter:", ' "I am here."', "I am here.", None, True),
        ("Supporter:", ' [Question] "When', "When", "Question", True),
        ("Supporter:", " \u201cI am here.\u201d\nSeeker: No.", "I am here.", None, True),
        ("Supporter:", ' "No" is a word.', '"No" is a word.', None, True),
        ("Supporter:", ' "Yes" and "no".', '"Yes" and "no".', None, True),
        ("Supporter:", "[Name], how are you?", "[Name], how are you?", None, True),
        ("Supporter:", "(smiles) When?", "(smiles) When?", None, True),
        *(
            ("Supporter:", f"{tag} When?", *WHEN)
            for tag in ("(Question)", "(Question):", "**(Question)**", "[Question],")
        ),
        ("Supporter:", "When?\nUser: In May.\nAssistant: Oh.", "When?", None, True),
        ("Emotion:", " fear\nStrategy: Question\nResponse: (Question) When?", *WHEN),
        ("Emotion:", RUN_ON, "When?", "Question", True),
        ("Emotion:", "fear\nStrategy: Question\nResponse: When?\nStrategy: it fits", *WHEN),
        ("Simulation:", "He cries.\n\n[Question] When?", "When?", "Question", False),
        ("Feedback:", "It is good.\n\n[Question] When?", "When?", "Question", False),
        ("Draft:", "[Others] Hi.\n\n[Question] When?", "When?", "Question", False),
        ("Draft:", " [Others] Oh.\nRevision: [Question] When?", "When?", "Question", True),
        ("Draft:", " [Others] Oh. Revision: [Question] When?", "When?", "Question", True),
        ("Draft:", " [Question] When?\nRevision:", "When?", "Question", False),
        ("Draft:", " [Question] When?\nRevision: [Others]", "When?", "Question", False),
        ("Emotion:", " fear\nStrategy: Self disclosure\nResponse: Me too.", *DISCLOSE),
        ("Emotion:", " fear. Strategy: Self disclosure. Response: Me too.", *DISCLOSE),
        ("Emotion:", " fear `Strategy: Self disclosure` `Response: Me too.`", *DISCLOSE),
        ("Emotion:", " fear\nStrategy: Question", "", "Question", False),
        ("Emotion:", " [Question] When?", "When?", "Question", False),
        ("Simulation:", " she cries.\nResponse: [Hug] There.", "There.", None, True),
        ("Simulation:", " she cries. Response: [Hug] There.\nSeeker: I", "There.", None, True),
        ("Feedback:", " be warmer. Revision: [Others] Oh.", "Oh.", "Others", True),
        ("Feedback:", " be warmer.", "", None, False),
    ],
)
def test_replies_are_read(
    begins: str, words: str, reply: str, strategy: str | None, given: bool
) -> None:
    found = read_reply(words.strip(), SUPPORT, begins)
    assert (found.reply, found.strategy, found.given) == (reply, strategy, given)
    written = f" {words.strip()}"
    assert written.startswith(found.begun)
    assert reply in written[len(found.begun) :]


def test_a_draft_stands_where_no_revision_was_written(make: Any, monkeypatch: Any) -> None:
    """The reply is the draft, counted as one that was not given."""
    for kind, words in (
        ("self_refine", ["[Question] When?", "Be warmer.", ""]),
        ("self_refine_two_calls", ["[Question] When?", " be warmer."]),
    ):
        module = make("ESCBaseline", "tiny-llama", kind=kind, **WIDE)
        Script(monkeypatch, *words)
        (one,) = module.respond(decisions(TALK)[:1])
        assert (one.reply, one.strategy, one.failed) == ("When?", "Question", ("reply",))


def test_points_are_read() -> None:
    assert read_points("") == [""]
    assert read_points("1) a\n\n2. b\n* c\nd") == ["a", "b", "c"]


def test_dialogues_that_start_with_the_supporter_or_lack_strategies(make: Any) -> None:
    module = make("ESCBaseline", "tiny-llama", kind="sft", **WIDE)
    opened = replace(TALK, turns=(Turn(SUPPORTER, "Hello."), *TALK.turns))
    assert len(module.encoder()(opened)) == 2
    silent = replace(TALK, turns=tuple(replace(turn, strategy="") for turn in TALK.turns))
    assert [example.head_weights() for example in module.encoder()(silent)] == [{}, {}]
    some = replace(TALK, turns=(*TALK.turns, Turn(SUPPORTER, "Bye.")))
    with pytest.raises(InputError, match="talk:1, turn 4: no support strategy is annotated"):
        module.encoder()(some)

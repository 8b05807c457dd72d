"""The ten properties of FiSMiness' sheet (arXiv 2504.11837, section 8).

The reference below writes prompts and walks turns plainly: one dialogue, one call at a time, the
whole prompt run again for every token.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import DailyDialog, ESConv
from zoo.decoding.shared_context import SharedContext
from zoo.encoding import IGNORE, sum_head_weights
from zoo.errors import InputError
from zoo.methods.fisminess.conversations import group
from zoo.methods.fisminess.machine import IllegalMoveError, Machine, rounds
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import Decision, current_decision, decisions
from zoo.support.labels import EMOTION_SETS, EMOTIONS, STRATEGIES, SUPPORT
from zoo.support.read_reply import read_reply
from zoo.support.reply import SupportReply

TWO = ("tiny-llama", "tiny-gemma")  # untied and tied
WIDE = {"max_length": 8192, "max_new_tokens": 4}


def talk(*turns: tuple[str, str], **known: str) -> Dialogue:
    """Return a dialogue of (strategy, text); an empty strategy is the seeker's turn."""
    made = (Turn(SUPPORTER if s else SEEKER, text, strategy=s) for s, text in turns)
    return Dialogue(tuple(made), **{"id": "talk:1", "emotion": "sadness", **known})


UNSAID = ("Others", "Why?")
ONE = talk(
    ("", "I lost my job."),
    ("Question", "When?"),
    ("", "Last week."),
    ("", "I told nobody."),
    ("Reflection of feelings", "Lonely."),
    ("Others", "I hear you."),
    ("", "Thanks."),
    ("Providing Suggestions", "Tell her?"),
    situation="They let me go.",
)
OTHER = talk(
    ("Others", "Hello."),
    ("", "She left."),
    ("Self-disclosure", "Mine too."),
    ("", "Hm."),
    ("Information", "It passes."),
    emotion="pain",
    id="talk:2",
)


class Reference:
    """FiSMiness' prompts and walk, written out for one dialogue."""

    def __init__(self, module: Any) -> None:
        self.lm, self.tokenizer, self.encoder = module.lm, module.tokenizer, module.encoder()
        self.end = self.encoder.chat.end

    def lines(self, dialogue: Dialogue, stop: int, labels: dict[int, tuple[str, str]]) -> str:
        """Return s0 before turn `stop`: `labels` gives e and g of earlier supporter turns."""
        text = ""
        for i, turn in enumerate(dialogue.turns[:stop]):
            if turn.speaker == SEEKER:
                text += f"Seeker: {turn.text}\n"
            elif i == 0:
                text += f"Supporter: {turn.text}\n"
            else:
                e, g = labels[i]
                text += f"Emotion: {e}\nStrategy: {g}\nSupporter: {turn.text}\n"
        return text

    def prompt(self, dialogue: Dialogue, state: str, task: str) -> str:
        known = f"Situation: {dialogue.situation}\n\n" if dialogue.situation else ""
        chat = self.encoder.chat
        lists = f"{SYSTEM_TEXT}\nEmotions: {', '.join(EMOTIONS)}.\nStrategies:"
        lists += "".join(f"\n- {name}: {text}" for name, text in SUPPORT.definitions.items())
        opening = "".join(p.text for p in chat.turn("system", lists, first=True))
        asked = f"{known}Dialogue so far:\n{state}" + self.encoder.questions[task]
        return opening + chat.open("user") + asked

    def next_logits(self, text: str, ids: list[int]) -> torch.Tensor:
        row = [*self.tokenizer(text, add_special_tokens=False)["input_ids"], *ids]
        with torch.no_grad():
            return self.lm(torch.tensor([row])).logits[0, -1].float()

    def choose(self, text: str, names: tuple[str, ...]) -> str:
        """Return the greedy path among the names' tokens."""
        stop = self.encoder.stop_id
        paths = {
            n: [*self.tokenizer(n, add_special_tokens=False)["input_ids"], stop] for n in names
        }
        done: list[int] = []
        while True:
            open_ = {n: p for n, p in paths.items() if p[: len(done)] == done}
            if len(open_) == 1:
                return next(iter(open_))
            following = {p[len(done)] for p in open_.values()}
            logits = self.next_logits(text, done) if len(following) > 1 else torch.zeros(99999)
            done.append(max(sorted(following), key=lambda t: float(logits[t])))

    def write(self, text: str, limit: int) -> str:
        ids: list[int] = []
        while len(ids) < limit:
            token = int(self.next_logits(text, ids).argmax())
            if token == self.encoder.stop_id:
                break
            ids.append(token)
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def walk(self, dialogue: Dialogue, limit: int, *, gold: bool) -> list[tuple[str, str, str]]:
        """Return (e, g, u) at every decision of a dialogue."""
        labels: dict[int, tuple[str, str]] = {}
        found = []
        for i, turn in enumerate(dialogue.turns):
            if i == 0 or turn.speaker != SUPPORTER:
                continue
            state = self.lines(dialogue, i, labels)
            e = self.choose(self.prompt(dialogue, state, "emotion"), EMOTIONS)
            state += f"Emotion: {e}\n"
            g = self.choose(self.prompt(dialogue, state, "strategy"), STRATEGIES)
            state += f"Strategy: {g}\n"
            u = self.write(self.prompt(dialogue, state, "reply"), limit)
            labels[i] = (dialogue.emotion, turn.strategy) if gold else (e, g)
            found.append((e, g, u))
        return found


SYSTEM_TEXT = (
    "You support a person in distress. In every turn you first recognise the seeker's emotion, "
    "then choose a support strategy, then reply."
)


def triples(found: list[SupportReply]) -> list[tuple[str, str, str]]:
    return [(one.emotion, one.strategy, one.reply) for one in found]


def learned(example: Any, tokenizer: Any) -> str:
    """Return the text of the supervised tokens."""
    return tokenizer.decode([label for label in example.labels if label != IGNORE])


class Asked:
    """Records every question that a model is asked, with the text before it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prompts: list[list[str]] = []
        original = SharedContext.ask

        def ask(context: SharedContext, questions: Any, **options: Any) -> list[str]:
            told = [
                context.tokenizer.decode([*prefix, *(t for piece in pieces for t in piece)])
                for prefix, pieces in zip(context.prefixes, context.pieces, strict=True)
            ]
            rows = zip(told, questions, strict=True)
            self.prompts.append([text + question for text, question in rows if question])
            return original(context, questions, **options)

        monkeypatch.setattr(SharedContext, "ask", ask)


# -- 1: the only legal walk --------------------------------------------------------------------


@pytest.mark.fidelity("fisminess", 1)
def test_the_machine_has_one_walk() -> None:
    """s0 -e-> s1 -g-> s2 -u_p-> s3 -seeker-> s0; any other move raises and names the legal one."""
    legal = {"s0": "emotion", "s1": "strategy", "s2": "reply", "s3": "message"}
    machine, visited = Machine().move("message", "hi"), []
    for _ in range(2):
        for action in ("emotion", "strategy", "reply", "message"):
            visited.append(machine.state)
            for other in {"emotion", "strategy", "reply", "message", "s2"} - {action}:
                with pytest.raises(IllegalMoveError, match=legal[machine.state]):
                    machine.move(other, "x")
            machine = machine.move(action, "x")
    assert visited == ["s0", "s1", "s2", "s3"] * 2
    with pytest.raises(AttributeError):  # no state by hand
        machine.state = "s2"  # type: ignore[misc]


# -- 2, 3: what the prompts hold ---------------------------------------------------------------


@pytest.mark.fidelity("fisminess", 2)
@pytest.mark.fidelity("fisminess", 3)
@pytest.mark.parametrize("oracle", [False, True])
def test_prompts_hold_the_state(make: Any, monkeypatch: Any, oracle: bool) -> None:
    """e is asked without this turn's e and g, g with e, u with both; t turns leave t of each."""
    module = make("FiSMiness", "tiny-llama", spread=4.0, oracle_history=oracle, **WIDE)
    asked = Asked(monkeypatch)
    found = module.respond(decisions(ONE)[:3])
    assert len(asked.prompts) == 9
    for t, one in enumerate(found):
        for_e, for_g, for_u = (rows[0] for rows in asked.prompts[3 * t : 3 * t + 3])
        for text, labels in ((for_e, 0), (for_g, 1), (for_u, 2)):
            assert text.count("\nEmotion: ") == t + (labels > 0)
            assert text.count("\nStrategy: ") == t + (labels > 1)
        assert f"\nEmotion: {one.emotion}\n" in for_g.rpartition("Seeker:")[2]
        both = f"\nEmotion: {one.emotion}\nStrategy: {one.strategy}\n"
        assert both in for_u.rpartition("Seeker:")[2]
        assert "Emotion:" not in for_e.rpartition("Seeker:")[2].partition("Supporter")[0] or t == 2
        past = zip(decisions(ONE)[:t], found[:t], strict=True)
        for decision, before in past:  # by the annotation, or by the model
            e = "sadness" if oracle else before.emotion
            g = decision.target.strategy if oracle else before.strategy
            assert f"Emotion: {e}\nStrategy: {g}\nSupporter: {decision.target.text}\n" in for_e


@pytest.mark.fidelity("fisminess", 3)
@pytest.mark.parametrize("mode", ["agent", "single_pass"])
def test_labels_that_nobody_annotated_stay_in_an_annotated_history(
    make: Any, monkeypatch: Any, mode: str
) -> None:
    """Also where the strategy is given: what was decoded on the way is not lost."""
    options = {"mode": mode, "closed": "free", "oracle_history": True}
    module = make("FiSMiness", "tiny-llama", **options, **WIDE)
    asked = Asked(monkeypatch)
    state = decisions(replace(ONE, emotion=""))[2]
    module.respond([state], strategies=["Information"])
    for text in (asked.prompts[-1][0], asked.prompts[-2][0]):
        assert text.count("\nEmotion: ") >= 2
        assert text.count("\nStrategy: ") >= 2


@pytest.mark.parametrize("source", ["conversation", "annotated"])
@pytest.mark.parametrize("oracle", [False, True])
def test_an_emotion_that_the_history_shows_is_not_scored(
    make: Any, oracle: bool, source: str
) -> None:
    """The dialogue's one emotion stands in an annotated history: no accuracy, no confusion."""
    given = {"mode": "agent", "emotion_source": source, "oracle_history": oracle}
    module = make("FiSMiness", "tiny-llama", **given, **WIDE)
    felt = (replace(t, emotion="fear" if t.speaker == SEEKER else "") for t in ONE.turns)
    states = decisions(replace(ONE, turns=tuple(felt)))[:2]
    pairs = list(zip(states, module.respond(states), strict=True))
    module.answers = {state.id: (state, reply) for state, reply in pairs}
    shown = not oracle or source == "annotated"
    assert ("emotion_accuracy" in module.score_answers(pairs, "test")) == shown
    assert ("emotions" in module.figures()) == shown


@pytest.mark.fidelity("fisminess", 3)
def test_history_as_text() -> None:
    machine = Machine()
    for one in rounds(decisions(ONE)[-1]):
        machine = machine.move("message", one.message).move("emotion", "fear")
        machine = machine.move("strategy", one.strategy).move("reply", one.reply)
    assert machine.text().count("Emotion: fear\n") == machine.text().count("Strategy: ") == 4
    assert machine.text().startswith("Seeker: I lost my job.\nEmotion: fear\nStrategy: Question\n")
    assert machine.text().count("Seeker: ") == 4  # no utterance is lost or doubled


# -- 4, 5: calls and weights -------------------------------------------------------------------


@pytest.mark.fidelity("fisminess", 4)
@pytest.mark.parametrize(("mode", "calls"), [("mt", 3), ("agent", 3), ("single_pass", 1)])
def test_calls_of_a_turn(make: Any, monkeypatch: Any, mode: str, calls: int) -> None:
    module = make("FiSMiness", "tiny-gemma", mode=mode, **WIDE)
    asked = Asked(monkeypatch)
    found = module.respond(decisions(OTHER))
    assert len(asked.prompts) == 2 * calls
    assert [one.calls for one in found] == [calls] * 2


@pytest.mark.fidelity("fisminess", 5)
def test_one_set_of_weights(make: Any, shape: str) -> None:
    """Nothing beside the bare backbone, and all three calls run it."""
    from zoo.backbone import Backbone, load

    module = make("FiSMiness", shape, **WIDE)
    plain, _ = load(Backbone(shape))
    assert set(module.state_dict()) == {f"lm.{name}" for name in plain.state_dict()}
    assert {id(model.lm) for model in module.action_models().values()} == {id(module.lm)}


@pytest.mark.fidelity("fisminess", 5)
def test_agents_may_have_models_of_their_own(make: Any) -> None:
    """A model for an arrow plays that arrow alone, and is not part of the module."""
    agents = {"strategy": {"name": "tiny-gemma"}}
    plain = make("FiSMiness", "tiny-llama", spread=4.0, mode="agent", **WIDE)
    mixed = make("FiSMiness", "tiny-llama", mode="agent", agents=agents, **WIDE)
    mixed.lm.load_state_dict(plain.lm.state_dict())
    assert set(mixed.state_dict()) == set(plain.state_dict())
    models = mixed.action_models()
    assert models["emotion"].lm is models["reply"].lm is mixed.lm
    assert models["strategy"].lm is not mixed.lm
    first = decisions(OTHER)[:1]
    assert mixed.respond(first)[0].emotion == plain.respond(first)[0].emotion
    assert mixed.respond(first)[0].strategy in STRATEGIES


# -- 6: the loss -------------------------------------------------------------------------------


@pytest.mark.fidelity("fisminess", 6)
@pytest.mark.parametrize("two", TWO)
def test_labels_and_loss(make: Any, two: str) -> None:
    """Only targets are learned; L is the weighted sum of the means over examples of token means."""
    module = make("FiSMiness", two, spread=3.0, weights=[1.0, 0.5, 2.0], **WIDE)
    encoder, reference = module.encoder(), Reference(module)
    examples = encoder(ONE)
    assert len(examples) == 3 * 4
    end = encoder.chat.end
    labels: dict[int, tuple[str, str]] = {
        i: ("sadness", t.strategy) for i, t in enumerate(ONE.turns)
    }
    means: dict[str, list[float]] = {"emotion": [], "strategy": [], "reply": []}
    places = [i for i, t in enumerate(ONE.turns) if t.speaker == SUPPORTER]
    for n, example in enumerate(examples):
        i, task = places[n // 3], tuple(means)[n % 3]
        turn = ONE.turns[i]
        targets = {"emotion": "sadness", "strategy": turn.strategy, "reply": f" {turn.text}"}
        assert learned(example, module.tokenizer) == targets[task] + end
        state = reference.lines(ONE, i, labels)
        state += "Emotion: sadness\n" if n % 3 > 0 else ""
        state += f"Strategy: {turn.strategy}\n" if n % 3 > 1 else ""
        prompt = reference.prompt(ONE, state, task)
        assert prompt.endswith("Supporter:") == (task == "reply")  # the reply goes on from there
        ids = module.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        target = module.tokenizer(targets[task] + end, add_special_tokens=False)["input_ids"]
        assert example.input_ids == ids + target
        with torch.no_grad():
            logits = module.lm(torch.tensor([ids + target])).logits[0, len(ids) - 1 : -1]
        nll = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(target))
        means[task].append(float(nll))
    batch = encoder.collate(examples, sum_head_weights(examples))
    terms = module.losses(batch)
    expected = {task: sum(values) / 4 for task, values in means.items()}
    for task, value in expected.items():
        assert float(terms[task].loss) == pytest.approx(value, rel=1e-4)
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    module.trainer = None
    module.log_terms = lambda stage, t: logged.update(
        {f"{stage}/{n}": float(x.mean) for n, x in t.items()}
    )
    total = float(module.training_step(batch, 0))
    assert logged == {f"train/{t}": pytest.approx(v, rel=1e-4) for t, v in expected.items()}
    sums = expected["emotion"] + 0.5 * expected["strategy"] + 2 * expected["reply"]
    assert total == pytest.approx(sums, rel=1e-4)


@pytest.mark.fidelity("fisminess", 6)
def test_single_pass_learns_one_string(make: Any) -> None:
    module = make("FiSMiness", "tiny-llama", mode="single_pass", **WIDE)
    first = module.encoder()(OTHER)[0]
    told = "Emotion: pain\nStrategy: Self-disclosure\nResponse: Mine too."
    assert learned(first, module.tokenizer) == told + module.encoder().chat.end
    assert first.head_weights() == {i: pytest.approx(1.0) for i in range(3)}


# -- 7: closed lists ---------------------------------------------------------------------------


@pytest.mark.fidelity("fisminess", 7)
@pytest.mark.parametrize("closed", ["constrained", "likelihood", "free"])
def test_labels_are_of_the_lists(make: Any, closed: str) -> None:
    """Whatever a random model says: a name of the list, or the fallback, counted."""
    module = make("FiSMiness", "tiny-qwen2", spread=4.0, closed=closed, **WIDE)
    found = module.respond([*decisions(ONE)[:2], *decisions(OTHER)])
    for one in found:
        assert one.emotion in EMOTIONS
        assert one.strategy in STRATEGIES
        if closed == "free":  # noise means no name
            assert one.failed == ("emotion", "strategy")
            assert (one.emotion, one.strategy) == ("anxiety", "Others")
        else:
            assert one.failed == ()


@pytest.mark.fidelity("fisminess", 7)
@pytest.mark.parametrize("two", TWO)
def test_likelihood_is_the_mean_log_probability(make: Any, two: str) -> None:
    """Over the label's tokens and its end, computed from whole prompts."""
    module = make("FiSMiness", two, spread=4.0, closed="likelihood", **WIDE)
    reference = Reference(module)
    prompt = reference.prompt(ONE, "Seeker: I lost my job.\n", "emotion")
    ids = module.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    scores = []
    for name in EMOTIONS:
        label = [*module.encoder().ids(name), module.encoder().stop_id]
        with torch.no_grad():
            logits = module.lm(torch.tensor([ids + label])).logits[0, len(ids) - 1 : -1].float()
        scores.append(float(logits.log_softmax(-1)[range(len(label)), label].mean()))
    expected = EMOTIONS[scores.index(max(scores))]
    assert module.respond(decisions(ONE)[:1])[0].emotion == expected


@pytest.mark.fidelity("fisminess", 7)
@pytest.mark.parametrize(
    ("words", "emotion", "strategy", "reply", "failed"),
    [
        ("Emotion: fear\nStrategy: questions\nResponse: Why?", "fear", "Question", "Why?", ()),
        ("**Emotion:** fear\n**Strategy:** x\n**Response:** Why?", "fear", *UNSAID, ("strategy",)),
        ("1. Emotion: fear\n2. Strategy: x\n3. Response: Why?", "fear", *UNSAID, ("strategy",)),
        ("Emotion: fear\nStrategy: questions", "fear", "Question", "", ("reply",)),
        ("Response: Why?\nSeeker: So.", "anxiety", *UNSAID, ("emotion", "strategy")),
        ("I see.", "anxiety", "Others", "", ("emotion", "strategy", "reply")),
        ("Emotion: fear. Strategy: Question. Response: Why?", "fear", "Question", "Why?", ()),
        ("Emotion: fear\nStrategy: x\n\nWhy?", "fear", *UNSAID, ("strategy", "reply")),
    ],
)
def test_what_a_single_pass_lacks_is_counted(
    make: Any,
    monkeypatch: Any,
    words: str,
    emotion: str,
    strategy: str,
    reply: str,
    failed: tuple[str, ...],
) -> None:
    module = make("FiSMiness", "tiny-llama", mode="single_pass", **WIDE)
    monkeypatch.setattr(
        SharedContext, "ask", lambda context, questions, **_: [words] * len(questions)
    )
    (one,) = module.respond(decisions(ONE)[:1])
    assert (one.emotion, one.strategy, one.reply, one.failed) == (emotion, strategy, reply, failed)


def test_a_single_pass_keeps_room_for_all_it_writes(make: Any, monkeypatch: Any) -> None:
    module = make("FiSMiness", "tiny-llama", mode="single_pass", **WIDE)
    limits: list[int] = []

    def ask(context: SharedContext, questions: Any, *, max_new_tokens: int, **_: Any) -> list[str]:
        limits.append(max_new_tokens)
        assert context.budget == 8192 - module.encoder().room
        return [""] * len(questions)

    monkeypatch.setattr(SharedContext, "ask", ask)
    module.respond(decisions(ONE)[:1])
    assert module.encoder().room > module.encoder().asking + limits[0]


@pytest.mark.fidelity("fisminess", 7)
def test_free_words_are_read_by_alias(make: Any, monkeypatch: Any) -> None:
    module = make("FiSMiness", "tiny-llama", closed="free", **WIDE)
    words = iter(["They feel anxious.", "approval and reassurance", "Good.", "??", "Hugs", "Hm."])
    monkeypatch.setattr(SharedContext, "ask", lambda self, q, **_: [next(words)] * len(q))
    found = module.respond(decisions(OTHER))
    assert triples(found) == [
        ("anxiety", "Affirmation and Reassurance", "Good."),
        ("anxiety", "Others", "Hm."),
    ]
    assert [one.failed for one in found] == [(), ("emotion", "strategy")]
    pairs = zip(decisions(OTHER), found, strict=True)
    module.answers = {decision.id: (decision, one) for decision, one in pairs}
    scores = module.score_answers([*module.answers.values()], "val")
    assert scores["strategy_failed"] == scores["emotion_failed"] == 50.0


# -- 8: an intervention on g -------------------------------------------------------------------


@pytest.mark.fidelity("fisminess", 8)
@pytest.mark.parametrize("two", TWO)
def test_a_given_strategy_changes_the_reply_alone(make: Any, two: str) -> None:
    module = make("FiSMiness", two, spread=12.0, **{**WIDE, "max_new_tokens": 8})
    state = decisions(ONE)[:1]
    plain = module.respond(state)[0]
    replies = set()
    for name in STRATEGIES[:4]:
        forced = module.respond(state, strategies=[name])[0]
        assert (forced.emotion, forced.strategy) == (plain.emotion, name)
        assert forced.reply == plain.reply or name != plain.strategy
        replies.add(forced.reply)
    assert len(replies) > 1
    assert module.respond(state)[0] == plain


@pytest.mark.fidelity("fisminess", 8)
@pytest.mark.parametrize("two", TWO)
def test_a_single_pass_writes_by_a_given_strategy(make: Any, two: str, monkeypatch: Any) -> None:
    """The emotion is the one it names; the reply goes on from the fields with that strategy."""
    module = make("FiSMiness", two, mode="single_pass", spread=12.0, **WIDE)
    state = decisions(ONE)[:1]
    asked: list[str] = []
    original = SharedContext.ask

    def ask(context: SharedContext, questions: Any, **options: Any) -> list[str]:
        asked.append(questions[0])
        words = original(context, questions, **options)
        return (
            [f"Emotion: fear\nStrategy: Others\nResponse: {words[0]}"] if len(asked) == 1 else words
        )

    monkeypatch.setattr(SharedContext, "ask", ask)
    (one,) = module.respond(state, strategies=["Information"])
    begun = "Emotion: fear\nStrategy: Information\nResponse:"
    assert asked[1] == asked[0] + begun
    assert (one.emotion, one.strategy, one.calls) == ("fear", "Information", 2)
    encoder = module.encoder()
    told = "".join(encoder.before(state[0], encoder.rounds(state[0])))
    ids = encoder.ids(encoder.head(state[0]) + told + asked[1])
    with torch.no_grad():
        for _ in range(WIDE["max_new_tokens"]):
            ids.append(int(module.lm(torch.tensor([ids])).logits[0, -1].argmax()))
    words = module.tokenizer.decode(ids[-WIDE["max_new_tokens"] :], skip_special_tokens=True)
    assert one.reply == read_reply(words, SUPPORT).reply


@pytest.mark.fidelity("fisminess", 8)
def test_each_of_equal_states_follows_its_own_strategy(make: Any) -> None:
    """Eight strategies for one state at once, and one for an early state that leaves later ones."""
    module = make("FiSMiness", "tiny-llama", spread=12.0, **{**WIDE, "max_new_tokens": 8})
    first, last = decisions(ONE)[0], decisions(ONE)[-1]
    alone = [module.respond([first], strategies=[name])[0] for name in STRATEGIES]
    together = module.respond([first] * 8, strategies=STRATEGIES)
    assert [one.strategy for one in together] == list(STRATEGIES)
    assert [one.reply for one in together] == [one.reply for one in alone]
    for name in STRATEGIES[:3]:
        pair = module.respond([first, last], strategies=[name, "Question"])
        assert triples(pair[1:]) == triples(module.respond([last], strategies=["Question"]))


def test_dialogues_that_begin_alike_are_walked_apart(make: Any) -> None:
    """[Hi] is no state of [Hi, My dog died], without ids too; each reply is the one alone."""
    hi, dog = Turn(SEEKER, "Hi"), Turn(SEEKER, "My dog died")
    hello = Turn(SUPPORTER, "Hello.", strategy="Others")
    talks = [
        Dialogue((hi,)),
        Dialogue((hi, dog)),
        Dialogue((hi, hello, dog)),
        Dialogue((hi, replace(hello, text="Hey.")), problem="grief"),
        Dialogue((hello, hi)),
    ]
    module = make("FiSMiness", "tiny-llama", spread=12.0, **{**WIDE, "max_new_tokens": 8})
    together = module.respond(talks)
    for record, one in zip(talks, together, strict=True):
        module.known = {}
        assert triples(module.respond([record])) == triples([one])
    asked = [current_decision(talk) for talk in talks]
    keys = [conversation.key(0) for conversation in group(asked, module.encoder())]
    assert len(set(keys)) == len(keys)


def test_an_opening_without_words_is_no_turn(make: Any) -> None:
    module = make("FiSMiness", "tiny-llama", **WIDE)
    opened = replace(OTHER, turns=(Turn(SUPPORTER, ""), *OTHER.turns[1:]))
    assert len(module.encoder()(opened)) == len(module.encoder()(OTHER))
    assert len(module.respond(decisions(opened))) == len(decisions(OTHER))


# -- the walk of the equations, batched --------------------------------------------------------


@pytest.mark.fidelity("fisminess", 2)
@pytest.mark.parametrize(("two", "oracle"), [("tiny-llama", False), ("tiny-gemma", True)])
def test_batched_walk_is_the_plain_one(make: Any, two: str, oracle: bool) -> None:
    """Dialogues of different lengths together, keys and values kept: the reference's e, g and u."""
    module = make("FiSMiness", two, spread=12.0, oracle_history=oracle, **WIDE)
    reference = Reference(module)
    states = [*decisions(OTHER), *decisions(ONE)[:3]]
    expected = reference.walk(OTHER, 4, gold=oracle)
    expected += reference.walk(replace(ONE, turns=ONE.turns[:6]), 4, gold=oracle)
    found = triples(module.respond(states))
    assert found == expected
    assert len(set(found)) > 1
    module.known = {}  # so that the last state alone walks the turns before it
    assert triples(module.respond(states[-1:])) == expected[-1:]


def test_a_short_window_leaves_out_the_oldest_lines(make: Any) -> None:
    """Batched and one by one, long past is cut alike; a line too long for it is an error."""
    plain = make("FiSMiness", "tiny-llama", **WIDE)
    least = len(plain.encoder().ids(plain.encoder().head(decisions(ONE)[0])))
    window = least + plain.encoder().room + 100
    module = make("FiSMiness", "tiny-llama", spread=5.0, max_new_tokens=4, max_length=window)
    states = decisions(ONE)[1:3]
    together = module.respond(states)
    module.known = {}
    assert [module.respond([state])[0] for state in states] == together
    assert all(len(example) <= window for example in module.encoder()(ONE))
    long = replace(ONE, turns=(Turn(SEEKER, "long " * 50), *ONE.turns[1:]))
    unlabelled = replace(long, turns=tuple(replace(turn, strategy="") for turn in long.turns))
    for record in (long, unlabelled):
        with pytest.raises(InputError, match="talk:1, turn 1: a turn of 258 tokens does not fit"):
            module.encoder()(record)


def test_a_long_dialogue_is_not_read_again_with_every_line(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is read from its beginning once in a quarter of its room, not once a turn."""
    from zoo.decoding import shared_context

    begun = []
    for k in range(60):
        begun += [("", f"It is day {k}."), ("Question", f"And day {k}?")]
    state = decisions(talk(*begun))[-1]
    plain = make("FiSMiness", "tiny-llama", **WIDE)
    encoder = plain.encoder()
    window = len(encoder.ids(encoder.head(state))) + encoder.room + 600
    module = make("FiSMiness", "tiny-llama", max_new_tokens=4, max_length=window)
    text = sum(len(encoder.ids(s)) for s in encoder.before(state, encoder.rounds(state)))
    made = []

    class Counted(shared_context.DepthDecoder):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(1)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(shared_context, "DepthDecoder", Counted)
    module.respond([state])
    spare = 600 // 4
    assert 2 < len(made) <= 1 + text // spare < 60


# -- 9: turn depth -----------------------------------------------------------------------------


@pytest.mark.fidelity("fisminess", 9)
def test_scores_by_turn_depth(make: Any) -> None:
    """Early and late decisions have scores of their own; matrices for TensorBoard are there."""
    module = make("FiSMiness", "tiny-llama", **WIDE)
    turns = [("", "a b c"), ("Question", "one two three")] * 9
    states = decisions(talk(*turns))
    for d in states:
        right = d.depth < 7
        said = SupportReply(
            "one two three" if right else "x", "Question" if right else "Others", "sadness"
        )
        module.answers[d.id] = (d, said)
    scores = module.score_answers([*module.answers.values()], "val")
    assert scores["early/accuracy"] == scores["early/rouge_l"] == pytest.approx(100)
    assert scores["late/accuracy"] == scores["late/rouge_l"] == 0
    assert (scores["early/answers"], scores["late/answers"]) == (7, 2)
    assert scores["emotion_accuracy"] == 100
    assert {"confusion", "emotions", "transitions", "transitions/gold"} <= set(module.figures())


# -- bad input ---------------------------------------------------------------------------------


def test_bad_labels(make: Any) -> None:
    encoder = make("FiSMiness", "tiny-llama", **WIDE).encoder()
    missing = replace(ONE, turns=(*ONE.turns[:1], Turn(SUPPORTER, "Hm."), *ONE.turns[2:]))
    with pytest.raises(InputError, match="talk:1, turn 1: no support strategy is annotated"):
        encoder(missing)
    odd = talk(("", "a"), ("Questoin", "b"))
    with pytest.raises(InputError, match="no support strategy 'Questoin'; did you mean 'Question'"):
        encoder(odd)
    with pytest.raises(InputError, match="no emotion 'rage'"):
        encoder.study([replace(ONE, emotion="rage")], "train")
    with pytest.raises(InputError, match=r"talk:1, turn 1: no emotion is annotated; see model\."):
        encoder.study([replace(ONE, emotion="")], "train")
    encoder.study([replace(ONE, emotion="")], "test")  # there it is only answered
    assert [e.head_weights() for e in encoder(replace(ONE, emotion=""))] == [{}] * 4
    assert len(encoder(talk(("", "a"), ("questions", "b"), emotion="Sad"))) == 3  # aliases
    silent = replace(ONE, turns=tuple(replace(t, strategy="") for t in ONE.turns))
    with pytest.raises(InputError, match="talk:1: no supporter turn has a support strategy"):
        encoder.study([silent], "train")
    encoder.study([silent], "test")
    assert [example.head_weights() for example in encoder(silent)] == [{}] * 4


def test_settings_that_do_not_fit(make: Any) -> None:
    for options, message in (
        ({"emotion_source": "predicted"}, "model.predicted: goes with"),
        ({"agents": {"reply": {"name": "tiny-gemma"}}}, "model.agents: mt has one set of weights"),
        ({"mode": "agent", "agents": {"repl": {}}}, "model.agents: no arrow 'repl'"),
        ({"weights": [1.0]}, "model.weights: give three"),
    ):
        with pytest.raises(InputError, match=message):
            make("FiSMiness", "tiny-llama", **options)


def test_emotions_of_a_file_and_of_turns(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "emotions.jsonl"
    rows = [f'{{"id": "talk:2, turn {i}", "emotion": "{e}"}}' for i, e in ((2, "fear"), (4, "sad"))]
    path.write_text("\n".join(rows) + "\n")
    given = {"emotion_source": "predicted", "predicted": str(path)}
    module = make("FiSMiness", "tiny-llama", **given, **WIDE)
    learned_emotions = [learned(e, module.tokenizer) for e in module.encoder()(OTHER)[::3]]
    end = module.encoder().chat.end
    assert learned_emotions == ["fear" + end, "sadness" + end]
    with pytest.raises(InputError, match="talk:1, turn 1: no emotion for it in the file"):
        module.encoder().study([ONE], "train")
    daily = make(
        *("FiSMiness", "tiny-llama"),
        **{"labels": "acts", "emotions": "daily_dialog", "emotion_source": "annotated", **WIDE},
    )
    record = DailyDialog().records("test")[0]
    targets = [learned(e, daily.tokenizer) for e in daily.encoder()(record)[:2]]
    assert targets == [record.turns[0].emotion + end, record.turns[1].strategy + end]
    from datamodules.daily_dialog import EMOTIONS as DAILY
    from datamodules.empathetic_dialogues import EMOTIONS as EMPATHETIC

    assert EMOTION_SETS["daily_dialog"].names == DAILY
    assert EMOTION_SETS["empathetic_dialogues"].names == EMPATHETIC


# -- 10: direction -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.xfail(
    reason="0.5B (Qwen2.5-Coder-Instruct): B-2 5.2 against 5.5 of direct, which sees past "
    "strategies too; benchmarks/results/2026-11-28-support.md"
)
@pytest.mark.fidelity("fisminess", 10)
@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="ZOO_DATA names no folder with ESConv")
@pytest.mark.skipif("ZOO_TALK_MODEL" not in os.environ, reason="ZOO_TALK_MODEL names no model")
def test_the_machine_beats_direct_prompting(make: Any) -> None:
    """Without training, on 24 decisions of ESConv: B-2 and R-L above direct's, B below.

    It takes a model that follows instructions (a folder or .gguf in ZOO_TALK_MODEL): one of 135M
    names one strategy everywhere, by likelihood, so its bias is the largest there is.
    """
    folder = str(Path(os.environ["ZOO_DATA"]) / "esconv")
    records = ESConv(folder).records("test")[:24]
    found: list[Decision] = [d for record in records for d in decisions(record) if d.depth == 2]
    scores = {}
    for method, options in (
        ("FiSMiness", {"mode": "agent", "oracle_history": True}),
        ("ESCBaseline", {"kind": "direct", "reserve": 512}),
    ):
        name = os.environ["ZOO_TALK_MODEL"]
        module = make(method, name, max_length=1024, max_new_tokens=40, **options)
        said = [one for i in range(0, len(found), 12) for one in module.respond(found[i : i + 12])]
        pairs = zip(found, said, strict=True)
        module.answers = {decision.id: (decision, one) for decision, one in pairs}
        scores[method] = module.score_answers([*module.answers.values()], "val")
    ours, direct = scores["FiSMiness"], scores["ESCBaseline"]
    assert ours["bleu_2"] > direct["bleu_2"]
    assert ours["rouge_l"] > direct["rouge_l"]
    assert ours["bias"] < direct["bias"]

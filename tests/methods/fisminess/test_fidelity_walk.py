"""FiSMiness' walk: its one order, its calls and weights, batches, windows, depth of turns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from methods.fisminess.fisminess_reference import ONE, OTHER, WIDE, Asked, Reference, talk, triples

from zoo.errors import InputError
from zoo.methods.fisminess.conversations import group
from zoo.methods.fisminess.machine import MOVES, IllegalMoveError, Machine
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import current_decision, decisions
from zoo.support.labels import STRATEGIES
from zoo.support.reply import SupportReply

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


@pytest.mark.fidelity("fisminess", 1)
@pytest.mark.parametrize("mode", ["mt", "single_pass"])
def test_every_turn_walks_the_machine(make: Any, monkeypatch: Any, mode: str) -> None:
    """respond moves message, e, g, u_p in each turn, by what it decided; or it fails."""
    module = make("FiSMiness", "tiny-llama", mode=mode, **WIDE)
    moves: list[tuple[str, str]] = []
    move = Machine.move

    def recorded(self: Machine, action: str, text: str) -> Machine:
        moves.append((action, text))
        return move(self, action, text)

    monkeypatch.setattr(Machine, "move", recorded)
    (first, last) = module.respond(decisions(OTHER))
    assert moves == [
        ("message", "She left."),
        ("emotion", first.emotion),
        ("strategy", first.strategy),
        ("reply", "Mine too."),  # with which the dialogue goes on
        ("message", "Hm."),
        ("emotion", last.emotion),
        ("strategy", last.strategy),
        ("reply", last.reply),
    ]
    monkeypatch.setitem(MOVES, "emotion", ("s1", "s2"))
    monkeypatch.setitem(MOVES, "strategy", ("s0", "s1"))
    with pytest.raises(IllegalMoveError, match="no move 'emotion' from s0"):
        module.respond(decisions(OTHER))


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


# -- dialogues apart --------------------------------------------------------------------------


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
    window = least + plain.encoder().room + 120
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

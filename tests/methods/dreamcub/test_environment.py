"""Users to talk with, scripted, played by a judge or replayed, and the replay of what was said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from methods.dreamcub.dreamcub_reference import dialogue, states_of
from methods.dreamcub.test_parts import Player

from zoo.errors import InputError
from zoo.judges.judge import JudgeError
from zoo.methods.dreamcub.encoder import State, heard
from zoo.methods.dreamcub.environment import CUES, LLMEnv, ReplayEnv, ScriptedEnv
from zoo.methods.dreamcub.replay import Experience, Replay
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.labels import ACTS


def test_a_script_has_one_feeling_for_a_dialogue_and_goes_through_its_hints() -> None:
    """Hints take turns; another seed lets other seekers come; what is named counts in any case."""
    env = ScriptedEnv()
    for number in range(4):
        decision = env.open(number)
        hints = env.cues[env.feeling(decision.dialogue)]
        said = [decision.query]
        for _ in range(3):
            utterance, reward = env.answer(decision, Turn(SUPPORTER, "I see."))
            assert reward == 0
            said.append(utterance)
            turns = (*decision.turns, Turn(SUPPORTER, "I see."), Turn(SEEKER, utterance))
            decision = replace(decision, turns=turns)
        assert said == [hints[(hints.index(said[0]) + i) % len(hints)] for i in range(4)]
    found = {ScriptedEnv(seed=seed).feeling("scripted:0") for seed in range(9)}
    assert len(found) > 1
    assert {ScriptedEnv().feeling(f"scripted:{i}") for i in range(40)} == set(CUES)
    right = env.feeling("scripted:0").upper()
    assert env.answer(env.open(0), Turn(SUPPORTER, f"{right}!")) == (None, 1.0)


class Noted(Player):
    """Plays the seeker, keeps what it was asked, and fails as often as it is told to."""

    def __init__(self, failures: int = 0, grades: int = 0) -> None:
        self.left, self.unrated = failures, grades
        self.seeds: list[int | None] = []
        self.asked: list[str] = []

    def write(self, messages: Any, seed: int | None = None) -> str:
        self.seeds.append(seed)
        if self.left:
            self.left -= 1
            raise JudgeError("tired")
        return "I am lost."

    def score(self, messages: Any, candidates: Any, begun: str = "") -> list[float]:
        self.asked.append(messages[-1][1])
        if self.unrated:
            self.unrated -= 1
            raise JudgeError("tired")
        return [float(name == "2") for name in candidates]


def test_a_judge_that_fails_is_asked_twice_more() -> None:
    """Then the situation is what a seeker says first, and a reply has neither answer nor grade."""
    for failures, said in ((2, "I am lost."), (3, "my exam")):
        env = LLMEnv(Noted(failures), ["my exam", "my cat"])
        assert env.open(2).query == said
    env = LLMEnv(judge := Noted(0), ["my exam", "my cat"], seed=7)
    decision = env.open(3)
    assert (decision.situation, decision.dialogue, decision.query) == (
        "my cat",
        "llm:3",
        "I am lost.",
    )
    reply = Turn(SUPPORTER, "Tell me.")
    assert env.answer(decision, reply) == ("I am lost.", 2.0)
    assert [seed // 1000 for seed in judge.seeds] == [10, 10]  # of this dialogue, at every turn
    assert "Seeker: I am lost.\nSupporter: Tell me.\n" in judge.asked[0]
    tired = LLMEnv(Noted(9, 9), ["my exam"])
    assert tired.answer(tired.open(0), reply) == (None, None)
    assert LLMEnv(Noted(0, 2), ["my exam"]).answer(decision, reply).reward == 2.0
    with pytest.raises(InputError, match="llm needs dialogues with a situation"):
        LLMEnv(Noted(), [])


def test_replayed_states_are_those_in_which_somebody_was_heard() -> None:
    """They come round again; a dialogue that a supporter opens is no state to begin with."""
    turns = (Turn(SUPPORTER, "Hi."), Turn(SUPPORTER, "So?"), *dialogue().turns)
    env = ReplayEnv({"d:0": Dialogue(turns, id="d:0")}, ACTS)
    assert {env.open(i).query for i in range(2)} == {"Who is there 0?", "Oh, how nice!"}
    assert [env.open(i) for i in (2, 3)] == [env.open(i) for i in (0, 1)]
    with pytest.raises(InputError, match="replay needs training dialogues"):
        ReplayEnv({}, ACTS)


def test_the_seed_says_in_which_order_logged_states_come() -> None:
    """Every state comes once before any comes again."""
    talks = {f"d:{i}": dialogue(i) for i in range(5)}
    orders = [[ReplayEnv(talks, ACTS, seed).open(i).id for i in range(10)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert (
        set(orders[0]) == set(orders[2]) == {f"d:{i}, turn {t}" for i in range(5) for t in (1, 3)}
    )


def turns_of(letters: str) -> tuple[Turn, ...]:
    """Return a turn for each letter: `s` of the seeker, `h` of the supporter."""
    return tuple(
        Turn(SEEKER if letter == "s" else SUPPORTER, f"{letter}{i}")
        for i, letter in enumerate(letters)
    )


def test_logged_messages_in_a_row_are_one_answer() -> None:
    """Each once and in order, wherever a dialogue is joined and however often somebody spoke."""
    talk = Dialogue(turns_of("hsshhsshshhsh"), id="d:0")
    env, told = ReplayEnv({"d:0": talk}, ACTS), {}
    for number in range(len(env.states)):
        state, said = State(env.open(number)), list[str | None]()
        begun = len(state.decision.turns)
        while not said or said[-1] is not None:
            reply = Turn(SUPPORTER, "I see.")
            said.append(env.answer(state.decision, reply).utterance)
            state = heard(state, reply, said[-1] or "")
        told[begun] = said
    assert told == {
        3: ["s5\ns6", "s8", "s11", None],
        7: ["s8", "s11", None],
        9: ["s11", None],
        12: [None],
    }


class Listening(Noted):
    """Keeps who said what before it writes."""

    def write(self, messages: Any, seed: int | None = None) -> str:
        self.told = list(messages)
        return "I am lost.\nIt is dark."


def test_a_judge_hears_lines_of_its_own_as_one_message() -> None:
    env = LLMEnv(judge := Listening(), ["my exam"])
    reply = Turn(SUPPORTER, "Why?")
    state = heard(State(env.open(0)), reply, env.answer(env.open(0), reply).utterance or "")
    assert [turn.text for turn in state.decision.turns[-2:]] == ["I am lost.", "It is dark."]
    env.answer(state.decision, reply)
    assert judge.told[-2:] == [("assistant", "I am lost.\nIt is dark."), ("user", "Why?")]


def test_a_replay_is_sampled_by_its_seed() -> None:
    replay = Replay(
        [Experience(state.decision, float(i), None) for i, state in enumerate(states_of(*range(9)))]
    )
    rewards = [[each.reward for each in replay.sample(4, seed)] for seed in "aab"]
    assert rewards[0] == rewards[1] != rewards[2]
    assert len(set(rewards[0])) == 4
    assert len(replay.sample(20, "a")) == 9
    replay.fresh, replay.fresh_opened = replay.kept[:1], 3
    replay.commit()
    assert (len(replay.kept), replay.opened, replay.fresh, replay.fresh_opened) == (10, 3, [], 0)

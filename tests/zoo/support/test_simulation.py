"""Conversations with a simulated seeker."""

from __future__ import annotations

from zoo.backbone import Backbone, load
from zoo.judges.judge import Messages, ScriptedJudge
from zoo.judges.local import LocalLLM
from zoo.records import SEEKER, SUPPORTER, Turn
from zoo.support.simulation import (
    STOP,
    SimulatedSeeker,
    seeker_prompt,
    simulate,
    simulation_scores,
)


def test_a_seeker_talks_until_they_wish_to_stop() -> None:
    seen = []

    def seeker(turns: tuple[Turn, ...]) -> str | None:
        return None if len(turns) >= 4 else f"message {len(turns)}"

    def reply(turns: tuple[Turn, ...]) -> str:
        seen.append([turn.speaker for turn in turns])
        return "one two three"

    found = simulate(seeker, reply, max_rounds=9)
    assert [turn.text for turn in found.turns] == [
        *("message 0", "one two three", "message 2", "one two three"),
    ]
    assert (found.rounds, found.stopped) == (2, True)
    assert seen == [[SEEKER], [SEEKER, SUPPORTER, SEEKER]]
    cut = simulate(lambda turns: "more", lambda turns: "yes", max_rounds=3)
    assert (cut.rounds, cut.stopped) == (3, False)
    silent = simulate(lambda turns: None, reply)
    assert (silent.rounds, silent.turns) == (0, ())
    assert simulation_scores([found, cut, silent]) == {
        **{"reply_length": (2 * 3 + 3 * 1) / 5, "rounds": 5 / 3},
        **{"stopped": 2 / 3, "failed": 0},
    }
    assert simulation_scores([silent]) == {"rounds": 0, "stopped": 1, "failed": 0}
    assert simulation_scores([]) == {"rounds": 0, "stopped": 0, "failed": 0}


def test_a_conversation_that_breaks_off_is_kept() -> None:
    """The seeker's third message never comes: two rounds stay; one that is late comes again."""
    late: list[int] = []

    def seeker(turns: tuple[Turn, ...]) -> str:
        late.append(len(turns))
        if len(turns) == 4 or late == [0]:
            raise TimeoutError("60 s")
        return "message"

    broken = simulate(seeker, lambda turns: "one two", retries=2)
    assert (broken.rounds, broken.stopped) == (2, False)
    assert broken.failure == "seeker: TimeoutError: 60 s"
    assert late == [0, 0, 2, 4, 4, 4]
    whole = simulate(lambda turns: None, lambda turns: "")
    assert simulation_scores([broken, whole]) == {"rounds": 0, "stopped": 1, "failed": 0.5}

    def mute(turns: tuple[Turn, ...]) -> str:
        raise ConnectionError("gone")

    unheard = simulate(lambda turns: "Hello?", mute)
    assert [turn.text for turn in unheard.turns] == ["Hello?"]
    assert unheard.failure == "supporter: ConnectionError: gone"


def test_an_opening_is_heard_but_counts_as_no_round() -> None:
    heard = []

    def seeker(turns: tuple[Turn, ...]) -> str | None:
        heard.append(turns[0].text)
        return None if len(turns) > 2 else "Hi."

    found = simulate(seeker, lambda turns: str(len(turns)), opening=[Turn(SUPPORTER, "Welcome.")])
    assert heard == ["Welcome."] * 2
    assert [turn.text for turn in found.turns] == ["Hi.", "2"]


def test_a_model_plays_the_seeker() -> None:
    lm, tokenizer = load(Backbone("tiny-llama"))
    llm = LocalLLM(lm.eval(), tokenizer, max_new_tokens=12)
    found = simulate(SimulatedSeeker(llm, "exams"), lambda turns: "I see.", max_rounds=2)
    again = simulate(SimulatedSeeker(llm, "exams"), lambda turns: "I see.", max_rounds=2)
    assert found == again
    assert found.rounds == 2 or found.stopped


def test_a_seeker_who_is_done_stops() -> None:
    heard = []

    class Tired(ScriptedJudge):
        def write(self, messages: Messages, seed: int | None = None) -> str:
            heard.append(messages[0][1])
            return f"That is all. {STOP}"

    ended = simulate(SimulatedSeeker(Tired(str), "exams"), lambda turns: "I see.")
    assert (ended.rounds, ended.stopped) == (0, True)
    assert "about this: exams" in heard[0]
    assert STOP in heard[0]


def test_the_seekers_chat_begins_with_the_other_side() -> None:
    turns = [Turn(SEEKER, "Hi."), Turn(SUPPORTER, "Hello.")]
    assert [role for role, _ in seeker_prompt("x", turns)] == [
        *("system", "user", "assistant", "user"),
    ]
    assert [role for role, _ in seeker_prompt("x", turns[1:])] == ["system", "user"]

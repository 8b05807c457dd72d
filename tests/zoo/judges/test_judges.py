"""Judges: scripted, recorded and local; retries; simulated seekers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from transformers.cache_utils import DynamicCache

from zoo.backbone import Backbone, load
from zoo.errors import InputError
from zoo.judges.judge import (
    Grade,
    Judge,
    JudgeError,
    Verdict,
    against_data,
    both_orders,
    grade_all,
    persist,
    win_rates,
)
from zoo.judges.local import LocalJudge, LocalLLM, LocalSeeker
from zoo.judges.recorded import RecordedJudge
from zoo.judges.scripted import ScriptedJudge
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import Decision, decisions
from zoo.support.judge_prompts import comparison, grading, read_choice, read_grade
from zoo.support.seeker_prompts import STOP, seeker_prompt
from zoo.support.simulation import simulate, simulation_scores


def points(count: int = 3) -> list[tuple[Decision, Turn]]:
    found = []
    for i in range(count):
        turns = (Turn(SEEKER, f"I worry about {i}."), Turn(SUPPORTER, f"gold {i}", "Question"))
        (decision,) = decisions(Dialogue(turns, "anxiety", "exams", f"Exam {i}.", id=f"d{i}"))
        found.append((decision, Turn(SUPPORTER, f"reply {i}", "Others")))
    return found


class Flaky:
    """Fails a number of times on each question, then prefers the longer reply."""

    name = "flaky"

    def __init__(self, failures: int, error: Callable[[], Exception]) -> None:
        self.failures, self.error, self.attempts = failures, error, []

    def compare(self, decision: Decision, first: Turn, second: Turn, attempt: int = 0) -> Verdict:
        self.attempts.append(attempt)
        if attempt < self.failures:
            raise self.error()
        return Verdict("A" if len(first.text) > len(second.text) else "B", "because")

    def grade(self, decision: Decision, candidate: Turn, attempt: int = 0) -> Grade:
        self.attempts.append(attempt)
        if attempt < self.failures:
            raise self.error()
        return Grade(4.0, "warm")


# -- retries -----------------------------------------------------------------------------------

ERRORS = [lambda: JudgeError("rubbish", "??"), TimeoutError, lambda: ConnectionError("gone")]


@pytest.mark.parametrize("error", ERRORS)
def test_a_failing_judge_is_asked_again(error: Callable[[], Exception]) -> None:
    judge = Flaky(2, error)
    outcomes = against_data(judge, points(2), retries=2)
    assert [o.result for o in outcomes] == ["win", "win"]
    assert judge.attempts == [0, 1, 2] * 4  # two orders of two samples
    assert all(len(o.failures) == 4 for o in outcomes)
    assert win_rates(outcomes) == {
        **{"win": 100, "tie": 0, "lose": 0},
        **{"judged": 2, "failed": 0, "retried": 2},
    }


@pytest.mark.parametrize("error", ERRORS)
def test_a_sample_that_fails_every_time_is_marked_and_the_run_goes_on(
    error: Callable[[], Exception],
) -> None:
    flaky, sound = Flaky(9, error), ScriptedJudge({"gold 0": 1, "reply 0": 2})

    class Mixed(ScriptedJudge):
        def compare(self, decision: Decision, *rest: Any, **options: Any) -> Verdict:
            return (flaky if decision.id.startswith("d1") else sound).compare(
                decision, *rest, **options
            )

    first, second, third = against_data(Mixed(), points(3), retries=1)
    assert (first.result, second.result, third.result) == ("win", "failed", "failed")
    assert second.choices == (None, None)
    assert len(second.failures) == 4
    assert type(error()).__name__ in second.failures[0]
    assert win_rates([first, second])["win"] == 100
    assert win_rates([first, second])["failed"] == 1
    assert win_rates([second]) == {"judged": 0, "failed": 1, "retried": 0}


def test_half_a_failure_is_a_failure() -> None:
    class OneWay(ScriptedJudge):
        def compare(
            self, decision: Decision, first: Turn, second: Turn, attempt: int = 0
        ) -> Verdict:
            if first.text.startswith("gold"):
                raise JudgeError("no")
            return Verdict("A")

    (outcome,) = against_data(OneWay(), points(1))
    assert (outcome.result, outcome.choices) == ("failed", ("A", None))


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        against_data(Flaky(1, ZeroDivisionError), points(1))


def test_grades() -> None:
    graded = grade_all(Flaky(1, TimeoutError), points(2), retries=1)
    assert [(g.id, g.value, len(g.failures)) for g in graded] == [
        ("d0, turn 1", 4.0, 1),
        ("d1, turn 1", 4.0, 1),
    ]
    assert [g.value for g in grade_all(Flaky(1, TimeoutError), points(2), retries=0)] == [None] * 2


def test_a_scripted_function_may_use_the_datas_ratings() -> None:
    turns = (
        *(Turn(SEEKER, "Hi."), Turn(SUPPORTER, "Why?", "Question")),
        Turn(SEEKER, "So.", feedback=5),
    )
    (decision,) = decisions(Dialogue(turns))
    judge = ScriptedJudge(lambda d, t: float(d.feedback or 0))
    assert judge.grade(decision, decision.target).value == 5
    assert judge.compare(decision, decision.target, decision.target).choice == "tie"


# -- recorded answers --------------------------------------------------------------------------


def test_answers_are_recorded_and_replayed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "judge.jsonl"
    judge = RecordedJudge(path, Flaky(0, TimeoutError))
    outcomes, graded = against_data(judge, points()), grade_all(judge, points())
    assert judge.asked == 9
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 9
    assert lines[0] == {
        **{"kind": "compare", "id": "d0, turn 1", "key": lines[0]["key"]},
        **{"judge": "flaky", "choice": "A", "words": "because"},
    }
    again = RecordedJudge(path, Flaky(9, TimeoutError))
    assert (against_data(again, points()), grade_all(again, points())) == (outcomes, graded)
    assert again.asked == 0
    replayed = RecordedJudge(path)
    assert against_data(replayed, reversed(points())) == outcomes[::-1]
    assert len(path.read_text().splitlines()) == 9


def test_a_question_is_all_that_the_judge_sees(tmp_path: Path) -> None:
    judge = RecordedJudge(tmp_path / "j.jsonl", Flaky(0, TimeoutError))
    (decision, reply), *_ = points()
    judge.grade(decision, reply)
    for other in (
        (decision, replace(reply, text="else")),
        (decision, replace(reply, strategy="Question")),
        (replace(decision, situation="else"), reply),
        (replace(decision, emotion="else"), reply),
        (replace(decision, turns=(Turn(SEEKER, "else"),)), reply),
    ):
        before = judge.asked
        judge.grade(*other)
        assert judge.asked == before + 1
    judge.grade(replace(decision, id="moved", depth=7), reply)  # the same question elsewhere
    assert judge.asked == 6


def test_failed_answers_are_kept_for_reading_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    (outcome,) = against_data(
        RecordedJudge(path, Flaky(9, lambda: JudgeError("no verdict", "I like both"))),
        points(1),
        retries=1,
    )
    assert outcome.result == "failed"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["words"] for line in lines] == ["I like both"] * 4
    assert [line["error"] for line in lines] == ["no verdict"] * 4
    again = RecordedJudge(path, Flaky(0, TimeoutError))
    assert again.failed == 4
    assert against_data(again, points(1))[0].result == "win"
    assert against_data(RecordedJudge(path), points(1))[0].result == "win"


def test_what_is_not_on_file_fails_without_a_judge(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    against_data(RecordedJudge(path, Flaky(0, TimeoutError)), points(1))
    outcomes = against_data(RecordedJudge(path), points(2))
    assert [o.result for o in outcomes] == ["win", "failed"]
    assert "no recorded answer in j.jsonl" in outcomes[1].failures[0]


def test_a_torn_line_is_cut_off_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    outcomes = against_data(RecordedJudge(path, Flaky(0, TimeoutError)), points())
    whole = path.read_bytes()
    for cut in (1, 20, len(whole.rstrip(b"\n").rpartition(b"\n")[2])):
        path.write_bytes(whole[:-cut])
        assert len(RecordedJudge(path).known) == 5
        assert path.read_bytes() == whole[:-cut]  # replaying changes nothing
        judge = RecordedJudge(path, Flaky(0, TimeoutError))
        assert against_data(judge, points()) == outcomes
        assert judge.asked == 1
        assert path.read_bytes() == whole


KILLED = """
import os
from zoo.judges.judge import Verdict, against_data
from zoo.judges.recorded import RecordedJudge
from zoo.judges.scripted import ScriptedJudge
from zoo.support.decisions import decisions
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn

asked = []

def dies(decision, first, second):
    asked.append(decision.id)
    if len(asked) == 4:
        os.kill(os.getpid(), 9)
    return "A"

cases = []
for i in range(3):
    turns = (Turn(SEEKER, f"worry {i}"), Turn(SUPPORTER, f"gold {i}", "Question"))
    (decision,) = decisions(Dialogue(turns, id=f"d{i}"))
    cases.append((decision, Turn(SUPPORTER, f"reply {i}")))
"""
RUN = "against_data(RecordedJudge(sys.argv[1], ScriptedJudge(compare=dies)), cases)"


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    code = f"import sys\n{KILLED}\n{RUN}"
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=environment)
    assert done.returncode == -9
    scope: dict[str, Any] = {}
    exec(KILLED, scope)
    judge = RecordedJudge(path, ScriptedJudge(compare=lambda *_: "B"))
    assert len(judge.known) == 3
    results = [o.choices for o in against_data(judge, scope["cases"])]
    assert results == [("A", "A"), ("A", "B"), ("B", "B")]  # three from before, three new
    assert judge.asked == 3


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{", "j.jsonl:2: no recorded answer"),
        ("[]", "j.jsonl:2: no recorded answer"),
        ('{"kind": "compare", "judge": "flaky"}', "j.jsonl:2: no recorded answer ('key')"),
        ('{"kind": "rank", "judge": "flaky", "key": "1"}', "no recorded answer ('rank')"),
        ('{"kind": "grade", "judge": "flaky", "key": "1"}', "without choice, grade or error"),
        (
            '{"kind": "grade", "judge": "x", "key": "1", "grade": 2, "words": ""}',
            "an answer of 'x', but the judge is 'flaky'; use another file",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, line: str, part: str) -> None:
    path = tmp_path / "j.jsonl"
    grade_all(RecordedJudge(path, Flaky(0, TimeoutError)), points(1))
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError) as caught:
        RecordedJudge(path, Flaky(0, TimeoutError))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of recorded answers"):
        RecordedJudge(tmp_path / "no.jsonl")


# -- wording -----------------------------------------------------------------------------------


def test_the_judge_sees_history_strategies_and_both_replies() -> None:
    (decision, reply), *_ = points(1)
    (_, system), (_, asked) = comparison(decision, reply, decision.target)
    order = ["strategy that fits", "overall quality", "natural", "consistent", "[[A]]", "[[C]]"]
    assert [system.index(word) for word in order] == sorted(system.index(word) for word in order)
    for part in (
        "Situation: Exam 0.",
        "Seeker's emotion: anxiety",
        "Seeker: I worry about 0.",
        "Reply A (strategy: Others):\nreply 0",
        "Reply B (strategy: Question):\ngold 0",
    ):
        assert part in asked


def test_a_strategy_alone_can_be_graded() -> None:
    (decision, _), *_ = points(1)
    (_, _), (_, asked) = grading(decision, Turn(SUPPORTER, "", "Self-disclosure"))
    assert "next strategy: Self-disclosure (tell of something similar" in asked
    assert "next reply" not in asked
    (_, _), (_, asked) = grading(decision, Turn(SUPPORTER, "Why?"))
    assert "next strategy" not in asked
    assert "next reply: Why?" in asked


def test_reading_of_answers() -> None:
    assert read_choice("[[A]] no, wait: [[ C ]]") == "tie"
    assert [read_choice(t) for t in ("[A]", "[[D]]", "", "A is better")] == [None] * 4
    assert [read_grade(t) for t in ("[[0]]", "[[3.5]]", "[[4/5]]", "[[1]] [[5]]")] == [0, 3.5, 4, 5]
    assert [read_grade(t) for t in ("[[6]]", "[[-1]]", "4", "")] == [None] * 4


# -- local models ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llm() -> LocalLLM:
    lm, tokenizer = load(Backbone("tiny-llama"))
    return LocalLLM(lm.eval(), tokenizer, max_new_tokens=12, name="tiny")


def says(llm: LocalLLM, words: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Let a model say given words; return what it is asked, with the seed."""
    asked: list[tuple[Any, Any]] = []

    def write(turns: Any, seed: int | None = None) -> str:
        asked.append((turns, seed))
        return words

    monkeypatch.setattr(llm, "write", write)
    return asked


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2", "tiny-gemma"])
def test_generation_is_greedy_and_that_of_the_plain_loop(name: str) -> None:
    lm, tokenizer = load(Backbone(name))
    writer = LocalLLM(lm.eval(), tokenizer, max_new_tokens=8)
    chat = [("system", "Be kind."), ("user", "Hi.")]
    ids = writer.ids(chat)
    rendered = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n"
    assert tokenizer.decode(ids) == rendered + "<|im_start|>assistant\n"
    for _ in range(8):
        logits = lm(input_ids=torch.tensor([ids])).logits[0, -1]
        ids.append(int(logits.argmax()))
        if ids[-1] == writer.stop_id:
            break
    plain = tokenizer.decode(ids[len(writer.ids(chat)) :], skip_special_tokens=True).strip()
    assert writer.write(chat) == plain


def test_sampling_has_a_seed_and_leaves_the_global_state_alone(llm: LocalLLM) -> None:
    chat = [("user", "Hi.")]
    state = torch.get_rng_state()
    one, same, other = (llm.write(chat, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert llm.write(chat) == llm.write(chat)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_writes_rubbish_is_asked_again_by_sampling(llm: LocalLLM) -> None:
    judge: Judge = LocalJudge(llm)
    (outcome,) = against_data(judge, points(1), retries=1)
    assert outcome.result == "failed"
    assert "no [[A]], [[B]] or [[C]] in the answer" in outcome.failures[0]
    (graded,) = grade_all(judge, points(1), retries=0)
    assert "no grade from 0 to 5" in graded.failures[0]


def test_a_models_verdict_is_read(llm: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = says(llm, "The first one. [[A]] [[3]]", monkeypatch)
    judge = LocalJudge(llm)
    (decision, reply), *_ = points(1)
    words = "The first one. [[A]] [[3]]"
    assert judge.compare(decision, reply, decision.target) == Verdict("A", words)
    assert judge.grade(decision, reply, attempt=2).value == 3
    assert [seed for _, seed in asked] == [None, 2]  # greedy first, then sampled
    assert both_orders(judge, decision, reply, decision.target).result == "tie"


def test_a_model_without_verdict_can_be_forced(
    llm: LocalLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is then the likeliest after its words, the grade the mean under its odds."""
    judge = LocalJudge(llm, forced=True)
    assert judge.name == "tiny-forced"
    (decision, reply), *_ = points(1)
    words = "I like both."
    asked = says(llm, words, monkeypatch)
    verdict, grade = judge.compare(decision, reply, reply), judge.grade(decision, reply)
    assert verdict.words == grade.words == words
    odds = []
    for (chat, _), options in zip(asked, ("ABC", "012345"), strict=True):
        ids = llm.ids(chat) + llm.tokenizer(f"{words}\n[[")["input_ids"]
        logits = llm.lm(input_ids=torch.tensor([ids])).logits[0, -1]
        odds.append(logits[[llm.tokenizer(o)["input_ids"][0] for o in options]].softmax(0))
    assert verdict.choice == ("A", "B", "tie")[int(odds[0].argmax())]
    assert grade.value == pytest.approx((odds[1] * torch.arange(6)).sum().item(), abs=1e-4)
    says(llm, "[[B]] [[2]]", monkeypatch)  # what it says itself comes first
    assert judge.compare(decision, reply, reply).choice == "B"
    assert judge.grade(decision, reply).value == 2


def test_options_are_weighed_by_all_their_tokens(llm: LocalLLM) -> None:
    """Odds are those of reading every option behind the whole prompt, which is read once."""
    chat, options = [("user", "Hi.")], [" am", " was here", "!", " a"]
    llm = LocalLLM(llm.lm, llm.tokenizer)
    read: list[int] = []
    inputs = llm.lm.get_input_embeddings()
    handle = inputs.register_forward_hook(lambda module, args, out: read.append(args[0].numel()))
    shares = llm.weigh(chat, "I", options)
    handle.remove()
    prompt = len(llm.ids(chat)) + 1  # a byte is a token
    assert sum(read) == prompt + sum(len(option) - 1 for option in options)
    scores = []
    for option in options:
        ids = llm.ids(chat) + llm.tokenizer(f"I{option}")["input_ids"]
        logs = llm.lm(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        scores.append(sum(logs[i - 1, ids[i]] for i in range(prompt, len(ids))))
    assert shares == pytest.approx(torch.stack(scores).softmax(0).tolist(), abs=1e-5)


def test_what_prompts_share_is_read_once(llm: LocalLLM) -> None:
    """The answer is that of a model that never read a prompt before, also after other prompts."""
    llm, fresh = (LocalLLM(llm.lm, llm.tokenizer, max_new_tokens=12) for _ in range(2))
    read: list[int] = []
    inputs = llm.lm.get_input_embeddings()
    handle = inputs.register_forward_hook(lambda module, args, out: read.append(args[0].numel()))
    chats = [[("user", text)] for text in ("I lost my job.", "I lost my keys, again.", "No.")]
    chats += [chats[1], chats[1], chats[0]]
    for chat in chats:
        fresh.cache, fresh.read = DynamicCache(), []
        words, odds = fresh.write(chat), fresh.weigh(chat, "\n[[", "ABC")
        del read[:]
        assert llm.write(chat) == words
        common = read[0]
        assert llm.weigh(chat, "\n[[", "ABC") == pytest.approx(odds, abs=1e-5)
        assert read[-1] == len("\n[[")
    assert common < len(llm.ids(chats[0])) - len("I lost my ")
    llm.write(chats[0])
    before = len(read)
    llm.write(chats[0])
    assert read[before] == 1  # what it was asked last: the last token alone
    handle.remove()


def test_old_turns_are_left_out_of_a_long_conversation(
    llm: LocalLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = []
    for i in range(30):
        turns += [Turn(SEEKER, f"worry number {i} " * 5), Turn(SUPPORTER, f"why {i}", "Question")]
    decision = decisions(Dialogue(tuple(turns), id="long"))[-1]
    asked = says(llm, "[[B]]", monkeypatch)
    LocalJudge(llm).compare(decision, decision.target, decision.target)
    (chat, _) = asked[0]
    assert llm.fits(chat)
    assert "worry number 29" in chat[1][1]
    assert "worry number 0 " not in chat[1][1]


def test_a_prompt_that_cannot_fit_fails(llm: LocalLLM) -> None:
    long = Turn(SUPPORTER, "x" * 3000)
    (decision, _), *_ = points(1)
    outcome = both_orders(LocalJudge(llm), decision, long, long, retries=0)
    assert "does not fit into max_length=2048" in outcome.failures[0]


def test_a_model_out_of_time_fails() -> None:
    lm, tokenizer = load(Backbone("tiny-llama"))
    writer = LocalLLM(lm.eval(), tokenizer, max_new_tokens=400, timeout=1e-9)
    writer.stop_id = -1  # a random model never stops
    with pytest.raises(TimeoutError, match="no answer within"):
        writer.write([("user", "Hi.")])


# -- simulated seekers -------------------------------------------------------------------------


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


def test_a_model_plays_the_seeker(llm: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    found = simulate(LocalSeeker(llm, "exams"), lambda turns: "I see.", max_rounds=2)
    again = simulate(LocalSeeker(llm, "exams"), lambda turns: "I see.", max_rounds=2)
    assert found == again
    assert found.rounds == 2 or found.stopped
    asked = says(llm, f"That is all. {STOP}", monkeypatch)
    ended = simulate(LocalSeeker(llm, "exams"), lambda turns: "I see.")
    assert (ended.rounds, ended.stopped) == (0, True)
    (chat, _), *_ = asked
    assert "about this: exams" in chat[0][1]
    assert STOP in chat[0][1]


def test_the_seekers_chat_begins_with_the_other_side() -> None:
    turns = [Turn(SEEKER, "Hi."), Turn(SUPPORTER, "Hello.")]
    assert [role for role, _ in seeker_prompt("x", turns)] == [
        *("system", "user", "assistant", "user"),
    ]
    assert [role for role, _ in seeker_prompt("x", turns[1:])] == ["system", "user"]


@pytest.mark.slow
def test_a_real_model_judges_and_seeks(tmp_path: Path) -> None:
    """A small instruction-tuned model is asked, recorded and retried, and holds a conversation."""
    writer = LocalLLM.load(Backbone("smollm2-135m"), max_new_tokens=48)
    judge = RecordedJudge(tmp_path / "j.jsonl", LocalJudge(writer))
    (graded,) = grade_all(judge, points(1), retries=1)
    assert judge.asked == len(graded.failures) + (graded.value is not None)
    lines = [json.loads(line) for line in judge.path.read_text().splitlines()]
    assert all(line["words"] for line in lines)  # it says something each time
    talked = simulate(LocalSeeker(writer, "my exams"), lambda turns: "Go on.", max_rounds=2)
    assert talked.rounds == 2 or talked.stopped
    assert all(turn.text for turn in talked.turns)


@pytest.mark.parametrize("value", ["4", None, float("nan"), 99, -1])
def test_a_grade_is_a_number_from_0_to_5(value: Any) -> None:
    with pytest.raises(JudgeError, match="no grade from 0 to 5"):
        Grade(value, "words")


def test_a_verdict_is_a_b_or_tie() -> None:
    choice: Any = "D"
    with pytest.raises(JudgeError, match="no verdict: 'D'"):
        Verdict(choice)


@pytest.mark.parametrize(
    "answer", [{"grade": "4", "words": ""}, {"grade": 4.0}, {"grade": 99, "words": ""}]
)
def test_a_recorded_line_that_is_no_answer(tmp_path: Any, answer: dict[str, Any]) -> None:
    file = tmp_path / "grades.jsonl"
    file.write_text(json.dumps({"kind": "grade", "judge": "j", "key": "k", **answer}) + "\n")
    with pytest.raises(InputError, match="grades.jsonl:1: no recorded answer"):
        RecordedJudge(file)


@pytest.mark.parametrize(
    ("error", "goes_on"), [(URLError("timed out"), True), (OSError(28), False)]
)
def test_a_lost_connection_is_a_failure_and_a_full_disk_is_not(
    error: OSError, goes_on: bool
) -> None:
    def ask(attempt: int) -> Grade:
        raise error

    if goes_on:
        found, why = persist(ask, retries=1)
        assert (found, len(why)) == (None, 2)
    else:
        with pytest.raises(OSError, match="28"):
            persist(ask, retries=1)

"""Scores of candidates: by the reference, by a judge's probabilities, by its words; segments."""

import json
import re
from typing import Any

import pytest
from methods.alpo.alpo_blocks import block

from zoo.errors import InputError
from zoo.methods.alpo.rubric import GRADES, LETTERS, VIVIDNESS, grade_of_one, read_scores, shown
from zoo.methods.alpo.scoring import ChoiceScorer, JsonScorer, ReferenceScorer
from zoo.methods.alpo.segments import line_starts, semantic_starts
from zoo.records import SubtitleBlock

LINES = tuple(f"line {i}" for i in range(20))
BLOCK = SubtitleBlock(
    LINES, LINES, before=("b",), target_before=("b",), source_language="zh", id="e:1"
)
TEXTS = ("I am hungry.", "I could eat a horse.", "Hungry.", "Me eat.")
CANDIDATES = tuple((text,) for text in TEXTS)
WORTH = dict(zip(TEXTS, (60, 90, 40, 10), strict=True))


class Judge:
    """Answers by functions of what is asked."""

    name = "scripted"

    def __init__(self, write=None, score=None, room=True):
        self.said, self.weighed, self.room = write, score, room
        self.asked = []

    def fits(self, messages):
        return self.room

    def write(self, messages, seed=None):
        self.asked.append((messages[-1][1], seed))
        return self.said(messages[-1][1])

    def score(self, messages, candidates, begun=""):
        return self.weighed(messages[-1][1], candidates)


def listed(asked):
    """Return the candidates of a question by letter."""
    rows = re.findall(r"^([A-Z]): (\".*\")$", asked.split("Candidates:")[1], re.MULTILINE)
    return {letter: json.loads(text) for letter, text in rows}


def honest(asked):
    return f"Here: {json.dumps({letter: WORTH[text] for letter, text in listed(asked).items()})}"


def test_the_reference_scores_itself_best():
    scorer = ReferenceScorer()
    scores = scorer(
        BLOCK, 0, 1, (("I am hungry.",), ("I am so hungry.",), ("Xyz",), ("I am hung",))
    )
    assert scores[0] == pytest.approx(100)
    assert 100 > scores[1] > scores[3] > scores[2] >= 0
    # 70 % chrF, which is 0 here, and 30 % the ratio of the lengths
    assert scorer(BLOCK, 0, 1, (("aaaa",), ("bb",)))[1] == pytest.approx(15)


def test_votes_are_in_shuffled_orders_and_averaged():
    judge = Judge(honest)
    assert JsonScorer(judge)(BLOCK, 3, 4, CANDIDATES) == (60, 90, 40, 10)
    assert len(judge.asked) == 4
    assert len({tuple(listed(asked).values()) for asked, _ in judge.asked}) > 1
    assert len({seed for _, seed in judge.asked}) == 4
    votes = iter((10, 20, 30, 40))

    def drifting(asked):
        vote = next(votes)
        return json.dumps({c: WORTH[t] // 10 + vote for c, t in listed(asked).items()})

    assert JsonScorer(Judge(drifting))(BLOCK, 3, 4, CANDIDATES) == (31, 34, 29, 26)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ('{"A": 101, "B": 2, "C": 3, "D": 4}', "refused: a score out of range"),
        ('{"A": -1, "B": 2, "C": 3, "D": 4}', "refused: a score out of range"),
        ('{"A": 1.5, "B": 2, "C": 3, "D": 4}', "refused: no verdict"),
        ('{"A": 1, "B": 2, "C": 3}', "refused: no verdict"),
        ('{"A": 1, "B": 2, "C": 3, "E": 4}', "refused: no verdict"),
        ('{"A": 1, "B": 2, ', "refused: no verdict"),
        ("all of them are fine", "refused: no verdict"),
    ],
)
def test_bad_answers_are_refused_counted_and_asked_again(wrong, reason):
    answers = iter([wrong, wrong])
    judge = Judge(lambda asked: next(answers, None) or honest(asked))
    scorer = JsonScorer(judge, votes=1, retries=2)
    assert scorer(BLOCK, 3, 4, CANDIDATES) == (60, 90, 40, 10)
    assert scorer.counts == {reason: 2, "scored": 1}
    scorer = JsonScorer(Judge(lambda _: wrong), votes=2, retries=3)
    assert scorer(BLOCK, 3, 4, CANDIDATES) is None
    assert scorer.counts == {
        reason: 8,
        "votes without a verdict": 2,
        "segments without a verdict": 1,
    }


def test_nearly_equal_scores_are_no_judgement():
    """Fewer than 25 % distinct scores: 1 of 5 is refused, 1 of 4 is not."""
    equal = dict.fromkeys(LETTERS, 50)
    words = [json.dumps({k: equal[k] for k in LETTERS[:n]}) for n in (4, 5)]
    assert read_scores(words[0], 4) == [50] * 4
    scorer = JsonScorer(Judge(lambda _: words[1]), votes=1, retries=0)
    assert scorer(BLOCK, 3, 4, (*CANDIDATES, ("x",))) is None
    assert scorer.counts["refused: too few distinct scores"] == 1


def test_bad_settings():
    with pytest.raises(InputError, match="votes: 0"):
        JsonScorer(Judge(honest), votes=0)
    with pytest.raises(InputError, match="27 candidates"):
        JsonScorer(Judge(honest))(BLOCK, 3, 4, tuple((str(i),) for i in range(27)))


def test_grades_by_likelihood():
    """A liking for a letter cancels out; certainty of a grade is its points."""
    by_letter = ChoiceScorer(Judge(score=lambda _, letters: [1.0] + [0.0] * (len(letters) - 1)))
    assert by_letter(BLOCK, 3, 4, CANDIDATES) == (50, 50, 50, 50)

    def by_grade(asked, letters):
        text = asked.split("Translation:\n")[1].split("\n")[0]
        grade = {60: "fair", 90: "excellent", 40: "good", 10: "useless"}[WORTH[text]]
        return [float(f"{letter}: {grade}" in asked) for letter in letters]

    assert ChoiceScorer(Judge(score=by_grade))(BLOCK, 3, 4, CANDIDATES) == (50, 100, 75, 0)
    full = ChoiceScorer(Judge(score=by_grade, room=False))
    assert full(BLOCK, 3, 4, CANDIDATES) is None
    assert full.counts["too long for the judge"] == 1


def test_what_a_judge_sees():
    rows = shown(BLOCK, 9, 11).split("\n")
    assert rows == [
        *(f"   line {i}" for i in range(2, 9)),
        *(f">> line {i}" for i in (9, 10)),
        *(f"   line {i}" for i in range(11, 18)),
    ]
    assert shown(BLOCK, 0, 1).split("\n")[:2] == ["   b", ">> line 0"]
    training = grade_of_one(BLOCK, 0, 1, ("x",))[-1][1]
    assert "accuracy (30 %)" in training
    alone = grade_of_one(BLOCK, 0, 1, ("x",), GRADES, VIVIDNESS)[-1][1]
    assert "accuracy does not count" in alone
    assert "30 %" not in alone


def test_semantic_segments():
    """A segment begins where the judge says that a line is not coherent with the one before."""

    def tag(asked, _):
        new = asked.split("The next line:\n")[1].split("\n")[0] in ("line 3", "line 5")
        return [float(not new), float(new)]

    episode = SubtitleBlock(LINES[:8], id="e")
    assert semantic_starts(episode, Judge(score=tag)) == (0, 3, 5)
    assert semantic_starts(episode, Judge(score=tag), max_lines=2) == (0, 2, 3, 5, 7)
    assert line_starts(episode) == tuple(range(8))
    with pytest.raises(InputError, match="e: line 2 does not fit"):
        semantic_starts(episode, Judge(score=tag, room=False))


class Voter:
    """Says the same scores in every vote and keeps its seeds."""

    name = "voter"

    def __init__(self, *said: Any) -> None:
        self.said, self.seeds, self.orders = list(said), [], []

    def write(self, messages: Any, seed: int | None = None) -> str:
        self.seeds.append(seed)
        self.orders.append(messages[-1][1].split("Candidates:")[1])
        answer = self.said.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_every_vote_and_every_retry_has_a_seed_of_its_own() -> None:
    """A retry shows the same order; a judge out of reach is counted as such."""
    good, bad = '{"A": 1, "B": 2}', "no"
    judge = Voter(bad, TimeoutError("late"), good, good)
    scorer = JsonScorer(judge, votes=2, retries=2, seed=5)
    assert scorer(block(1), 0, 1, [("a",), ("b",)]) is not None
    assert len(set(judge.seeds)) == 4
    assert min(judge.seeds) > 5
    assert len(set(judge.orders[:3])) == 1
    assert scorer.counts == {"refused: no verdict": 1, "judge out of reach": 1, "scored": 1}
    other = Voter(good)
    JsonScorer(other, votes=1, seed=6)(block(1), 0, 1, [("a",), ("b",)])
    assert other.seeds[0] != judge.seeds[0]
    for votes, retries in ((0, 0), (1, -1)):
        with pytest.raises(InputError, match=f"votes: {votes}, retries: {retries}"):
            JsonScorer(judge, votes, retries)
    JsonScorer(Voter(*[good] * 1), 1, 0)(block(1), 0, 1, [("a",), ("b",)])
    letters = tuple((letter,) for letter in LETTERS)
    words = json.dumps({letter: i for i, letter in enumerate(LETTERS)})
    assert JsonScorer(Voter(words), 1, 0)(block(1), 0, 1, letters) is not None


def test_a_judge_sees_six_lines_to_divide() -> None:
    """The line that goes on or not is the last one of them; fewer stand at the beginning."""
    asked: list[list[str]] = []

    class Divider:
        def fits(self, messages: Any) -> bool:
            return True

        def score(self, messages: Any, candidates: Any, begun: str = "") -> list[float]:
            told = messages[-1][1].split(":\n", 1)[1].replace("\n\nThe next line:", "")
            asked.append(told.split("\n\n")[0].split("\n"))
            return [0.5, 0.5]  # as likely to go on

    lines = tuple(f"line {i}" for i in range(9))
    assert semantic_starts(SubtitleBlock(lines, id="e"), Divider()) == (0,)
    assert asked == [list(lines[max(0, i - 5) : i + 1]) for i in range(1, 9)]

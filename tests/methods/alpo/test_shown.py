"""What ALPO asks, reads, scores, shows and refuses; its command's lines."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.alpo.alpo_blocks import FEW, OPEN, block, scored
from sacrebleu.metrics import BLEU

import zoo
from zoo.encoding import NO_HEAD
from zoo.errors import InputError, TooLongError
from zoo.methods.alpo import __main__ as command
from zoo.methods.alpo.candidates import Sampling
from zoo.methods.alpo.choose import Choice, Gate, carry_on, choose, mixing, whole_outcomes
from zoo.methods.alpo.evaluation import core, mean_score
from zoo.methods.alpo.figures import Margins, pair_figures
from zoo.methods.alpo.growing_file import GrowingFile
from zoo.methods.alpo.metrics import CorpusScore
from zoo.methods.alpo.preference_tree import BLOCK, BlockPlan, collate_plans, sequence
from zoo.methods.alpo.prompts import REQUIREMENTS, instruction, language, read_lines, written
from zoo.methods.alpo.rubric import (
    GRADES,
    LETTERS,
    SYSTEM,
    goes_on,
    grade_of_one,
    read_scores,
    scores_of_all,
)
from zoo.methods.alpo.scoring import ChoiceScorer, JsonScorer, ReferenceScorer
from zoo.methods.alpo.segments import semantic_starts
from zoo.methods.alpo.translate import Translating
from zoo.methods.alpo.writing import Nucleus, ends_after, first_lines
from zoo.records import SubtitleBlock

# -- prompts ---------------------------------------------------------------------------------------


def test_the_instruction_numbers_every_line_and_names_the_terms() -> None:
    """Task, requirements in one wording each, terms, lines; the same whenever it is asked."""
    asked = replace(block(2), terms=(("阿", "name", "Ah"), ("源", "", "Spring")))
    rows = instruction(asked).split("\n")
    assert rows == instruction(asked).split("\n")
    assert rows[0] == "Translate these 4 subtitle lines from Chinese into English."
    assert rows[rows.index("Terms:") :] == [
        *("Terms:", "阿 (name) - Ah", "源 - Spring"),
        *("Lines:", "1. 先", "2. 源 0 0", "3. 源 0 1", "4. 后"),
    ]
    assert "Terms: none" in instruction(block(2))
    said = [row.removeprefix("- ") for row in rows[2 : rows.index("Terms:")]]
    for row, wordings in zip(said, REQUIREMENTS, strict=False):
        assert row in [wording.format(count=4) for wording in wordings]


def test_the_last_requirement_is_left_out_of_half_the_blocks() -> None:
    """And every wording of each is drawn by some block's name."""
    texts = [instruction(replace(block(1), id=f"b{i}")) for i in range(60)]
    counts = Counter(text.count("\n- ") for text in texts)
    assert set(counts) == {4, 5}
    assert 15 < counts[5] < 45
    for wordings in REQUIREMENTS:
        assert all(any(w.format(count=3) in text for text in texts) for w in wordings)
    for wording in REQUIREMENTS[-1]:
        assert sum(wording in text for text in texts) < 30


def test_languages_have_names() -> None:
    assert [language(code) for code in ("ja", "xx", "")] == [
        "Japanese",
        "xx",
        "the source language",
    ]


def test_lines_are_read_as_they_are_written() -> None:
    """From any number on; a line too many, too few, empty or of another number is not valid."""
    lines = ("I see.", "3. No")
    assert written(lines, 2, 3) == ["2. I see.\n", "3. 3. No"]
    assert read_lines("".join(written(lines, 2, 3)), 2, 2) == lines
    for number in ("1．a", "1、a", "1：a", " 1) a ", "1.a"):
        assert read_lines(number, 1, 1) == ("a",)
    for text in ("1. a", "1. a\n2. b\n3. c", "2. a\n3. b", "1. a\nb", "1. a\n2. ", "1. a\n1. b"):
        assert read_lines(text, 1, 2) is None


# -- judges ----------------------------------------------------------------------------------------


def test_a_judge_is_asked_for_every_candidate() -> None:
    """By letter, several lines in one string; the languages and the marked lines stand above."""
    asked = block(2)
    system, user = scores_of_all(asked, 0, 2, [("Yes.", "No."), ("Ja.", "Nein.")])
    assert system == ("system", SYSTEM)
    assert '\nA: "Yes. / No."\nB: "Ja. / Nein."\n' in user[1]
    assert "Lines of a film in Chinese" in user[1]
    assert "into English by\n- accuracy (30 %)" in user[1]
    assert "   先\n>> 源 0 0\n>> 源 0 1\n   后" in user[1]
    (_, one) = grade_of_one(asked, 0, 2, ("Yes.", "No."))[-1]
    assert "Translation:\nYes.\nNo.\n" in one
    assert "A: excellent\nB: good\n" in one
    (_, going) = goes_on(["a", "b", "c"], "de")[-1]
    assert "in German:\na\nb\n\nThe next line:\nc\n" in going


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ('{"A": 0, "B": 100}', [0, 100]),
        ('First {"A": 7, "B": 9} and {"A": 1, "B": 2}', [7, 9]),
        ('{"A": true, "B": 2}', None),
        ('{"A": 1, "B": 101}', None),
        ('{"A": -1, "B": 1}', None),
        ('{"A": 1, "B": 2, "C": 3}', None),
        ("[1, 2]", None),
    ],
)
def test_scores_are_integers_from_0_to_100(words: str, found: list[int] | None) -> None:
    if found is not None:
        assert read_scores(words, 2) == found
        return
    with pytest.raises(zoo.judges.judge.JudgeError):
        read_scores(words, 2)


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


def test_scorers_by_name() -> None:
    """A judge is needed but for likeness to the reference."""
    assert isinstance(command.Scoring().scorer(0), ReferenceScorer)
    for kind in ("choice", "json"):
        with pytest.raises(InputError, match=f"scoring.{kind}: needs a judge"):
            command.Scoring(kind=kind).scorer(0)


def test_a_scorers_judge_has_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Window and temperature are the judge's, votes and seed the scorer's."""
    seen: dict[str, Any] = {}

    def load(judge: Any, **options: Any) -> str:
        seen.update(options)
        return "judge"

    monkeypatch.setattr(command.LocalLLM, "load", load)
    made = command.Scoring("json", zoo.Backbone("x"), 2, 1, 0.7, 99).scorer(3)
    assert isinstance(made, JsonScorer)
    assert (made.votes, made.retries, made.seed) == (2, 1, 3)
    assert (seen["temperature"], seen["max_length"]) == (0.7, 99)
    assert isinstance(command.Scoring("choice", zoo.Backbone("x")).scorer(3), ChoiceScorer)
    assert len(GRADES) == 5


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


def test_blank_lines_are_no_lines_of_a_row(make: Any) -> None:
    tokenizer = make("SFT", "tiny-llama").tokenizer
    allowed = ends_after(tokenizer, 2, 258)
    ids = tokenizer.encode("1. a\n \n2. b\n")
    assert [allowed(0, ids[: n + 1]) for n in range(len(ids))] == [None] * (len(ids) - 1) + [[258]]
    assert first_lines("1. a\n \n2. b\n3. c", 2) == "1. a\n2. b"


# -- the command -----------------------------------------------------------------------------------


class Episodes:
    """What `segment` asks of the data."""

    def episodes(self, split: str) -> list[SubtitleBlock]:
        return [SubtitleBlock(("a", "b", "c"), id=split)]


def test_segments_of_single_lines_need_no_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was written is not written again; other data, and no judge, are one line."""
    output = tmp_path / "lines.jsonl"
    for _ in range(2):
        command.segment(Episodes(), str(output), "line")
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert rows == [{"id": s, "lines": 3, "starts": [0, 1, 2]} for s in ("train", "val", "test")]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "train: 3 lines, 3 segments"
    assert said[3:] == [f"segments    {output}: 3 episodes"] * 2
    with pytest.raises(InputError, match="kind semantic: needs a judge"):
        command.segment(Episodes(), str(tmp_path / "new.jsonl"))
    with pytest.raises(InputError, match="SimpleNamespace has no episodes"):
        command.segment(SimpleNamespace(), str(output), "line")
    with pytest.raises(InputError, match="max_lines: 0 is not above 0"):
        command.segment(Episodes(), str(output), "line", max_lines=0)
    command.segment(Episodes(), str(output), "line", max_lines=8)


def test_counts_are_told_in_words() -> None:
    assert command.told(Counter({"samples": 3, "segments": 1})) == "3 samples, 1 segments"


def test_a_new_file_says_what_its_lines_depend_on(tmp_path: Path) -> None:
    """Tuples are lists there; a setting that is new or gone is another one."""
    path = tmp_path / "x.jsonl"
    GrowingFile(path, {"a": (1, 2), "name": "é"}).append("1", {"id": "1"})
    card = (tmp_path / "x.jsonl.settings.json").read_text("utf-8")
    assert json.loads(card) == {"a": [1, 2], "name": "é"}
    assert GrowingFile(path, {"a": (1, 2), "name": "é"}).done == {"1"}
    for settings, other in (({"a": (1, 2)}, "name"), ({"a": 1, "name": "é", "b": 2}, "a, b")):
        with pytest.raises(InputError, match=f"other settings: {other} "):
            GrowingFile(path, settings)
    path.write_bytes(b'{"id": "1')  # not one whole line
    assert GrowingFile(path, {"a": (1, 2), "name": "é"}).done == set()
    assert path.read_bytes() == b""


# -- choices, trees, batches -----------------------------------------------------------------------


def test_a_gate_can_read_the_variance_and_keep_a_least_beta() -> None:
    """The variance of all candidates, not of a sample of them; both limits are to be exceeded."""
    scores = [10.0, 12.0, 14.0, 16.0]  # variance 5, range 6
    assert Gate("variance", 4.99).opens(scores, 3, 0)
    assert not Gate("variance", 5.0).opens(scores, 3, 0)
    assert Gate("range", 5.99).opens(scores, 3, 0)
    assert not Gate("range", 6.0).opens(scores, 3, 0)
    assert not Gate("range", 1.0).opens(scores[:3], 2, 0)
    assert not Gate("range", 1.0).opens(scores, 0, 0)
    record = scored([OPEN, [50.0, 52.0, 54.0, 56.0, 58.0, 60.0]])
    free, kept = choose(record, 0), choose(record, 0, Gate(min_beta=0.9))
    assert min(c.beta for c in free) < 0.9
    assert [c.beta for c in kept] == [max(c.beta, 0.9) for c in free]


def test_the_share_of_chosen_prefixes_rises_and_stays() -> None:
    assert mixing(200, 100) == pytest.approx(0.6)
    assert mixing(0, 100, stages=2) == pytest.approx(0.2)
    assert mixing(50, 100, stages=2) == pytest.approx(0.6)
    assert [carry_on(4, 3, lam, random.Random(0)) == 4 for lam in (1.0, 0.0)] == [True, False]


def test_outcomes_without_a_verdict_are_alike() -> None:
    """One candidate on both sides, any of them, so that the segment teaches nothing."""
    pairs = [whole_outcomes(scored([None, OPEN], i), 0)[0] for i in range(20)]
    assert all(chosen == rejected for chosen, rejected in pairs)
    assert {chosen for chosen, _ in pairs} == {0, 1, 2}


def plan_of(*opened: bool) -> BlockPlan:
    """Return a plan of segments with three candidates of one token each."""
    ids = tuple(tuple((10 * i + j,) for j in range(3)) for i in range(1, len(opened) + 1))
    choices = tuple(Choice(1, 2, 0.5, 1.0, True) if o else Choice(1, 2) for o in opened)
    return BlockPlan((1, 2), ids, choices, float(any(opened)), 0)


def test_a_tree_ends_with_its_last_open_segment() -> None:
    """What carries the prefix on is there once; behind the last pair there is nothing."""
    tree, pairs = plan_of(True, False, True, False).grow(1.0, random.Random(0))
    paths = [tree.path(i) for i in range(len(tree.nodes))]
    assert paths == [
        *([1, 2], [1, 2, 11], [1, 2, 12], [1, 2, 11, 21]),
        *([1, 2, 11, 21, 31], [1, 2, 11, 21, 32]),
    ]
    assert pairs == [(1, 2), (4, 5)]
    assert len(plan_of(True, False, True, False)) == 7
    assert plan_of(False).head_weights() == {}
    assert plan_of(True).head_weights() == {BLOCK: 1.0}
    example = sequence(tree, 5)
    assert example.input_ids == [1, 2, 11, 21, 32]
    assert [head for head in example.head_ids if head != NO_HEAD] == [BLOCK]
    ids = [pair.input_ids for pair in plan_of(True, True).pair_examples()]
    assert ids == [[1, 2, 11], [1, 2, 12], [1, 2, 11, 21], [1, 2, 11, 22]]


def test_pairs_of_a_batch_are_those_of_its_trees() -> None:
    """Numbers run on from tree to tree; a batch without an open gate is divided by one."""
    batch = collate_plans([plan_of(False, True), plan_of(True, True)], 1.0, None)
    assert batch.chosen.tolist() == [0, 2, 4]
    assert batch.rejected.tolist() == [1, 3, 5]
    assert batch.pair_weights.tolist() == [0.5] * 3
    assert batch.normalizers == {BLOCK: 2.0}
    assert batch.counts() == {"tokens": batch.num_tokens, "pairs": 3}
    closed = collate_plans([plan_of(False)], 1.0, None)
    assert closed.normalizers == {BLOCK: 1.0}
    assert closed.counts()["pairs"] == 0


def test_a_block_that_fills_the_window_fits_and_one_more_token_does_not(make: Any) -> None:
    """Of SFT with its response, of preferences with its longest candidates."""
    for objective, record in (("sft", block(2)), ("alpo", scored([OPEN, FEW]))):
        encoder = make("ALPO", "tiny-llama", objective=objective).encoder()
        prompt = encoder.prompt(block(2))
        lines = block(2).translation
        if objective == "sft":
            size = len(prompt) + len(encoder.response(lines, 1, 4))
        else:
            each = [
                max(len(encoder.response(c, i + 2, 4)) for c in segment.candidates)
                for i, segment in enumerate(record.segments)
            ]
            size = len(prompt) + len(encoder.response(lines[:1], 1, 4)) + sum(each)
        assert len(replace(encoder, max_length=size)(record)) == 1
        with pytest.raises(TooLongError, match=f"a.zh:0: {size} tokens, longer than .*={size - 1}"):
            replace(encoder, max_length=size - 1)(record)


def test_a_preview_is_of_the_first_chosen_candidate(make: Any) -> None:
    """A block from which nothing is learned is shown as its prompt."""
    encoder = make("ALPO", "tiny-llama", objective="alpo").encoder()
    record = scored([OPEN])
    (plan,) = encoder(record)
    shown = "".join(encoder.preview(plan))
    chosen = record.segments[0].candidates[plan.choices[0].chosen][0]
    assert f"2. {chosen}" in shown
    assert "1. Before." in shown
    (closed,) = encoder(scored([FEW]))
    assert "0 tokens" not in "".join(encoder.preview(closed))
    assert "1. Before." in "".join(encoder.preview(closed))


# -- scores and what is shown ----------------------------------------------------------------------


def test_corpus_scores_take_missing_lines_for_empty_ones() -> None:
    """BLEU takes characters for words in Chinese, words elsewhere; nothing scores 0."""
    golds = [["the cat sat on the mat today", "good dogs run far away now"]]
    for kind in ("chrf", "bleu"):
        score = CorpusScore(kind)
        assert float(score.compute()) == 0
        score.update(golds, golds, ["en"])
        assert float(score.compute()) == pytest.approx(100)
        score.reset()
        score.update([golds[0][:1]], golds, ["en"])
        assert 0 < float(score.compute()) < 100
    bleu = CorpusScore("bleu")
    lines, gold = ["我今天很饿了"], ["我今天很饿呢"]
    bleu.update([lines], [gold], ["zh"])
    wanted = BLEU(tokenize="char").corpus_score(lines, [gold]).score
    assert float(bleu.compute()) == pytest.approx(wanted)
    assert wanted > 10
    bleu.reset()
    bleu.update([lines], [gold], ["en"])
    assert float(bleu.compute()) == pytest.approx(BLEU().corpus_score(lines, [gold]).score)


def test_the_core_is_what_counts_of_a_translation(make: Any) -> None:
    """A block without whole lines scores 0 in everything; one without a reference is not scored."""
    asked = block(2)
    lines = ("Before.", "Line 0 0.", "xx", "After.")
    assert core(asked, lines) == ("Line 0 0.", "xx")
    assert core(asked, None) == ()
    assert mean_score(("Line 0 0.",), asked.target) == pytest.approx(50)
    module = make("ALPO", "tiny-llama")
    other, bare = replace(asked, id="b"), replace(asked, id="c", target=None)
    scores = module.score_answers([(asked, lines), (other, None), (bare, lines)], "val")
    assert scores["valid"] == pytest.approx(2 / 3)
    each = ReferenceScorer().score("xx", "Line 0 1.")
    assert scores["score"] == pytest.approx((100 + each) / 4)
    assert 0 < scores["chrf"] < 50
    assert module.score_answers([(asked, asked.translation)], "val")["bleu"] == pytest.approx(100)
    assert module.sample(asked, lines) == {
        "source": "源 0 0\n源 0 1",
        "translation": "Line 0 0.\nxx",
        "reference": "Line 0 0.\nLine 0 1.",
    }
    assert module.sample(scored([OPEN]), None)["translation"] == "(lines are not whole)"
    row = module.prediction(asked, None)
    assert row == {"id": "a.zh:0", "source": ["源 0 0", "源 0 1"], "lines": []}


def test_lines_of_a_prompt_are_translated_in_the_datas_languages(make: Any) -> None:
    """Blank ones are left out; without whole lines that is said."""
    module = make("ALPO", "tiny-llama", max_answer_tokens=2)
    seen: list[SubtitleBlock] = []
    generate = module.generate
    module.generate = lambda records, **options: seen.extend(records) or generate(records)
    (row,) = module.show([scored([OPEN])], prompt=" 你好 \n\n再见\n")
    assert row["source"] == "你好\n再见"
    assert row["translation"] == "(lines are not whole)"
    assert (seen[0].source_language, seen[0].target_language) == ("zh", "en")
    with pytest.raises(InputError, match="input and output: give both"):
        module.show([block(1)], output="x.srt")


def margins(*rows: tuple[float, ...]) -> Margins:
    """Return margins of pairs of (weight, beta, chosen, rejected)."""
    return Margins(*torch.tensor(rows).reshape(-1, 4).T)


def test_what_is_logged_of_pairs() -> None:
    """Means over pairs; the rate of open gates is over segments, gated ones too."""
    parts = margins((0.5, 1.0, 2.0, 1.0), (0.25, 0.5, 0.0, 1.0), (0.25, 0.0, 1.0, 1.0))
    found = {name: float(value) for name, value in parts.means(4).items()}
    assert found == {
        "gate_rate": 0.75,
        "weight": pytest.approx(1 / 3),
        "beta": 0.5,
        "reward_chosen": 1.0,
        "reward_rejected": 1.0,
        "reward_margin": 0.0,
        "reward_accuracy": pytest.approx(1 / 3),
    }
    assert {name: float(value) for name, value in margins().means(4).items()} == {"gate_rate": 0.0}


def test_pairs_are_drawn_as_histograms() -> None:
    assert pair_figures([]) == pair_figures([margins()]) == {}
    steps = [margins((0.5, 1.0, 2.0, 0.5)), margins(), margins((0.25, 0.5, 0.0, 1.0))]
    axes = pair_figures(steps)["pairs"].axes
    assert [axis.get_xlabel() for axis in axes] == ["weight", "beta", "reward margin"]
    assert axes[0].get_ylabel() == "pairs"
    for axis, low, high in zip(axes, (0.25, 0.5, -1.0), (0.5, 1.0, 1.5), strict=True):
        bars = axis.patches
        assert sum(bar.get_height() for bar in bars) == 2
        assert bars[0].get_x() == pytest.approx(low)
        assert bars[-1].get_x() + bars[-1].get_width() == pytest.approx(high)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mixing_stages": 1}, "model.mixing_stages: 1 is below 2"),
        ({"beta_scale": 0.0}, "model.beta_scale: 0.0 is not above 0"),
        ({"dpo_beta": 0.0}, "model.dpo_beta: 0.0 is not above 0"),
    ],
)
def test_settings_that_mean_nothing(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        zoo.ALPO({"name": "tiny-llama"}, **options).validate()
    zoo.ALPO({"name": "tiny-llama"}, mixing_stages=2).validate()


def test_defaults_are_those_of_the_paper_and_the_release() -> None:
    """15 samples in sequence; 4 votes, 3 retries at 0.3; a gate above 5 points; 2 rewrites."""
    sampling, scoring, how = Sampling(), command.Scoring(), Translating()
    sampling.check()
    assert (sampling.k, sampling.mode) == (15, "sequential")
    assert (scoring.votes, scoring.retries, scoring.temperature) == (4, 3, 0.3)
    assert (how.nucleus, how.retries) == (Nucleus(0.5, 0.7, 30), 2)
    assert (Gate().statistic, Gate().spread, Gate().min_beta) == ("range", 5.0, 0.0)
    module = zoo.ALPO({"name": "tiny-llama"})
    assert module.gate == Gate()
    assert how.max_new_tokens == module.max_answer_tokens


def test_betas_are_scaled_in_alpo_alone(make: Any) -> None:
    """Its loss is a mean over blocks, that of segment DPO over pairs."""
    batches = {}
    for objective in ("alpo", "segment_dpo"):
        module = make("ALPO", "tiny-llama", objective=objective, beta_scale=3.0, dpo_beta=0.2)
        module.reference.sync(module)
        encoder = module.encoder()
        batch = encoder.collate(encoder(scored([OPEN, OPEN, None])), {})
        term, parts = module.preference(batch)
        batches[objective] = batch
        scale = 3.0 if objective == "alpo" else 1.0
        torch.testing.assert_close(parts.betas, scale * batch.pair_betas)
        assert float(term.weight) == batch.plans[0].count
    assert batches["alpo"].plans[0].count == 1
    assert batches["segment_dpo"].plans[0].count == 2  # a mean over pairs
    assert batches["segment_dpo"].pair_betas.tolist() == pytest.approx([0.2, 0.2])
    assert float(term.loss) == pytest.approx(math.log(2))

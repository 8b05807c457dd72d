"""The eight properties of the evaluation of emotional support conversation."""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score
from support_judges import ScriptedJudge, by_length, points, replies

from datamodules import ESConv
from zoo.metrics.text import bleu, distinct, rouge_l, tokenize
from zoo.records import SUPPORTER
from zoo.support.decisions import decisions
from zoo.support.judging import SupportJudge, against_data, both_orders, win_rates
from zoo.support.labels import EMOTIONS, STRATEGIES
from zoo.support.metrics import SupportAnswer, support_scores
from zoo.support.strategy_metrics import (
    accuracy,
    bias,
    count_pairs,
    f1,
    preferences,
    proficiency,
    weighted_f1,
)
from zoo.support.tags import strip_tags

GOLD_BY_PREDICTED = np.array(
    [
        [5, 1, 1, 1, 2, 1, 0, 1],
        [1, 3, 1, 0, 2, 1, 0, 1],
        [1, 1, 4, 0, 2, 1, 0, 1],
        [1, 0, 1, 3, 2, 1, 1, 1],
        [1, 0, 1, 1, 6, 1, 0, 1],
        [1, 1, 0, 1, 2, 5, 1, 0],
        [1, 0, 0, 1, 2, 2, 2, 1],
        [1, 1, 0, 0, 2, 1, 0, 4],
    ],
    dtype=float,
)
PREFERENCES = (0.978006, 0.777622, 0.767185, 0.553687, 2.288894, 1.115856, 0.299508, 1.219240)


def pairs_of(counts: np.ndarray) -> tuple[list[str], list[str]]:
    """Return the gold and predicted names that a table counts."""
    cells = [(g, p) for g in range(8) for p in range(8) for _ in range(int(counts[g, p]))]
    return [STRATEGIES[g] for g, _ in cells], [STRATEGIES[p] for _, p in cells]


def bradley_terry(counts: Sequence[Sequence[float]], sweeps: int = 20) -> list[float]:
    """Plain transcription of the reference's update, without any guard."""
    size = len(counts)
    wins = [[counts[j][i] if i != j else 0.0 for j in range(size)] for i in range(size)]
    p = [1.0] * size
    for _ in range(sweeps):
        for i in range(size):
            rest = [j for j in range(size) if j != i]
            over = sum(wins[i][j] * p[j] / (p[i] + p[j]) for j in rest)
            under = sum(wins[j][i] / (p[i] + p[j]) for j in rest)
            p[i] = over / under
        positive = [math.log(x) for x in p if x > 0]
        mean = math.exp(sum(positive) / len(positive))
        p = [x / mean for x in p]
    return [size * x / sum(p) for x in p]


# -- 1: the test vector ------------------------------------------------------------------------


@pytest.mark.fidelity("esc_metrics", 1)
def test_the_vector_of_the_definitions() -> None:
    """Acc, Q, weighted F1, p and B of the published table to 1e-6."""
    counts = count_pairs(*pairs_of(GOLD_BY_PREDICTED))
    assert np.array_equal(counts, GOLD_BY_PREDICTED)
    assert preferences(counts) == pytest.approx(PREFERENCES, abs=1e-6)
    assert bias(counts) == pytest.approx(0.560888, abs=1e-6)
    assert proficiency(counts) == pytest.approx(0.390195, abs=1e-6)
    assert weighted_f1(counts) == pytest.approx(0.391962, abs=1e-6)
    assert accuracy(counts) == pytest.approx(0.395062, abs=1e-6)
    assert preferences(counts) == pytest.approx(bradley_terry(counts.tolist()), abs=1e-12)


@pytest.mark.fidelity("esc_metrics", 1)
def test_identity_predictions_are_perfect() -> None:
    """Acc = Q = 1, and no preference."""
    counts = count_pairs(STRATEGIES, STRATEGIES)
    assert (accuracy(counts), proficiency(counts), bias(counts)) == (1, 1, 0)


@pytest.mark.fidelity("esc_metrics", 1)
def test_scores_equal_an_independent_library() -> None:
    """Acc, macro-F1 and weighted F1 are scikit-learn's over all eight classes."""
    rng = random.Random(1)
    for _ in range(5):
        gold = rng.choices(STRATEGIES, weights=range(1, 9), k=60)
        found = [g if rng.random() < 0.4 else rng.choice(STRATEGIES[:6]) for g in gold]
        counts = count_pairs(gold, found)
        options: dict[str, Any] = {"labels": STRATEGIES, "zero_division": 0.0}
        assert accuracy(counts) == pytest.approx(accuracy_score(gold, found))
        macro = f1_score(gold, found, average="macro", **options)
        assert proficiency(counts) == pytest.approx(macro)
        weighted = f1_score(gold, found, average="weighted", **options)
        assert weighted_f1(counts) == pytest.approx(weighted)


# -- 2: extreme predictors ---------------------------------------------------------------------


@pytest.mark.fidelity("esc_metrics", 2)
def test_a_random_predictor_has_no_preference() -> None:
    """20,000 uniform predictions of uniform gold give B < 0.05."""
    rng = random.Random(0)
    gold, found = (rng.choices(STRATEGIES, k=20000) for _ in range(2))
    assert 0 < bias(count_pairs(gold, found)) < 0.05


@pytest.mark.fidelity("esc_metrics", 2)
@pytest.mark.parametrize("only", range(8))
def test_a_predictor_of_one_strategy_has_the_largest_preference(only: int) -> None:
    """B = sqrt 7 to 1e-4, whichever the strategy is."""
    rng = random.Random(only)
    gold = [*STRATEGIES, *rng.choices(STRATEGIES, k=200)]
    counts = count_pairs(gold, [STRATEGIES[only]] * len(gold))
    assert bias(counts) == pytest.approx(math.sqrt(7), abs=1e-4)


@pytest.mark.fidelity("esc_metrics", 2)
def test_the_guard_leaves_the_reference_alone() -> None:
    """One strategy never predicted: the guarded B is the unguarded reference's to 1e-6."""
    counts = GOLD_BY_PREDICTED * 40
    counts[:, 6] = 0
    reference = bradley_terry(counts.tolist())
    assert reference[6] == 0
    assert preferences(counts) == pytest.approx(reference, abs=1e-6)


@pytest.mark.fidelity("esc_metrics", 2)
def test_no_table_gives_a_nan_or_an_exception() -> None:
    """Sparse, empty, diagonal, one-cell and one-sided tables, 600 of them at once."""
    rng = np.random.default_rng(0)
    tables = [rng.poisson(rate, (100, 8, 8)).astype(float) for rate in (0.02, 0.1, 0.5, 3.0)]
    special = [np.zeros((8, 8)), np.eye(8), np.triu(np.ones((8, 8))), np.ones((8, 8))]
    for g, p in rng.integers(0, 8, (40, 2)):
        special.append(np.zeros((8, 8)))
        special[-1][g, p] = 1e6
    blocks = [np.kron(np.eye(2), rng.integers(1, 50, (4, 4))) for _ in range(20)]
    everything = np.concatenate([*tables, np.stack([*special, *blocks])])
    with np.errstate(all="raise", under="ignore"):
        for score in (accuracy, proficiency, weighted_f1, bias):
            values = score(everything)
            assert np.isfinite(values).all()
        assert (bias(everything) <= math.sqrt(7) + 1e-9).all()
        alone = [float(bias(table)) for table in everything[::37]]
    assert bias(everything)[::37].tolist() == pytest.approx(alone)  # side by side as one by one


# -- 3: order of the strategies ----------------------------------------------------------------


@pytest.mark.fidelity("esc_metrics", 3)
def test_the_order_of_the_strategies_does_not_matter() -> None:
    """Acc and Q stay exactly, B to 1e-6."""
    rng = np.random.default_rng(3)
    dense = [rng.integers(0, 20, (8, 8)).astype(float) for _ in range(6)]
    missing = dense[0].copy()
    missing[:, 3] = 0
    for counts in (GOLD_BY_PREDICTED, missing, *dense):
        for _ in range(4):
            order = rng.permutation(8)
            moved = counts[np.ix_(order, order)]
            assert accuracy(moved) == accuracy(counts)
            assert proficiency(moved) == pytest.approx(proficiency(counts), abs=1e-15)
            assert bias(moved) == pytest.approx(bias(counts), abs=1e-6)


@pytest.mark.fidelity("esc_metrics", 3)
def test_one_sided_confusions_need_more_sweeps() -> None:
    """Where 20 sweeps stop short, B does know the order: a little, and less with every sweep."""
    rng = np.random.default_rng(0)
    tables = [
        rng.poisson(np.outer(rng.random(8) * 20, rng.dirichlet(np.ones(8) / 2))) for _ in range(60)
    ]
    order = rng.permutation(8)
    counts = np.stack(tables).astype(float)
    moved = counts[:, order][:, :, order]
    few, many = (np.abs(bias(counts, n) - bias(moved, n)) for n in (20, 400))
    assert 1e-6 < many.max() < few.max() < 0.02
    # powers of the confusions: is every strategy confused with every other in the end?
    joined = np.linalg.matrix_power(((counts > 0) | np.eye(8, dtype=bool)).astype(int), 8).all(
        (1, 2)
    )
    assert 0 < joined.sum() < 60
    assert many[joined].max() < 1e-6


# -- 4: texts ----------------------------------------------------------------------------------


@pytest.mark.fidelity("esc_metrics", 4)
def test_the_examples_of_bleu_and_distinct() -> None:
    """B-2 = 50.0; D-1 = 2/3, and 1/2 with the reference's dropped n-gram."""
    reference, reply = ["i", "feel", "sad", "today"], ["i", "feel", "very", "sad"]
    assert bleu([reference], [reply], 2) == pytest.approx(50.0)
    assert bleu([reference], [reply], 2) == pytest.approx(100 * math.sqrt(3 / 4 * 1 / 3))
    assert distinct([["a", "a", "b"]], 1) == pytest.approx(100 * 2 / 3)
    assert distinct([["a", "a", "b"]], 1, drop_last=True) == pytest.approx(50.0)


@pytest.mark.fidelity("esc_metrics", 4)
def test_distinct_is_over_all_replies_together() -> None:
    """Unique n-grams of the corpus over its n-grams, not a mean over replies."""
    replies = [["a", "b"], ["a", "b"]]
    assert distinct(replies, 1) == 50.0
    assert distinct(replies, 2) == 50.0


# -- 5: absent classes -------------------------------------------------------------------------


@pytest.mark.fidelity("esc_metrics", 5)
def test_macro_f1_counts_classes_that_gold_lacks() -> None:
    """Two classes in gold, both always right: Q is 2/8, not 1."""
    gold = ["Question", "Others"] * 5
    counts = count_pairs(gold, gold)
    assert proficiency(counts) == pytest.approx(2 / 8)
    assert weighted_f1(counts) == 1
    assert f1(counts).tolist() == [1, 0, 0, 0, 0, 0, 0, 1]


# -- 6: splits ---------------------------------------------------------------------------------


@pytest.fixture
def esconv() -> ESConv:
    """The real dataset, in the authors' own split."""
    folder = os.environ.get("ZOO_DATA")
    if not folder:
        pytest.skip("ZOO_DATA is not set: the real datasets are not part of the project")
    return ESConv(str(Path(folder) / "esconv"))


@pytest.mark.fidelity("esc_metrics", 6)
def test_splits_of_the_real_data(esconv: ESConv) -> None:
    """910 / 195 / 195 dialogues, none in two splits; every decision has a known strategy."""
    splits = {name: esconv.records(name) for name in ("train", "val", "test")}
    assert [len(records) for records in splits.values()] == [910, 195, 195]
    said = [
        Counter(tuple((turn.speaker, turn.text) for turn in record.turns) for record in records)
        for records in splits.values()
    ]
    assert sum(len(texts) for texts in said) == 1300  # no dialogue twice, within or across
    found = [d for records in splits.values() for record in records for d in decisions(record)]
    turns = [t for records in splits.values() for record in records for t in record.turns]
    opened = sum(r.turns[0].speaker == SUPPORTER for rs in splits.values() for r in rs)
    assert len(found) == sum(turn.speaker == SUPPORTER for turn in turns) - opened == 17693
    assert {d.target.strategy for d in found} == set(STRATEGIES)
    assert {d.emotion for d in found} == set(EMOTIONS)


@pytest.mark.fidelity("esc_metrics", 6)
def test_splits_of_the_single_file(tmp_path: Path) -> None:
    """1,300 dialogues in one file: the same sizes, by whole dialogues."""
    import json

    turns = [
        {"speaker": "seeker", "annotation": {}, "content": "Hi"},
        {"speaker": "supporter", "annotation": {"strategy": "Question"}, "content": "Hi?"},
    ]
    items = [
        {"emotion_type": "fear", "problem_type": "p", "situation": str(i), "dialog": turns}
        for i in range(1300)
    ]
    (tmp_path / "ESConv.json").write_text(json.dumps(items))
    data = ESConv(str(tmp_path))
    splits = [{r.situation for r in data.records(name)} for name in ("train", "val", "test")]
    assert [len(split) for split in splits] == [910, 195, 195]
    assert len(set.union(*splits)) == 1300
    order = list(range(1300))
    random.Random(13).shuffle(order)
    assert splits[1] == {str(i) for i in order[:195]}
    assert splits[2] == {str(i) for i in order[195:390]}


# -- 7: tags -----------------------------------------------------------------------------------

TAGGED = (
    "[{s}] {r}",
    "({s}) {r}",
    "({s}): {r}",
    "[{s}], {r}",
    "<{s}> {r}",
    "[{s}]\n{r}",
    "{s}: {r}",
    "Strategy: {s}\n{r}",
    "Emotion: {e}\nStrategy: {s}\nResponse: {r}",
    "Emotion: {e} Strategy: {s} Response: {r}",
    "(Emotion: {e}) (Strategy: {s}) {r}",
    "<{e}> <{s}> {r}",
    "[{e}][{s}] {r}",
    "^{s}^ {r}",
    "#{s}# {r}",
    "@{s}@ {r}",
    "&{s}& {r}",
    "Supporter ({s}): {r}",
    "**Strategy:** {s}\n**Reply:** {r}",
)
REPLIES = (
    "I am sorry to hear that. How long has this been going on?",
    "I've felt like that <3 ... it's hard, isn't it?",
    "Question everything; others do (and so do I).",
    "Information helps: call 555-0100 & ask.",
)


@pytest.mark.fidelity("esc_metrics", 7)
@pytest.mark.parametrize("form", TAGGED)
def test_tagged_replies_score_as_plain_ones(form: str) -> None:
    """For every strategy and emotion a tag changes no text score; without tags nothing changes."""
    for reply in REPLIES:
        assert strip_tags(reply) == reply
        for i, name in enumerate(STRATEGIES):
            tagged = form.format(s=name, e=EMOTIONS[i], r=reply)
            assert strip_tags(tagged) == reply
            assert strip_tags(tagged.upper()) == reply.upper()


@pytest.mark.fidelity("esc_metrics", 7)
def test_tags_between_sentences_are_stripped() -> None:
    """A chain of concepts inside one reply leaves no delimiter behind."""
    chain = "<Reflection of Feelings>You sound worn out. <sadness> <Question>Since when?"
    assert strip_tags(chain) == "You sound worn out. Since when?"
    assert strip_tags("You sound worn out. [Question] Since when?").count("[") == 0
    assert strip_tags("<hobbies and crafts> Do you knit?") == "Do you knit?"


@pytest.mark.fidelity("esc_metrics", 7)
def test_the_evaluation_strips_before_it_scores() -> None:
    """Tagged hypotheses get the scores of plain ones; scored with their tags they would not."""
    gold = "You sound worn out. Since when has it been like that?"
    plain = "You sound tired. Since when is it like that?"
    tagged = f"[Question] {plain}"

    def scores(reply: str) -> dict[str, float]:
        answers = [SupportAnswer("d", i, "Question", gold, "Question", reply) for i in range(3)]
        return support_scores(answers, draws=0)

    assert scores(tagged) == scores(plain)
    with_tag = rouge_l(tokenize(gold), tokenize(tagged))
    assert with_tag < rouge_l(tokenize(gold), tokenize(plain))


# -- 8: judges ---------------------------------------------------------------------------------


def always(verdict: str) -> Callable[[str], str]:
    return lambda asked: verdict


def noisy(asked: str) -> str:
    """A judge that is moved by everything, the order of the replies included."""
    verdict = random.Random("|".join(replies(asked))).choice(["A", "B", "C"])
    return f"[[{verdict}]]"


@pytest.mark.fidelity("esc_metrics", 8)
@pytest.mark.parametrize("chooser", [noisy, by_length, *map(always, ("[[A]]", "[[B]]", "[[C]]"))])
def test_the_verdict_does_not_know_the_order(chooser: Any) -> None:
    """Swapping the two replies swaps win and lose and keeps ties, whatever the judge does."""
    judge = SupportJudge(ScriptedJudge(chooser))
    mirrored = {"win": "lose", "lose": "win", "tie": "tie"}
    seen = Counter()
    for decision, reply in points(60):
        ahead = both_orders(judge, decision, reply, decision.target).result
        behind = both_orders(judge, decision, decision.target, reply).result
        assert behind == mirrored[ahead]
        seen[ahead] += 1
    if chooser is noisy:
        assert len(seen) == 3  # all three kinds were tried
    elif chooser is not by_length:
        assert seen == {"tie": 60}  # a judge that likes a place decides nothing


@pytest.mark.fidelity("esc_metrics", 8)
def test_disagreement_is_a_tie() -> None:
    """All nine pairs of verdicts, by the definition."""
    (decision, reply), *_ = points(1)
    letters = {"A": "A", "B": "B", "tie": "C"}
    for one in letters:
        for two in letters:
            verdicts = iter([f"[[{letters[one]}]]", f"[[{letters[two]}]]"])
            judge = SupportJudge(ScriptedJudge(lambda asked, v=verdicts: next(v)))
            expected = {("A", "B"): "win", ("B", "A"): "lose"}.get((one, two), "tie")
            outcome = both_orders(judge, decision, reply, decision.target)
            assert (outcome.result, outcome.choices) == (expected, (one, two))


@pytest.mark.fidelity("esc_metrics", 8)
def test_rates_against_the_data() -> None:
    """Win, tie and lose against the dataset's replies, in percent of what was judged."""
    grades = {"reply 0": 5, "gold 0": 2, "reply 1": 1, "gold 1": 2, "reply 2": 3, "gold 2": 3}

    def by_grade(asked: str) -> str:
        a, b = (grades.get(text) for text in replies(asked))
        if a is None or b is None:
            return "I know neither."
        return "[[C]]" if a == b else "[[A]]" if a > b else "[[B]]"

    outcomes = against_data(SupportJudge(ScriptedJudge(by_grade)), points(4))
    assert [o.result for o in outcomes] == ["win", "lose", "tie", "failed"]
    third = pytest.approx(100 / 3)
    rates = {"win": third, "tie": third, "lose": third, "judged": 3, "failed": 1, "retried": 0}
    assert win_rates(outcomes) == rates

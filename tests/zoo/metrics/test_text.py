"""Text scores against other implementations and against their definitions."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import combinations

import pytest
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu
from rouge_score.rouge_scorer import RougeScorer

import zoo.metrics
from zoo.metrics.text import (
    bleu,
    distinct,
    grams,
    lcs,
    meteor,
    rouge_l,
    tokenize,
)
from zoo.support.cider import SIGMA, CiderWeights
from zoo.support.ratings import satisfaction
from zoo.support.tags import strip_tags

REFERENCES = [
    line.split()
    for line in (
        "i feel sad today .",
        "have you talked to your friend about it ?",
        "i am sorry to hear that you lost your job .",
    )
]
REPLIES = [
    line.split()
    for line in (
        "i feel very sad",
        "have you talked about it to your friend today ?",
        "sorry that you lost your job , sorry",
    )
]


def samples(count: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Return pairs of texts over few words, so that much is common and much repeats."""
    rng = random.Random(seed)
    return [
        tuple(rng.choices("abcdefg.", k=rng.randint(1, 12)) for _ in range(2))  # type: ignore[misc]
        for _ in range(count)
    ]


# -- words -------------------------------------------------------------------------------------


def test_words_are_lower_case_tokens() -> None:
    assert tokenize("I can't. Why?") == ["i", "ca", "n't", ".", "why", "?"]
    assert tokenize("That's hard... I'm so sorry!") == [
        *("that", "'s", "hard", "...", "i", "'m", "so", "sorry", "!"),
    ]
    assert tokenize("") == []
    assert tokenize("One thing.Two") == ["one", "thing.two"]


# -- BLEU --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_bleu_is_that_of_nltk(n: int) -> None:
    method = SmoothingFunction().method3
    for pairs in (samples(30, n), samples(2, 9), list(zip(REFERENCES, REPLIES, strict=True))):
        references, replies = [r for r, _ in pairs], [h for _, h in pairs]
        theirs = corpus_bleu(
            [[r] for r in references], replies, weights=[1 / n] * n, smoothing_function=method
        )
        assert bleu(references, replies, n) == pytest.approx(100 * theirs, abs=1e-9)


def test_bleu_of_the_definition() -> None:
    """Twelve words, the reply three short of them: matches by hand."""
    reference, reply = ["a", "b", "c", "d", "e", "f"], ["a", "b", "c"]
    assert bleu([reference], [reply], 2) == pytest.approx(100 * math.exp(1 - 6 / 3))
    assert bleu([reference], [reference], 4) == pytest.approx(100)
    assert bleu([reference], [["x"]], 2) == 0
    assert bleu([reference], [[]], 1) == 0
    # no bigram matches: method 3 gives the first empty order half a match
    assert bleu([reference], [["a", "c", "e", "b", "d", "f"]], 2) == pytest.approx(
        100 * math.sqrt(1 * (1 / 2) / 5)
    )


# -- ROUGE-L -----------------------------------------------------------------------------------


class _Split:
    """Words as they are."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


def test_rouge_l_is_that_of_the_package_at_beta_1() -> None:
    scorer = RougeScorer(["rougeL"], tokenizer=_Split())
    for reference, reply in samples(60, 0):
        theirs = scorer.score(" ".join(reference), " ".join(reply))["rougeL"]
        assert rouge_l(reference, reply, beta=1) == pytest.approx(100 * theirs.fmeasure)
        p, r = theirs.precision, theirs.recall
        weighted = (1 + 1.2**2) * p * r / (r + 1.2**2 * p) if p else 0.0
        assert rouge_l(reference, reply) == pytest.approx(100 * weighted)


def test_common_subsequences() -> None:
    for one, other in samples(25, 5):
        found = [set(combinations(words[:9], n)) for words in (one, other) for n in range(10)]
        longest = max(n for n in range(10) if found[n] & found[10 + n])
        assert lcs(one[:9], other[:9]) == longest
    assert lcs([], ["a"]) == 0
    assert rouge_l(["a"], []) == 0


# -- METEOR ------------------------------------------------------------------------------------


def test_meteor_of_the_definition() -> None:
    """Five of six words match, one by its stem, in two chunks."""
    reference, reply = tokenize("he walked to the big house"), tokenize("he walks to the house")
    matches, chunks = 5, 2
    p, r = matches / 5, matches / 6
    score = 10 * p * r / (r + 9 * p) * (1 - 0.5 * (chunks / matches) ** 3)
    assert meteor(reference, reply) == pytest.approx(100 * score)
    assert meteor(reference, ["nothing"]) == 0
    assert meteor(reference, []) == 0
    assert meteor(["car"], ["automobile"]) == 0  # synonyms do not count


# -- CIDEr -------------------------------------------------------------------------------------


def cider_by_hand(clip: bool) -> list[float]:
    """Transcribe the definition, n-gram by n-gram over the whole vocabulary."""
    scores = []
    for reference, reply in zip(REFERENCES, REPLIES, strict=True):
        total = 0.0
        for n in range(1, 5):
            vocabulary = {g for words in (*REFERENCES, *REPLIES) for g in grams(words, n)}
            h, r = Counter(grams(reply, n)), Counter(grams(reference, n))
            dot = left = right = 0.0
            for gram in vocabulary:
                held = sum(gram in grams(words, n) for words in REFERENCES)
                idf = math.log(len(REFERENCES) / max(1, held))
                a, b = h[gram] * idf, r[gram] * idf
                dot += min(a, b) * b if clip else a * b
                left, right = left + a * a, right + b * b
            cosine = dot / math.sqrt(left * right) if left and right else 0.0
            if clip:
                cosine *= math.exp(-((len(reply) - len(reference)) ** 2) / (2 * SIGMA**2))
            total += cosine / 4
        scores.append(total)
    return scores


def test_cider_of_the_definition() -> None:
    weigh = CiderWeights(REFERENCES)
    pairs = list(zip(REFERENCES, REPLIES, strict=True))
    plain, clipped = cider_by_hand(False), cider_by_hand(True)
    assert [weigh.score(r, h) for r, h in pairs] == pytest.approx([100 * x for x in plain])
    assert [weigh.score_d(r, h) for r, h in pairs] == pytest.approx([10 * x for x in clipped])


def test_cider_d_is_that_of_pycocoevalcap() -> None:
    """Scores of version 1.2 of that package for the same texts."""
    weigh = CiderWeights(REFERENCES)
    found = [weigh.score_d(r, h) for r, h in zip(REFERENCES, REPLIES, strict=True)]
    assert found == pytest.approx([2.355783605537027, 4.404851470771684, 3.921065318252948])


def test_cider_of_a_perfect_reply() -> None:
    weigh = CiderWeights(REFERENCES)
    for words in REFERENCES:
        assert weigh.score(words, words) == pytest.approx(100)
        assert weigh.score_d(words, words) == pytest.approx(10)
    assert weigh.score(REFERENCES[0], []) == 0
    assert CiderWeights([["a"]]).score(["a"], ["a"]) == 0  # one reference: no n-gram is rare


# -- Distinct-n and perplexity -----------------------------------------------------------------


def test_distinct_counts_by_hand() -> None:
    replies = [["a", "b", "a", "b"], ["b", "a"], ["c"], []]
    assert distinct(replies, 1) == pytest.approx(100 * 3 / 7)
    assert distinct(replies, 2) == pytest.approx(100 * 2 / 4)
    assert distinct(replies, 2, drop_last=True) == pytest.approx(100 * 2 / 2)
    assert distinct([[]], 1) == 0


def test_perplexity_is_per_token() -> None:
    score = zoo.metrics.ReplyPerplexity()
    assert math.isnan(score([0.0], [0]))
    score.update([math.log(2) * 3, math.log(8)], [3, 1])
    assert float(score.compute()) == pytest.approx(2**1.5)


# -- tags --------------------------------------------------------------------------------------


def test_tags_of_other_concepts() -> None:
    assert strip_tags("<Humor> Ha.") == "Ha."
    assert strip_tags("What a goal! [sports] Did you see it?") != strip_tags(
        "What a goal! [sports] Did you see it?", ["sports"]
    )
    assert strip_tags("[be kind] Hello") == "Hello"
    assert strip_tags("Strategy: ask gently. Response: Hello") == "Hello"
    assert strip_tags("Topic: my cat\nHello") == "Hello"
    assert strip_tags("[Question]") == ""


@pytest.mark.parametrize(
    "text",
    [
        "(please click the button) Thank you",
        "Call me at #1 or #2, R&D&E",
        "2 < 3 and 5 > 4",
        "My answer [name] is no",
        "[Name], how are you?",
        "It is a question of time: wait.",
        "",
    ],
)
def test_other_brackets_stay(text: str) -> None:
    assert strip_tags(text) == text


# -- ratings -----------------------------------------------------------------------------------


def test_satisfaction_is_the_mean_of_its_facets() -> None:
    facets = {"acceptance": 3.0, "effectiveness": 3.2, "sensitivity": 3.1, "alignment": 3.0}
    assert round(satisfaction(facets), 2) in (3.07, 3.08)  # 3.075
    assert satisfaction({**facets, "satisfaction": 5}) == 5
    assert satisfaction({"acceptance": 2, "fluency": 5}) == 2
    with pytest.raises(ValueError, match="no rating of satisfaction"):
        satisfaction({"fluency": 5})


def test_raters_are_averaged() -> None:
    means = zoo.metrics.SupportRatings()
    found = means([{"acceptance": 2, "fluency": 5}, {"acceptance": 5, "fluency": 4}])
    assert found == {"acceptance": 3.5, "fluency": 4.5, "satisfaction": 3.5}
    for bad in ([{"acceptance": 6}], [{"kindness": 3}], [{"fluency": 3}, {"emotion": 3}]):
        with pytest.raises(ValueError, match="rat"):
            zoo.metrics.SupportRatings()(bad)


def test_value_of_graded_dialogues() -> None:
    score = zoo.metrics.DialogueValue(gamma=0.5)
    assert score([[4.0, 2.0], [3.0]]) == {"reward": 3.0, "value": (5.0 + 3.0) / 2}

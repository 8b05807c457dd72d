"""Scores of replies in emotional support: BLEU and distinct, and tags that are stripped."""

from __future__ import annotations

import math

import pytest

from zoo.metrics.text import bleu, distinct, rouge_l, tokenize
from zoo.support.labels import EMOTIONS, STRATEGIES
from zoo.support.metrics import SupportAnswer, support_scores
from zoo.support.tags import strip_tags

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

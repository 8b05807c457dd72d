"""Scores of translations, and the rows in which they are shown and written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.alpo.alpo_blocks import OPEN, block, scored
from sacrebleu.metrics import BLEU

from zoo.errors import InputError
from zoo.methods.alpo.evaluation import core, mean_score
from zoo.methods.alpo.metrics import CorpusScore
from zoo.methods.alpo.scoring import ReferenceScorer
from zoo.records import SubtitleBlock


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
    with pytest.raises(InputError, match="prompt: has no text"):
        module.show([block(1)], prompt=" \n ")


def test_a_block_whose_last_line_is_cut_off_is_not_whole(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines end with the end of the turn, for which the limit has to leave a token."""
    asked = block(2)
    module = make("ALPO", "tiny-llama")
    said = module.encoder().response(asked.translation, 1, len(asked.lines))
    for limit, found in ((len(said), asked.translation), (len(said) - 3, None)):
        module.max_answer_tokens, left = limit, iter(said)
        monkeypatch.setattr(module, "last_logits", lambda _, left=left: one_hot(next(left)))
        assert module.generate([asked]) == [found]


def one_hot(token: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor([token]), 400).float()

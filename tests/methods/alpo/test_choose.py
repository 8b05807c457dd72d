"""Gates, the share of chosen prefixes and outcomes of whole blocks, on scores by hand."""

from __future__ import annotations

import math
import random

import pytest
import torch
from methods.alpo.alpo_blocks import OPEN, scored

import zoo
from zoo.methods.alpo.choose import (
    PairRule,
    carry_on,
    choose,
    choose_every_segment,
    mixing,
    whole_outcomes,
)


def test_a_gate_can_read_the_variance_and_keep_a_least_beta() -> None:
    """The variance of all candidates, not of a sample of them; both limits are to be exceeded."""
    scores = [10.0, 12.0, 14.0, 16.0]  # variance 5, range 6
    assert PairRule("variance", 4.99).opens(scores, 3, 0)
    assert not PairRule("variance", 5.0).opens(scores, 3, 0)
    assert PairRule("range", 5.99).opens(scores, 3, 0)
    assert not PairRule("range", 6.0).opens(scores, 3, 0)
    assert not PairRule("range", 1.0).opens(scores[:3], 2, 0)
    assert not PairRule("range", 1.0).opens(scores, 0, 0)
    record = scored([OPEN, [50.0, 52.0, 54.0, 56.0, 58.0, 60.0]])
    free, kept = choose(record, 0), choose(record, 0, PairRule(min_beta=0.9))
    assert min(c.beta for c in free) < 0.9
    assert [c.beta for c in kept] == [max(c.beta, 0.9) for c in free]


def test_a_researchers_rule_reaches_the_batch() -> None:
    """One method of a subclass changes beta and w of the pairs that are learned from."""

    class RootRule(PairRule):
        """beta grows with the root of the gap; every open gate counts alike."""

        def weight(self, candidates: int, total: int) -> float:
            return 1.0

        def beta(self, gap: float, widest: float) -> float:
            return math.sqrt(gap / widest)

    class RootALPO(zoo.ALPO):
        """ALPO with another rule."""

        def pair_rule(self) -> PairRule:
            return RootRule()

    record = scored([OPEN, [50.0, 52.0, 54.0, 56.0, 58.0, 60.0], None])
    batches = []
    for kind in (zoo.ALPO, RootALPO):
        module = kind({"name": "tiny-llama"}, objective="alpo")
        module.configure_model()
        encoder = module.encoder()
        batches.append(encoder.collate(encoder(record), {}))
    assert batches[1].pair_weights.tolist() == [1.0, 1.0]
    torch.testing.assert_close(batches[1].pair_betas, batches[0].pair_betas.sqrt())
    assert len(set(batches[0].pair_betas.tolist())) == 2


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


@pytest.mark.parametrize(
    ("count", "share"), [(2, 1 / 2), (3, 1 / 3), (4, 2 / 3), (5, 1.0), (8, 1.0)]
)
def test_segment_dpo_has_pairs_whose_chosen_side_scores_above(count: int, share: float) -> None:
    """Any of the three best is chosen; below five candidates it can be the worse side."""
    scores = [10.0 * i for i in range(count)]
    blocks = [scored([scores, [40.0] * count, None], i) for i in range(600)]
    found = [choose_every_segment(block, 0, 0.1) for block in blocks]
    opened = sum(first.is_open for first, _, _ in found) / len(found)
    assert opened == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / len(found)))
    assert all(scores[c.chosen] > scores[c.rejected] for c, _, _ in found if c.is_open)
    assert not any(choice.is_open for _, *others in found for choice in others)

"""Gates, the share of chosen prefixes and outcomes of whole blocks, on scores by hand."""

from __future__ import annotations

import math
import random

import pytest
import torch
from methods.alpo.alpo_blocks import OPEN, scored

import zoo
from zoo.methods.alpo.choose import PairRule, carry_on, choose, mixing, whole_outcomes


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

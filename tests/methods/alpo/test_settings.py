"""Settings: which are refused, which are defaults, and whose betas are scaled."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.alpo.alpo_blocks import OPEN, scored

import zoo
from zoo.errors import InputError
from zoo.methods.alpo import __main__ as command
from zoo.methods.alpo.candidates import Sampling
from zoo.methods.alpo.choose import PairRule
from zoo.methods.alpo.translate import Translating
from zoo.methods.alpo.writing import Nucleus


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mixing_stages": 1}, "model.mixing_stages: 1 is below 2"),
        ({"beta_scale": 0.0}, "model.beta_scale: 0.0 is not above 0"),
        ({"dpo_beta": 0.0}, "model.dpo_beta: 0.0 is not above 0"),
        ({"min_beta": 3.0}, "model.min_beta: 3.0 is not from 0 to 1"),
        ({"min_beta": -0.1}, "model.min_beta: -0.1 is not from 0 to 1"),
    ],
)
def test_settings_that_mean_nothing(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        zoo.ALPO({"name": "tiny-llama"}, **options).validate()
    zoo.ALPO({"name": "tiny-llama"}, mixing_stages=2).validate()


@pytest.mark.parametrize(
    ("wrong", "k", "said"),
    [
        ({"temperature": 0.0}, 15, r"scoring.temperature: 0.0 is not above 0"),
        ({}, 26, r"sampling.k: 26; json names at most 26 candidates"),
    ],
)
def test_settings_that_json_can_not_score_are_refused_at_once(
    tmp_path: Path, wrong: dict[str, Any], k: int, said: str
) -> None:
    """Before a model is loaded or a line is written; other scorers take them."""
    judge, output = zoo.Backbone("no such model"), tmp_path / "scored.jsonl"

    def start(kind: Any) -> None:
        scoring = command.Scoring(kind, judge, **wrong)
        data = SimpleNamespace(record_types=())
        command.sample("no such folder", data, str(output), "train", Sampling(k=k), scoring)

    with pytest.raises(InputError, match=said):
        start("json")
    for kind in ("reference", "choice"):
        with pytest.raises(InputError, match="data: SimpleNamespace has no blocks"):
            start(kind)
    command.Scoring("json", judge).check(25)
    assert not output.exists()


def test_defaults_are_those_of_the_paper_and_the_release() -> None:
    """15 samples in sequence; 4 votes, 3 retries at 0.3; a gate above 5 points; 2 rewrites."""
    sampling, scoring, how = Sampling(), command.Scoring(), Translating()
    sampling.check()
    assert (sampling.k, sampling.mode) == (15, "sequential")
    assert (scoring.votes, scoring.retries, scoring.temperature) == (4, 3, 0.3)
    assert (how.nucleus, how.retries) == (Nucleus(0.5, 0.7, 30), 2)
    assert (PairRule().statistic, PairRule().spread, PairRule().min_beta) == ("range", 5.0, 0.0)
    module = zoo.ALPO({"name": "tiny-llama"})
    assert module.pair_rule() == PairRule()
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

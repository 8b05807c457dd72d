"""Defaults: those that papers print, those that methods share, those of their parts."""

from __future__ import annotations

import re
import sys
from inspect import Parameter, signature
from typing import Any

import pytest

import zoo
from zoo.losses.preference import dpo_loss
from zoo.methods.fisminess.encoder import WalkEncoder
from zoo.methods.lahore.encoder import RelevanceEncoder
from zoo.methods.rabtriever.state_predictor import StatePredictor
from zoo.methods.straq.encoder import TransitionEncoder
from zoo.methods.straq.grading import Distilled
from zoo.methods.straq.responder import ReplyEncoder, Responder
from zoo.methods.straq.rewards import Imitated
from zoo.prompts.thoughts import ThoughtEncoder


def defaults(made: Any) -> dict[str, Any]:
    """Return the default of every argument that has one."""
    arguments = signature(made).parameters.values()
    return {a.name: a.default for a in arguments if a.default is not Parameter.empty}


@pytest.mark.parametrize(
    ("method", "name", "said"),
    [
        ("StraQ", "gamma", r"\bgamma ([\d.]+), C"),
        ("StraQ", "sync_every", r"\bC = (\d+)"),
        ("LaHoRe", "beta", r"DPO with beta ([\d.]+)"),
        ("Rabtriever", "kl_weight", r"w = ([\d.]+), from the curve"),
        ("Rabtriever", "document_tokens", r"documents of (\d+) tokens"),
    ],
)
def test_defaults_are_what_the_docstring_says(method: str, name: str, said: str) -> None:
    kind = getattr(zoo, method)
    text = " ".join((sys.modules[kind.__module__].__doc__ or "").split())
    (number,) = re.findall(said, text)
    assert defaults(kind)[name] == float(number)


OF_A_PAPER = {"document_tokens", "template"}  # its own, in one of the two


@pytest.mark.parametrize(
    "methods",
    [
        ("SFT", "MeTHanol"),
        ("CoCT", "ESCBaseline"),
        ("LaHoRe", "Rabtriever"),
    ],
)
def test_what_is_compared_differs_in_what_is_its_own(methods: tuple[str, str]) -> None:
    """Every setting that both have has one default: windows, limits, decoding, batches, caches."""
    one, other = (defaults(getattr(zoo, name)) for name in methods)
    shared = (one.keys() & other.keys()) - OF_A_PAPER
    assert len(shared) > 5
    assert {name: one[name] for name in shared} == {name: other[name] for name in shared}


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("max_new_tokens", ("StraQ", "FiSMiness")),
        ("max_length", ("StraQ", "FiSMiness", "LaHoRe", "SFT")),
        ("max_generated", ("FiSMiness", "CoCT", "ESCBaseline")),
        ("padding_free", ("StraQ", "FiSMiness", "CoCT", "LaHoRe", "SFT")),
    ],
)
def test_a_setting_of_several_methods_has_one_default(name: str, methods: tuple[str, ...]) -> None:
    assert len({defaults(getattr(zoo, method))[name] for method in methods}) == 1


@pytest.mark.parametrize(
    ("part", "method", "names"),
    [
        (
            RelevanceEncoder,
            "LaHoRe",
            *(["template", "order", "relevance", "choice", "system", "negatives"],),
        ),
        (RelevanceEncoder, "LaHoRe", ["document_tokens", "max_length"]),
        (TransitionEncoder, "StraQ", ["reuse_next", "max_length"]),
        (Imitated, "StraQ", ["seed"]),
        (Distilled, "StraQ", ["seed"]),
        (Responder, "StraQ", ["max_length", "max_new_tokens"]),
        (ReplyEncoder, "StraQ", ["max_length"]),
        (WalkEncoder, "FiSMiness", ["max_length", "max_new_tokens"]),
        (ThoughtEncoder, "SFT", ["max_length"]),
        (StatePredictor, "Rabtriever", ["num_layers"]),
        (dpo_loss, "LaHoRe", ["beta"]),
    ],
)
def test_a_part_by_itself_is_that_of_its_method(part: Any, method: str, names: list[str]) -> None:
    own, whole = defaults(part), defaults(getattr(zoo, method))
    assert {name: own[name] for name in names} == {name: whole[name] for name in names}


def test_room_for_a_reply_is_its_limit() -> None:
    assert defaults(ReplyEncoder)["room"] == defaults(zoo.StraQ)["max_new_tokens"]


def test_as_many_others_as_logged_strategies_are_judged() -> None:
    """One for one, by imitation and by grades (section "straQ*-imit" of the module)."""
    assert defaults(Imitated)["negatives"] == defaults(Distilled)["alternatives"] == 1
    assert defaults(Distilled)["scale"] == 1.0


def test_a_shard_of_documents_fits_the_memory_for_them() -> None:
    """Of an 8B with 32 blocks, 8 key/value heads of 128 and two bytes a number."""
    of_a_token = 2 * 32 * 8 * 128 * 2
    given = defaults(zoo.LaHoRe)
    shard = zoo.LaHoRe.documents_per_shard * given["document_tokens"] * of_a_token
    assert shard == given["cache_gib"] * 2**30

"""Different dilemmas get different instructions, and a reworded one keeps most of its own."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from methods.sova.graph_parts import WordCounts

from zoo.backbone import Backbone, load
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.instruct import MapScore
from zoo.methods.sova.instruction import Instruction, advice
from zoo.methods.sova.principles import STEERING

DILEMMAS, TWINS = 200, 4
NEAR = 3  # reports for a dilemma, as in the experiments


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[ValueIndex, list[str]]:
    """Return the index of the real table and both files of principles, and dilemmas."""
    if "ZOO_DATA" not in os.environ:
        pytest.skip("ZOO_DATA names no folder with daily_dilemmas")
    from datamodules.daily_dilemmas_rows import read_principles, read_situations, read_values

    data = Path(os.environ["ZOO_DATA"]) / "daily_dilemmas"
    files = (data / "principle_openai.csv", data / "principle_claude.csv")
    texts = [text for file in files for text in read_principles(file)]
    folder, table = tmp_path_factory.mktemp("index") / "made", read_values(data / "values.csv")
    index = ValueIndex.build(folder, table, texts, encoder=WordCounts())
    return index, list(read_situations(data / "dilemma.csv").values())[:DILEMMAS]


def instructions(index: ValueIndex, theory: str, texts: list[str]) -> list[list[Instruction]]:
    """Return what the closest reports instruct, the closest one first, without their scores."""
    reports, texts_SD = index.reports_of(theory), index.embed(texts, WordCounts())
    near, fits = index.near(theory, texts_SD, NEAR), index.fits(texts_SD)
    return [
        advice([(reports[place], -i) for i, place in enumerate(places)], fit, Counter())
        for places, fit in zip(near, fits, strict=True)
    ]


@pytest.mark.fidelity("sova", 5)
@pytest.mark.parametrize("theory", STEERING)
def test_dilemmas_differ_in_their_instructions(
    theory: str, real: tuple[ValueIndex, list[str]]
) -> None:
    """The distinct share of their texts is above 0.8, and that of the principles behind above 0.5.

    The second limit is chosen here, for an encoder that knows no meanings: a text names values of
    its report too, so it may differ where the advice is the same.
    """
    index, some = real
    told = instructions(index, theory, some)
    assert len(told) == DILEMMAS
    assert sum(len(items) == NEAR for items in told) > 0.8 * DILEMMAS
    texts = {frozenset(item.text for item in items) for items in told}
    principles = {frozenset(item.principle_ids for item in items) for items in told}
    assert len(texts) > 0.8 * DILEMMAS
    assert len(principles) > 0.5 * DILEMMAS


@pytest.mark.fidelity("sova", 5)
@pytest.mark.parametrize("theory", STEERING)
def test_no_two_instructions_give_one_principle(
    theory: str, real: tuple[ValueIndex, list[str]]
) -> None:
    index, some = real
    for items in instructions(index, theory, some):
        assert len({item.principle_ids for item in items}) == len(items)


@pytest.mark.fidelity("sova", 5)
@pytest.mark.parametrize("theory", STEERING)
def test_a_reworded_dilemma_keeps_most_of_its_instructions(
    theory: str, real: tuple[ValueIndex, list[str]]
) -> None:
    """Scored by a model; a beginning of words that the encoder counts is another text to it."""
    index, some = real
    lm, tokenizer = load(Backbone("tiny-llama"))
    mapper = MapScore(lm.eval(), tokenizer, index.reports_of(theory), tau=-1, window=10**5)
    many = [*some[:TWINS], *(f"Yesterday evening: {text}" for text in some[:TWINS])]
    many_SD = index.embed(many, WordCounts())
    similar = (many_SD[:TWINS] * many_SD[TWINS:]).sum(1)
    assert ((similar > 0.8) & (similar < 0.999)).all()
    kept = mapper(many, index.near(theory, many_SD, NEAR), index.fits(many_SD)).kept
    told = [{item.text for item in items} for items in kept]
    same = sum(len(own & twin) for own, twin in zip(told[:TWINS], told[TWINS:], strict=True))
    others = sum(len(own & told[i - 1]) for i, own in enumerate(told[:TWINS]))
    assert same >= 2 / 3 * NEAR * TWINS > others
    assert len(set(map(frozenset, told[:TWINS]))) == TWINS

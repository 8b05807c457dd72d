"""How much SoVA's instructions differ from dilemma to dilemma, without a language model.

    python -m benchmarks.sova.distinct --encoder E

For the first dilemmas of DailyDilemmas: what the closest reports instruct, the closest one first,
as `benchmarks.sova` asks them with `--prefilter 3`, but without their scores. `texts` is the share
of different sets of instructions; `principles` that of the principles behind, whatever the values
that a text names; `used` how many principles any dilemma gets.

Needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import trials
from benchmarks.sova.index_times import FILES
from datamodules.daily_dilemmas_rows import read_principles, read_situations, read_values
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.instruction import advice
from zoo.methods.sova.principles import STEERING
from zoo.methods.sova.sentence_encoder import Encoder, SentenceEncoder


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the index unless it is there, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--index", default="runs/sova_index", help="made with it if not there")
    parser.add_argument("--prefilter", type=int, default=3, help="reports for a dilemma")
    parser.add_argument("--dilemmas", type=int, default=200)
    options = parser.parse_args(arguments)
    data = Path(trials.data_path("daily_dilemmas"))
    texts = [text for name in FILES for text in read_principles(data / name)]
    encoder = SentenceEncoder.load(options.encoder)
    values = read_values(data / "values.csv")
    index = ValueIndex.build(options.index, values, texts, encoder=encoder)
    situations = list(read_situations(data / "dilemma.csv").values())[: options.dilemmas]
    rows = [
        [theory, str(len(index.reports_of(theory))), *shares]
        for theory in STEERING
        for shares in [distinct(index, theory, situations, encoder, options.prefilter)]
    ]
    titles = ("theory", "reports", "texts", "principles", "used")
    print("\n".join(trials.markdown(titles, rows)))


def distinct(
    index: ValueIndex, theory: str, situations: Sequence[str], encoder: Encoder, k: int
) -> list[str]:
    """Return the shares of different texts and principles, and the number of principles used."""
    reports, vectors = index.reports_of(theory), index.embed(situations, encoder)
    near, fits = index.near(theory, vectors, k), index.fits(vectors)
    told = [
        advice([(reports[place], -rank) for rank, place in enumerate(places)], fit, Counter())
        for places, fit in zip(near, fits, strict=True)
    ]
    texts = {frozenset(item.text for item in items) for items in told}
    principles = {frozenset(item.principle_ids for item in items) for items in told}
    used = len(frozenset().union(*principles))
    return [f"{len(found) / len(told):.2f}" for found in (texts, principles)] + [str(used)]


if __name__ == "__main__":
    main()

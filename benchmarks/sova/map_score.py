"""SoVA's retrieval: reports x dilemmas scored with kept reports, or one whole prompt at a time.

- `ours`: `MapScore`: keys and values of a report are computed once and kept; the dilemmas follow
  it in batches, and only the rows of the head that are grades are read.
- `in_turn`, the first peer: plain Hugging Face, a report and a dilemma at a time, whole prompt.
- `together`: Hugging Face, all dilemmas of a step after one report in one padded batch.

Float32, likelihood scores. A step is `SITUATIONS` dilemmas against all reports of a theory; the
first step warms up, and in it the reports are read. Scores of all sides agree, and so do the kept
reports, before a time is looked at.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import ROOT, Sample, Setting, interleave
from benchmarks.meters import time_steps
from benchmarks.peers import hugging_face
from benchmarks.result import Peer, Result, agree, compare
from benchmarks.workload import BACKBONE
from datamodules.daily_dilemmas_rows import read_principles, read_situations, read_values
from zoo.backbone import Backbone, load
from zoo.markup import token_ids
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.instruct import MapScore
from zoo.methods.sova.map_prompts import GRADES, GRADING, after
from zoo.methods.sova.reports import Report

CLAIM = "reports x dilemmas scored with kept reports: >= 3x as fast as whole prompts in turn"
NAME = "map_score"
SITUATIONS = 8
SAMPLES = ROOT / "datamodules/samples"
Step = Callable[[list[str]], list[float]]


def data() -> tuple[list[Report], list[str], str]:
    """Return the reports of Maslow's needs, dilemmas, and where they come from.

    DailyDilemmas is read from `$ZOO_DATA/daily_dilemmas`; without it, the embedded sample stands in
    and the result says so.
    """
    folder = os.environ.get("ZOO_DATA")
    if folder:
        source = Path(folder) / "daily_dilemmas"
        values = read_values(source / "values.csv")
        texts = read_principles(source / "principle_claude.csv")
        dilemmas = list(read_situations(source / "dilemma.csv").values())
    else:
        values, texts = read_values(SAMPLES / "daily_dilemmas_values.csv"), []
        dilemmas = [f"You have found {i} coins. Should you give them back?" for i in range(200)]
    with tempfile.TemporaryDirectory() as scratch:
        index = ValueIndex.build(Path(scratch) / "index", values, texts)
    name = "DailyDilemmas" if folder else "the embedded sample of values"
    return index.reports_of("maslow"), dilemmas, name


def ours(setting: Setting, *, steps: int, reports: int) -> Sample:
    """Score with kept reports, in batches."""
    lm, tokenizer = load(Backbone(BACKBONE))
    lm.to(setting.device).eval()
    found, dilemmas, name = data()
    mapper = MapScore(lm, tokenizer, found[:reports])

    def step(situations: list[str]) -> list[float]:
        pairs = [(r, s) for r in range(len(mapper.reports)) for s in range(len(situations))]
        return [float(score) for score in mapper.scores(pairs, situations)]

    return _time(step, mapper, dilemmas, lm, setting, steps, name)


def hugging(setting: Setting, *, steps: int, reports: int, rows: int) -> Sample:
    """Score whole prompts with Hugging Face, `rows` dilemmas at a time."""
    lm = hugging_face(BACKBONE, setting.device)
    _, tokenizer = load(Backbone(BACKBONE), meta=True)
    found, dilemmas, name = data()
    prompts = MapScore(lm, tokenizer, found[:reports])
    values = torch.linspace(0, 100, len(GRADES))

    def step(situations: list[str]) -> list[float]:
        ends = [token_ids(tokenizer, after(prompts.chat, s, GRADING)) for s in situations]
        scores: list[float] = []
        for begin in prompts.befores:
            for start in range(0, len(ends), rows):
                group = [[*begin, *end] for end in ends[start : start + rows]]
                logits = _last(lm, group, setting.device)[:, prompts.grade_ids]
                scores += (logits.float().softmax(1).cpu() @ values).tolist()
        return scores

    return _time(step, prompts, dilemmas, lm, setting, steps, name)


def _last(lm: Any, rows: Sequence[list[int]], device: str) -> torch.Tensor:
    """Return the logits behind the last token of each row, padded on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows], device=device)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    options = {"use_cache": False, "logits_to_keep": 1}
    logits: torch.Tensor = lm(ids, attention_mask=mask, position_ids=places, **options).logits
    return logits[:, -1]


@torch.no_grad()
def _time(
    step: Step,
    prompts: MapScore,
    dilemmas: list[str],
    lm: Any,
    setting: Setting,
    steps: int,
    name: str,
) -> Sample:
    """Time one step after the other; the first one warms up."""
    groups = [dilemmas[i * SITUATIONS : (i + 1) * SITUATIONS] for i in range(steps + 1)]
    answers, measured = time_steps(step, groups, lm, setting.device)
    flat = [score for row in answers for score in row]
    ends = [
        [len(token_ids(prompts.tokenizer, after(prompts.chat, s, GRADING))) for s in group]
        for group in groups
    ]
    begins = [len(ids) for ids in prompts.befores]
    pairs = len(begins) * SITUATIONS
    return Sample(
        **measured,
        work={"pairs": [float(pairs)] * steps},
        checks={f"score {i}": score for i, score in enumerate(flat)},
        notes={"data": name, "begins": begins, "ends": ends[1:], "reports": len(begins)},
    )


def bound(sample: Sample) -> float:
    """Return the ratio of the tokens that both sides run in a step."""
    begins, ends = sample.notes["begins"], sample.notes["ends"]
    suffixes = sum(map(sum, ends)) * len(begins)
    return (suffixes + sum(begins) * sum(map(len, ends))) / suffixes


SIDES: dict[str, Callable[..., Sample]] = {
    "ours": ours,
    "in_turn": partial(hugging, rows=1),
    "together": partial(hugging, rows=SITUATIONS),
}
PEERS = {
    "in_turn": "Hugging Face, one report and dilemma at a time",
    "together": "Hugging Face, a report and all dilemmas of a step in one batch",
}


def run(setting: Setting) -> Result:
    """Compare scores, then times."""
    options = {"steps": 1, "reports": 2} if setting.quick else {"steps": 2, "reports": 36}
    repeats = 1 if setting.quick else 3
    samples = interleave(NAME, dict.fromkeys(SIDES, options), setting, repeats)
    mine = samples["ours"][0]
    tolerances = dict.fromkeys(mine.checks, 0.05)  # of 100
    checks = {}
    for peer in PEERS:
        same = agree(mine, samples[peer][0], tolerances)
        worst = max(same[key]["difference"] for key in tolerances)
        checks[peer] = {"scores": len(tolerances), "difference": worst, "tolerance": 0.05}
    limit = bound(mine)
    peers = [
        Peer(PEERS["in_turn"], "in_turn", target=3.0),  # batches use a processor better: no bound
        Peer(PEERS["together"], "together", bound=limit),
    ]
    return compare(NAME, CLAIM, peers, samples, checks)

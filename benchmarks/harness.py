"""Run the two sides of a claim in turn, one process each, and turn their times into one result.

A claim is a module with `CLAIM` (one line), `SIDES` (name -> function that measures in its own
process) and `run(setting)`. A side gets a `Setting` and an options dict and returns a `Sample`;
`benchmarks.result` makes a result of the samples once their checks agree.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from zoo.cache import whole_file

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = {  # name on the command line -> module
    "sft_vs_trl": "benchmarks.sft_vs_trl",
    "vocabulary_loss": "benchmarks.vocabulary_loss",
    "dual_head": "benchmarks.methanol.dual_head",
    "two_pass": "benchmarks.methanol.two_pass",
    "moe_dispatch": "benchmarks.m3_jepa.moe_dispatch",
    "frozen_lower": "benchmarks.m3_jepa.frozen_lower",
    "coarse_step": "benchmarks.hdlm.coarse_step",
    "early_exit": "benchmarks.hdlm.early_exit",
    "option_scoring": "benchmarks.straq.option_scoring",
    "megan_gate": "benchmarks.megan.gate",
    "rerank": "benchmarks.ranking.rerank",
    "rabtriever_online": "benchmarks.ranking.rabtriever_online",
    "fsm_batch": "benchmarks.fisminess.fsm_batch",
    "preference_tree": "benchmarks.alpo.preference_tree",
    "dpo_step": "benchmarks.alpo.dpo_step",
    "role_mean": "benchmarks.mupas.role_mean",
    "dilemma_batch": "benchmarks.sova.dilemma_batch",
    "map_score": "benchmarks.sova.map_score",
    "data_start": "benchmarks.data_start",
    "stream": "benchmarks.stream",
    "cpt_packing": "benchmarks.almr.packing",
}


class BenchmarkError(RuntimeError):
    """A side failed, or the two sides did not compute the same thing."""


@dataclass(frozen=True)
class Setting:
    """How to run a claim.

    Attributes:
        device: `cpu` or `cuda`.
        quick: A smaller workload, under four minutes.
        size: Number of items of a claim that can be scaled; 0 for its own.
        samples: File of finished samples, from which a run that was cut off goes on; empty for
            none.
    """

    device: str = "cpu"
    quick: bool = False
    size: int = 0
    samples: str = ""


@dataclass
class Sample:
    """What one process of one side measured.

    Attributes:
        seconds: Time of each timed step; step i is the same work on both sides.
        cpu_seconds: Processor time of each step, all threads: on a shared machine it tells work
            from waiting.
        work: Amounts of one step each, for example `tokens` and `supervised`, one list per name.
        checks: Values that must agree with the other side.
        loaded_bytes: Memory in use when the model was loaded.
        peak_bytes: Highest memory in use after that.
        notes: Settings that the result should name.
    """

    seconds: list[float]
    cpu_seconds: list[float] = field(default_factory=list)
    work: dict[str, list[float]] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)
    loaded_bytes: int = 0
    peak_bytes: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


def load_claim(name: str) -> Any:
    """Return the module of a claim."""
    return importlib.import_module(CLAIMS[name])


def measure(name: str, side: str, setting: Setting, **options: Any) -> Sample:
    """Run one side in a fresh process.

    Raises:
        BenchmarkError: The process failed; the message ends with its last lines.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sample.json"
        job = {"name": name, "side": side, "out": str(out), "options": options}
        job["setting"] = dataclasses.asdict(setting)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.harness", json.dumps(job)],
            cwd=ROOT,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0 or not out.exists():
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise BenchmarkError(f"{name}: side {side!r} {options} failed:\n{tail}")
        sample = Sample(**json.loads(out.read_text()))
    speed = statistics.median(sample.seconds) if sample.seconds else math.nan
    print(
        f"  {side:<12} {_compact(options):<44} {speed:9.3f} s/step  peak "
        f"{sample.peak_bytes / 2**20:7.0f} MiB ({sample.loaded_bytes / 2**20:.0f} loaded)",
        flush=True,
    )
    return sample


def interleave(
    name: str, sides: Mapping[str, Mapping[str, Any]], setting: Setting, repeats: int
) -> dict[str, list[Sample]]:
    """Measure sides in turn, A B A B, `repeats` times.

    Args:
        name: The claim.
        sides: Side -> its options.
        setting: How to run.
        repeats: Processes per side.
    """
    samples: dict[str, list[Sample]] = {side: [] for side in sides}
    path = Path(setting.samples) if setting.samples else None
    kept: dict[str, Any] = json.loads(path.read_text()) if path and path.exists() else {}
    for repeat in range(repeats):
        for side, options in sides.items():
            key = json.dumps([name, side, options, setting.device, setting.quick, repeat])
            if key not in kept:
                kept[key] = dataclasses.asdict(measure(name, side, setting, **options))
                if path:
                    with whole_file(path) as scratch:
                        scratch.write_text(json.dumps(kept))
            samples[side].append(Sample(**kept[key]))
    return samples


def _compact(options: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


def _child(job: Mapping[str, Any]) -> None:
    """Measure one side in this process and write its sample."""
    torch.manual_seed(0)
    side = load_claim(job["name"]).SIDES[job["side"]]
    sample = side(Setting(**job["setting"]), **job["options"])
    Path(job["out"]).write_text(json.dumps(dataclasses.asdict(sample)))


if __name__ == "__main__":
    _child(json.loads(sys.argv[1]))

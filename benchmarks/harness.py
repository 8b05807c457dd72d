"""Run the two sides of a claim in turn, one process each, and turn their times into one result.

A claim is a module with `CLAIM` (one line), `SIDES` (name -> function that measures in its own
process) and `run(setting)`. A side gets a `Setting` and an options dict and returns a `Sample`.
`compare` checks that the sides computed the same thing before any time is looked at.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = ("sft_vs_trl",)
PACKAGES = ("torch", "transformers", "trl", "lightning")


class BenchmarkError(RuntimeError):
    """A side failed, or the two sides did not compute the same thing."""


@dataclass(frozen=True)
class Setting:
    """How to run a claim.

    Attributes:
        device: `cpu` or `cuda`.
        quick: A smaller workload, under four minutes.
    """

    device: str = "cpu"
    quick: bool = False


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


@dataclass
class Result:
    """One claim, measured; `ratio` above 1 says that ours is faster.

    Attributes:
        name: Module of the claim.
        claim: What is claimed, in one line.
        peer: What ours is compared with.
        ratio: Time of the peer over our time, median over paired steps.
        ratio_p20: 20th percentile of the paired ratios.
        ratio_p80: 80th percentile of the paired ratios.
        cpu_ratio: The same of processor time, None on CUDA.
        memory_ratio: Our peak memory over the peer's; below 1 says that ours needs less.
        memory_ratio_above_model: The same above the loaded model.
        bound: Highest ratio that arithmetic allows, None where no bound is known.
        above_bound: The ratio is above its bound, so something is measured wrongly.
        target: The ratio to reach.
        memory_target: The memory ratio to stay below, None where memory is not claimed.
        ours: Summary of our side.
        theirs: Summary of the peer.
        checks: What was compared before the times were looked at.
        details: Further peers and settings.
        environment: Machine and versions.
    """

    name: str
    claim: str
    peer: str
    ratio: float
    ratio_p20: float
    ratio_p80: float
    cpu_ratio: float | None
    memory_ratio: float
    memory_ratio_above_model: float
    bound: float | None
    above_bound: bool
    target: float
    memory_target: float | None
    ours: dict[str, Any]
    theirs: dict[str, Any]
    checks: dict[str, Any]
    details: dict[str, Any]
    environment: dict[str, Any]


class Meter:
    """Memory of this process: device memory on CUDA, resident set on the CPU."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.loaded = 0

    def start(self, model: torch.nn.Module) -> None:
        """Forget earlier peaks and remember what the loaded model takes."""
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.sum()  # weights mapped from a file count once they are read
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.loaded = torch.cuda.memory_allocated()
            return
        clear = Path("/proc/self/clear_refs")  # "5" resets the high-water mark to the present
        if clear.exists():
            clear.write_text("5")
        self.loaded = _resident("VmRSS")

    def peak(self) -> int:
        """Return the highest memory in use since `start`, in bytes."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated()
        return _resident("VmHWM")


def _resident(key: str) -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


class Clock:
    """Marks the ends of steps; the first mark is where the timing starts."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        """Note the time once all work given to the device is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.marks.append((time.perf_counter(), time.process_time()))

    def steps(self) -> dict[str, list[float]]:
        """Return wall and processor seconds between neighbouring marks."""
        pairs = list(itertools.pairwise(self.marks))
        cpu = [] if self.device == "cuda" else [b[1] - a[1] for a, b in pairs]
        return {"seconds": [b[0] - a[0] for a, b in pairs], "cpu_seconds": cpu}


def load_claim(name: str) -> Any:
    """Return the module of a claim."""
    return importlib.import_module(f"benchmarks.{name}")


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
    for _ in range(repeats):
        for side, options in sides.items():
            samples[side].append(measure(name, side, setting, **options))
    return samples


def agree(ours: Sample, theirs: Sample, tolerances: Mapping[str, float]) -> dict[str, Any]:
    """Compare the named checks of both sides and return them with their differences.

    Numbers agree within a relative tolerance; everything else has to be equal (tolerance 0).

    Raises:
        BenchmarkError: A check differs by more.
    """
    report = {}
    for key, tolerance in tolerances.items():
        a, b = ours.checks[key], theirs.checks[key]
        numbers = all(isinstance(value, int | float) for value in (a, b))
        difference = abs(a - b) / max(abs(b), 1e-12) if numbers else float(a != b)
        shown = {"ours": a, "theirs": b} if numbers else {}
        report[key] = {**shown, "difference": difference, "tolerance": tolerance}
        if not difference <= tolerance:
            raise BenchmarkError(f"{key} differs: ours {a}, theirs {b} (tolerance {tolerance})")
    return report


def paired_ratios(
    ours: Sequence[Sample], theirs: Sequence[Sample], kind: str = "seconds"
) -> list[float]:
    """Return the peer's time over ours for each step of each repeat; `kind` names the field."""
    return [
        b / a
        for mine, other in zip(ours, theirs, strict=True)
        for a, b in zip(getattr(mine, kind), getattr(other, kind), strict=True)
    ]


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the 20th percentile, the median and the 80th percentile (linear interpolation)."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return at(0.2), at(0.5), at(0.8)


def summarise(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return median seconds, memory and each kind of work per second of one side."""
    p20, median, p80 = quantiles([t for sample in samples for t in sample.seconds])
    total = sum(sum(sample.seconds) for sample in samples)
    rates = {
        f"{name}_per_second": sum(sum(sample.work[name]) for sample in samples) / total
        for name in samples[0].work
    }
    return {
        "seconds": median,
        "seconds_p20": p20,
        "seconds_p80": p80,
        "steps": sum(len(sample.seconds) for sample in samples),
        **rates,
        "peak_bytes": quantiles([sample.peak_bytes for sample in samples])[1],
        "loaded_bytes": quantiles([sample.loaded_bytes for sample in samples])[1],
        **samples[0].notes,
    }


def compare(
    name: str,
    claim: str,
    peer: str,
    ours: Sequence[Sample],
    theirs: Sequence[Sample],
    *,
    checks: Mapping[str, Any],
    target: float,
    memory_target: float | None = None,
    bound: float | None = None,
    details: Mapping[str, Any] | None = None,
) -> Result:
    """Make the result of a claim from the samples of both sides, already checked by `agree`."""
    p20, ratio, p80 = quantiles(paired_ratios(ours, theirs))
    cpu = paired_ratios(ours, theirs, "cpu_seconds")
    mine, other = summarise(ours), summarise(theirs)
    above = [max(side["peak_bytes"] - side["loaded_bytes"], 1) for side in (mine, other)]
    return Result(
        name=name,
        claim=claim,
        peer=peer,
        ratio=ratio,
        ratio_p20=p20,
        ratio_p80=p80,
        cpu_ratio=quantiles(cpu)[1] if cpu else None,
        memory_ratio=mine["peak_bytes"] / other["peak_bytes"],
        memory_ratio_above_model=above[0] / above[1],
        bound=bound,
        above_bound=bound is not None and ratio > bound,
        target=target,
        memory_target=memory_target,
        ours=mine,
        theirs=other,
        checks=dict(checks),
        details=dict(details or {}),
        environment=environment(),
    )


def environment() -> dict[str, Any]:
    """Return machine, threads, versions, commit and date."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "cpu": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **versions,
        "commit": commit.stdout.strip() or None,
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


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

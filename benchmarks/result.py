"""From the samples of both sides to one result: checks, paired ratios, bound, environment."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import ROOT, BenchmarkError, Sample

Samples = Mapping[str, Sequence[Sample]]  # side -> a sample of each of its processes
PACKAGES = ("torch", "transformers", "trl", "lightning")


@dataclass(frozen=True)
class Peer:
    """What ours is compared with, and what is claimed of it.

    Attributes:
        label: What the peer is, as it is printed.
        side: Its side of the claim.
        ours: The side that is compared with it.
        target: The ratio to reach, None where none is claimed.
        memory_target: The memory ratio to stay below, None where memory is not claimed.
        bound: Highest ratio that arithmetic allows, None where no bound is known.
    """

    label: str
    side: str
    ours: str = "ours"
    target: float | None = None
    memory_target: float | None = None
    bound: float | None = None


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
        bound: As of `Peer`.
        above_bound: The ratio's 20th percentile is above its bound, so something is measured
            wrongly.
        target: As of `Peer`.
        memory_target: As of `Peer`.
        ours: Summary of our side.
        theirs: Summary of the peer.
        others: Further peer -> the fields from `ratio` to `memory_target` against it.
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
    target: float | None
    memory_target: float | None
    ours: dict[str, Any]
    theirs: dict[str, Any]
    others: dict[str, dict[str, Any]]
    checks: dict[str, Any]
    details: dict[str, Any]
    environment: dict[str, Any]


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


def versus(samples: Samples, peer: Peer) -> dict[str, Any]:
    """Compare two sides: the fields of `Result` from `ratio` to `memory_target`."""
    ours, theirs = samples[peer.ours], samples[peer.side]
    p20, ratio, p80 = quantiles(paired_ratios(ours, theirs))
    cpu = paired_ratios(ours, theirs, "cpu_seconds")
    peaks = [quantiles([s.peak_bytes for s in side])[1] for side in (ours, theirs)]
    loaded = [quantiles([s.loaded_bytes for s in side])[1] for side in (ours, theirs)]
    above = [max(peak - base, 1) for peak, base in zip(peaks, loaded, strict=True)]
    return {
        "ratio": ratio,
        "ratio_p20": p20,
        "ratio_p80": p80,
        "cpu_ratio": quantiles(cpu)[1] if cpu else None,
        "memory_ratio": peaks[0] / peaks[1],
        "memory_ratio_above_model": above[0] / above[1],
        "bound": peer.bound,
        "above_bound": peer.bound is not None and p20 > peer.bound,
        "target": peer.target,
        "memory_target": peer.memory_target,
    }


def compare(
    name: str,
    claim: str,
    peers: Sequence[Peer],
    samples: Samples,
    checks: Mapping[str, Any],
    **details: Any,
) -> Result:
    """Make the result of a claim from the samples of its sides, already checked by `agree`.

    Args:
        name: Module of the claim.
        claim: What is claimed.
        peers: What is compared; the first peer gives the result's own ratio.
        samples: Side -> its samples.
        checks: What `agree` compared.
        details: Anything else worth keeping.
    """
    first, *others = peers
    return Result(
        name=name,
        claim=claim,
        peer=first.label,
        **versus(samples, first),
        ours=summarise(samples[first.ours]),
        theirs=summarise(samples[first.side]),
        others={peer.label: versus(samples, peer) for peer in others},
        checks=dict(checks),
        details=details,
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

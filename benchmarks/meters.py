"""Time and memory of the process that measures."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class Meter:
    """Memory of this process: device memory on CUDA, resident set on the CPU."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.loaded = 0

    def start(self, model: torch.nn.Module) -> None:
        """Forget earlier peaks and remember what the loaded model takes."""
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.sum()  # weights mapped from a file count once they are read
        self.reset()

    def reset(self) -> None:
        """Forget earlier peaks and remember what is in use."""
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


def time_steps(
    step: Callable[[T], R], items: Iterable[T], model: torch.nn.Module, device: str
) -> tuple[list[R], dict[str, Any]]:
    """Run a step on each item, the first to warm up; return the results, and times and bytes.

    A card loads kernels and takes memory when it first sees a shape, so it runs all items before.

    Args:
        step: What is timed.
        items: What it gets, one after the other.
        model: What is in memory before.
        device: `cpu` or `cuda`.

    Returns:
        The results of all items; `seconds`, `cpu_seconds`, `loaded_bytes` and `peak_bytes` for a
        `Sample`.
    """
    clock, meter = Clock(device), Meter(device)
    meter.start(model)
    items, results = list(items), []
    for item in items if device == "cuda" else ():
        step(item)
    for item in items:
        results.append(step(item))
        clock.mark()
    return results, {**clock.steps(), "loaded_bytes": meter.loaded, "peak_bytes": meter.peak()}

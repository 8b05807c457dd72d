"""`python -m benchmarks NAME`: measure one claim; `python -m benchmarks list`: what there is."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import CLAIMS, BenchmarkError, Setting, load_claim
from benchmarks.result import Result
from zoo.errors import InputError, nearest


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", help=f"one of: {', '.join(CLAIMS)}; or list")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="smaller, under four minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    parser.add_argument("--size", type=int, default=0, help="items of data_start and stream")
    parser.add_argument("--samples", default="", metavar="FILE", help="finished samples: resumes")
    return parser.parse_args(argv)


def show(result: Result) -> None:
    """Print a result."""
    print(f"\n{result.name}: {result.claim}")
    for peer, comparison in ((result.peer, dataclasses.asdict(result)), *result.others.items()):
        print(f"  against {peer}\n    {ratios(comparison)}")
        if comparison["above_bound"]:
            print("    ABOVE ITS BOUND, which takes equal rates on both sides: look why")
    for label, side in (("ours", result.ours), ("theirs", result.theirs)):
        rates = [
            f"{v:.0f} {k.removesuffix('_per_second')}/s" for k, v in side.items() if "per_" in k
        ]
        print(
            f"  {label:<7} {side['seconds']:.3f} s, {side['peak_bytes'] / 2**20:.0f} MiB, "
            + ", ".join(rates)
        )


def ratios(found: Mapping[str, Any]) -> str:
    """Return the ratios of one comparison as a line."""
    goals = [
        f"{name.replace('_', ' ')} {found[name]:.2f}"
        for name in ("target", "bound", "memory_target")
        if found[name] is not None
    ]
    processor = "" if found["cpu_ratio"] is None else f", processor {found['cpu_ratio']:.2f}x"
    return (
        f"time {found['ratio']:.2f}x (p20 {found['ratio_p20']:.2f}, p80 {found['ratio_p80']:.2f})"
        f"{processor}, memory {found['memory_ratio']:.2f}x "
        f"({found['memory_ratio_above_model']:.2f}x above the loaded model); " + ", ".join(goals)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for a bad name, 1 for a failed check."""
    args = parse(argv)
    try:
        if args.name == "list":
            for name in CLAIMS:
                print(f"{name:<12} {load_claim(name).CLAIM}")
            return 0
        if args.name not in CLAIMS:
            raise InputError(f"no benchmark {args.name!r}; {nearest(args.name, [*CLAIMS, 'list'])}")
        result = load_claim(args.name).run(
            Setting(args.device, args.quick, args.size, args.samples)
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(result)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n")
        print(f"  written to {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

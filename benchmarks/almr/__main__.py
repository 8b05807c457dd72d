"""Run the small study, or print what is finished.

python -m benchmarks.almr --json FILE --folder FOLDER [--parallel 2] [--quick]
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.almr.quality import QUICK, Size, Trial
from benchmarks.trials import FinishedRows, make_parser


def main() -> None:
    """Run; print a table."""
    parser = make_parser(__doc__, seeds=(0, 1))
    parser.add_argument("--folder", type=Path, default=Path("runs/almr_trial"))
    parser.add_argument("--parallel", type=int, default=1, help="fits at a time")
    parser.add_argument("--quick", action="store_true", help="a few steps each: does it run?")
    given = parser.parse_args()
    rows = FinishedRows(given.json, "row")
    if not given.table:
        size = QUICK if given.quick else Size(seeds=tuple(given.seeds))
        Trial(given.folder.absolute(), rows, size, given.parallel).run()
    print("Our own runs; nothing of it is the paper's.\n")
    print("| row | values |\n|---|---|")
    for entry in rows.entries:
        values = [f"{key} {value}" for key, value in entry.items() if key != "row"]
        print(f"| {entry['row']} | {', '.join(values)} |")


if __name__ == "__main__":
    main()

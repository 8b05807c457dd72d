"""Read `benchmarks/claims/<paper>.yaml`: which trials there are, and which claims they decide.

trials:
  world:                        # a name of its own
    rung: b                     # a: it learns; b: a world with known truth; c: real data
    budget: minutes             # of two cores: minutes (less than an hour), hours; or gpu
    command: python -m benchmarks.methanol.small_worlds --json {json}
    json: methanol-small.json   # its finished rows, in benchmarks/results
claims:
  - text: thoughts at a middle block help on false beliefs
    source: paper, table 1
    trial: world
    row: MeTHanol               # the row that the paper puts first
    than: SFT(Q -> A)           # the row it is compared with, or a number
    value: metrics.accuracy     # place of the score in an entry
    items: items.false_belief   # place of scores by test item, if the trial keeps them;
                                # `found == gold` compares two lists
    headline: true              # one of at most two lines in the README
  - text: 98.2 on ToMi with an 8B model
    source: paper, table 1
    not_here: 8B weights and their training do not fit two cores
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import yaml

from benchmarks.harness import ROOT
from zoo.errors import InputError, nearest

FOLDER = ROOT / "benchmarks" / "claims"
RESULTS = ROOT / "benchmarks" / "results"
BUDGETS = ("minutes", "hours", "gpu")
RUNGS = {"a": "it learns", "b": "world with known truth", "c": "real data"}


@dataclass(frozen=True)
class Trial:
    """One command that fills one file.

    Attributes:
        rung: `a`, `b` or `c`; see `RUNGS`.
        budget: What it needs; see `BUDGETS`.
        command: The command; `{json}` stands for its file.
        json: The committed file in `benchmarks/results`.
    """

    rung: str
    budget: str
    command: str
    json: str

    def __post_init__(self) -> None:
        """Refuse an unknown rung or budget."""
        for value, known in ((self.rung, RUNGS), (self.budget, BUDGETS)):
            if value not in known:
                raise InputError(f"{value!r} is not one of {', '.join(known)}")


@dataclass(frozen=True)
class Claim:
    """One claim of a paper; see the module's docstring for the fields.

    Attributes:
        cluster: Items are named `GROUP + cluster + rest`; a group's items are averaged, since what
            comes from one dialogue is not independent.
        where: Further fields that an entry must have, by their place.
        row_field: Place of an entry's row name.
        smaller_is_better: The claim says that the score is lower.
        trial: Name of the trial that decides it; empty where none was written yet.
        percent: Scores are shares; they are shown in points of 100.
        within: The claim says that both are level: the interval lies within +-this.
        than_once: The other row draws nothing (a rule, a model before training): its first entry
            stands for every seed.
    """

    text: str
    source: str
    trial: str = ""
    row: str = ""
    than: str | float = ""
    value: str = ""
    items: str = ""
    cluster: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    row_field: str = "row"
    smaller_is_better: bool = False
    percent: bool = True
    within: float | None = None
    than_once: bool = False
    headline: bool = False
    not_here: str = ""


@dataclass(frozen=True)
class Evidence:
    """What a method's file says.

    Attributes:
        method: Name of the file, which is the folder in `zoo/methods`.
        trials: Name -> trial.
        claims: In the order of the file.
    """

    method: str
    trials: Mapping[str, Trial]
    claims: tuple[Claim, ...]


def methods() -> list[str]:
    """Return the methods that have a file, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def evidence(method: str) -> Evidence:
    """Read a method's file.

    Raises:
        InputError: There is no such file, or something in it is wrong; the message names the place.
    """
    path = FOLDER / f"{method}.yaml"
    if not path.is_file():
        raise InputError(f"no claims of {method!r}; {nearest(method, methods())}")
    content = yaml.safe_load(path.read_text("utf-8"))
    trials = {
        name: _read(Trial, values, f"{path.name}: trial {name}")
        for name, values in content.get("trials", {}).items()
    }
    claims = tuple(
        _read(Claim, values, f"{path.name}: claim {number}")
        for number, values in enumerate(content["claims"], start=1)
    )
    for claim in claims:
        if claim.trial and claim.trial not in trials:
            hint = nearest(claim.trial, list(trials))
            raise InputError(f"{method}: {claim.text!r}: no trial {claim.trial!r}; {hint}")
    return Evidence(method, trials, claims)


Part = TypeVar("Part", Trial, Claim)


def _read(cls: type[Part], values: Mapping[str, Any], where: str) -> Part:
    """Return an object of `cls` with these fields."""
    known = [each.name for each in fields(cls)]
    for name in values:
        if name not in known:
            raise InputError(f"{where}: no field {name!r}; {nearest(name, known)}")
    try:
        return cls(**values)
    except (TypeError, InputError) as error:
        raise InputError(f"{where}: {error}") from error

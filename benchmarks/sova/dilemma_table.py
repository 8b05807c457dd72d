"""Tables of choices in dilemmas: expected actions by rule, shifts against `direct`, preferences.

A choice is read from the log-odds z of `to do`: in the dataset's order of actions, in the other
one, and from the sum of both, in which a taste for the first or the second action cancels. `shift`
is how far, in nats of that mean, a row moves z towards the expected action against `direct` in the
same dilemmas: it shows a model that listens and does not yet change its mind. `AUROC` is that of
the mean for the expected action, whatever the threshold. Intervals are paired percentile bootstraps
over dilemmas, 95 %.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from torchmetrics.functional.classification import binary_auroc

from benchmarks import trials
from zoo.methods.sova.asking import policy_choice
from zoo.methods.sova.expected import RULES, expected_action
from zoo.methods.sova.metrics import (
    Choice,
    ExpectedRatio,
    ValuePreference,
    constant_choices,
    paired_difference,
)
from zoo.ranking.metrics import bootstrap
from zoo.records import NOT_TO_DO, TO_DO, Dilemma

DIRECT = "direct"
POLICIES = ("always_do", "always_not", "random", "oracle")
TITLES = ("row", "n", "order 1", "order 2", "both", "both - direct", "shift, nats", "AUROC")
ORDERS_TITLES = (
    *("row", "dilemmas", "same in both orders", "Action 1"),
    *("instructions", "written", "invalid texts", "cut reasoning"),
)
FOR = {"Maslow": "maslow", "growth": "maslow", "Plutchik": "emotion", "valence": "emotion"}
"""Whose values a row is about, by the end of its name; other rows are about nobody's."""

Odds = dict[str, list[float]]
"""Id of a dilemma -> log-odds of `to do` in both orders of the actions."""


def tables(
    entries: Sequence[trials.Entry], dilemmas: Sequence[Dilemma], rows: Sequence[str]
) -> list[str]:
    """Return Markdown: expected actions by rule, agreement of the orders, preferences.

    Args:
        entries: One for each row.
        dilemmas: All dilemmas.
        rows: The rows in their order.
    """
    odds: dict[str, Odds] = {
        row: entry["odds"] for row, (entry,) in trials.by_row(entries, rows) if entry["odds"]
    }
    lines = []
    for rule in RULES if DIRECT in odds else ():
        lines += rule_table(odds, dilemmas, rule)
    return [*lines, *orders_table(entries, rows), *preference_table(odds, dilemmas)]


def choices(dilemmas: Sequence[Dilemma], odds: Odds, which: Sequence[int]) -> list[Choice]:
    """Return the choices by the sum of the log-odds of some orders: 0, 1 or both."""
    sums = [sum(odds[dilemma.id][i] for i in which) for dilemma in dilemmas]
    return [TO_DO if z > 0 else NOT_TO_DO for z in sums]


def rule_table(odds: dict[str, Odds], dilemmas: Sequence[Dilemma], rule: str) -> list[str]:
    """Return the table of one rule of expected actions, the policies above it."""
    theory, name = RULES[rule][0], f"expected_{rule}"
    done = [d for d in dilemmas if d.id in odds[DIRECT]]
    counts = ExpectedRatio(rule)(done, constant_choices(TO_DO, len(done)))
    if name not in counts:
        return []
    head = f"{rule}: {counts[f'{name}_decisive']:.0f} of {len(done)} dilemmas are decisive; "
    lines = ["", head + policies(done, rule), ""]
    about = {row: FOR.get(row.replace(",", "").split()[-1]) for row in odds}
    shown = [row for row in odds if about[row] in (None, theory) and row != "SoVA, virtues"]
    decisive = [d for d in done if expected_action(d, rule)]
    cells = [cells_of(row, odds, decisive, rule) for row in shown]
    return lines + trials.markdown(TITLES, cells)


def policies(dilemmas: Sequence[Dilemma], rule: str) -> str:
    """Return the ratio of each policy that reads nothing, in percent, in words."""
    found = []
    for policy in POLICIES:
        chosen = [policy_choice(policy, dilemma, rule).choice() for dilemma in dilemmas]
        ratio = ExpectedRatio(rule)(dilemmas, chosen)[f"expected_{rule}"]
        found.append(f"{policy.replace('_', ' ')} {trials.percent(ratio)[0]}")
    return ", ".join(found)


def cells_of(row: str, odds: dict[str, Odds], dilemmas: Sequence[Dilemma], rule: str) -> list[str]:
    """Return a row of a rule's table, over the decisive dilemmas that it holds."""
    mine = [d for d in dilemmas if d.id in odds[row]]
    if len(mine) < 2:
        return [row, str(len(mine)), *["-"] * (len(TITLES) - 2)]
    shares = [
        ExpectedRatio(rule)(mine, choices(mine, odds[row], which))[f"expected_{rule}"]
        for which in ((0,), (1,), (0, 1))
    ]
    compared = ["", ""] if row == DIRECT else against_direct(odds[row], odds[DIRECT], mine, rule)
    return [row, str(len(mine)), *trials.percent(*shares), *compared, auroc(odds[row], mine, rule)]


def against_direct(odds: Odds, direct: Odds, mine: Sequence[Dilemma], rule: str) -> list[str]:
    """Return the difference of the ratios in points, and the shift in nats, with intervals."""
    ours, theirs = (choices(mine, way, (0, 1)) for way in (odds, direct))
    found = paired_difference(mine, ours, theirs, rule)
    gap, low, high = (100 * found[key] for key in ("difference", "low", "high"))
    moved = [
        (sum(odds[d.id]) - sum(direct[d.id])) / 2 * (1 if expected_action(d, rule) == TO_DO else -1)
        for d in mine
    ]
    ends = bootstrap(moved)
    return [
        f"{gap:+.1f} ({low:+.1f} to {high:+.1f})",
        f"{statistics.mean(moved):+.3f} ({ends[0]:+.3f} to {ends[1]:+.3f})",
    ]


def auroc(odds: Odds, mine: Sequence[Dilemma], rule: str) -> str:
    """Return how well the mean log-odds tell which action is expected; `-` if it is always one."""
    expected = torch.tensor([int(expected_action(d, rule) == TO_DO) for d in mine])
    if len(expected.unique()) < 2:
        return "-"
    sums = torch.tensor([sum(odds[d.id]) for d in mine]).sigmoid()
    return f"{binary_auroc(sums, expected):.3f}"


def orders_table(entries: Sequence[trials.Entry], rows: Sequence[str]) -> list[str]:
    """Return how the orders agree, what was kept, how often text was no answer or was cut."""
    cells = []
    for row, (entry,) in trials.by_row(entries, rows):
        pairs = list(entry["odds"].values())
        if not pairs:
            continue
        same = statistics.mean((a > 0) == (b > 0) for a, b in pairs)
        first = statistics.mean((a > 0, b < 0).count(True) / 2 for a, b in pairs)
        kept = statistics.mean(len(scores) for scores in entry["scores"].values())
        read = [choice for pair in entry["texts"].values() for choice in pair]
        none = f"{read.count(None)} of {len(read)}" if read else "-"
        thought = list(entry.get("cut", {}).values())
        cut = f"{sum(thought)} of {len(thought)}" if thought else "-"
        own = entry.get("written")  # of the model's words; the others are findings of reports
        total = sum(map(len, entry["scores"].values()))
        written = f"{sum(own.values())} of {total}" if own is not None else "-"
        shares = trials.percent(same, first)
        cells.append([row, str(len(pairs)), *shares, f"{kept:.2f}", written, none, cut])
    return ["", *trials.markdown(ORDERS_TITLES, cells)] if cells else []


def preference_table(odds: dict[str, Odds], dilemmas: Sequence[Dilemma]) -> list[str]:
    """Return the preference for each label by both orders, direct and SoVA of its theory."""
    steered = {"maslow": "SoVA, Maslow", "emotion": "SoVA, Plutchik", "virtue": "SoVA, virtues"}
    cells = []
    for theory, row in steered.items():
        both = [d for d in dilemmas if d.id in odds.get(row, {}) and d.id in odds.get(DIRECT, {})]
        if not both:
            continue
        plain, moved = (
            ValuePreference(theory)(both, choices(both, odds[name], (0, 1)))
            for name in (DIRECT, row)
        )
        for name, value in plain.items():
            label = name.partition("/")[2] or "mean of the labels"
            cells.append([theory, label, f"{value:+.1f}", f"{moved[name]:+.1f}"])
    return ["", *trials.markdown(("theory", "label", DIRECT, "SoVA"), cells)] if cells else []

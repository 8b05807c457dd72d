"""`python -m benchmarks.reproduce`: paired intervals, Holm, verdicts, the README's table."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from scipy import stats

from benchmarks.harness import ROOT
from benchmarks.reproduce import __main__ as reproduce
from benchmarks.reproduce import claims as claims_file
from benchmarks.reproduce.claims import Claim, evidence, methods
from benchmarks.reproduce.table import END, START, readme_with
from benchmarks.reproduce.verdict import decide, holm, measure
from benchmarks.support import quality as support
from benchmarks.support.table import ROWS
from zoo.errors import InputError

CLAIM = Claim("ours is better", "paper", trial="t", row="ours", than="theirs", value="metrics.acc")


def rows(ours, theirs, **more):
    """Return entries of both rows, one per seed."""
    return [
        {"row": row, "seed": seed, "metrics": {"acc": score}, "date": "2026-11-29", **more}
        for row, scores in (("ours", ours), ("theirs", theirs))
        for seed, score in enumerate(scores)
    ]


def verdict(claim, entries):
    return decide([(claim, entries)])[0]


def test_interval_over_seeds_is_the_paired_t_interval_of_scipy():
    ours, theirs = [0.9, 0.8, 0.85, 0.95], [0.5, 0.45, 0.6, 0.5]
    found = verdict(CLAIM, rows(ours, theirs))
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((100 * interval.low, 100 * interval.high))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.difference == pytest.approx(100 * (np.mean(ours) - np.mean(theirs)))
    assert (found.seeds, found.items, found.words) == (4, 0, "direction shown")
    assert verdict(CLAIM, rows(theirs, ours)).words == "opposite"


def test_smallest_difference_is_seen_in_four_of_five_draws():
    """Draw pairs whose true difference is the smallest one: power must be 0.8."""
    draws = np.random.default_rng(0)
    n, spread = 8, 0.1
    degrees = n - 1
    smallest = (stats.t.ppf(0.975, degrees) + stats.t.ppf(0.8, degrees)) * spread / np.sqrt(n)
    pairs = draws.normal(smallest, spread, (4000, n))
    seen = np.mean(stats.ttest_1samp(pairs, 0, axis=1).pvalue < 0.05)
    assert abs(seen - 0.8) < 0.03
    ours = spread * np.sqrt(degrees / n) * stats.zscore(draws.normal(size=n))  # this very spread
    found = verdict(CLAIM, rows(ours + 0.5, np.full(n, 0.5)))
    assert found.smallest == pytest.approx(100 * smallest, rel=1e-6)


def test_items_widen_or_alone_make_the_interval():
    claim = Claim("c", "p", trial="t", row="ours", than="theirs", value="metrics.acc", items="hits")
    draws = np.random.default_rng(1)
    hits = {row: draws.integers(0, 2, 200).tolist() for row in ("ours", "theirs")}
    entries = [
        {"row": row, "seed": 0, "metrics": {"acc": np.mean(hit)}, "hits": hit, "date": "d"}
        for row, hit in hits.items()
    ]
    found = verdict(claim, entries)
    expected = stats.ttest_rel(*hits.values())
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.seeds, found.items) == (1, 200)
    same_in_each_seed = [{**e, "seed": seed} for e in entries for seed in range(3)]
    wider = verdict(claim, same_in_each_seed)  # the seeds alone would say: no spread at all
    assert (wider.low, wider.high) == pytest.approx((found.low, found.high))
    assert found.difference == pytest.approx(100 * (mean(hits["ours"]) - mean(hits["theirs"])))
    weighed = [{**e, "metrics": {"acc": 0.5}} for e in entries]  # by the items' lengths, say
    assert verdict(claim, weighed).difference == pytest.approx(found.difference)
    assert verdict(claim, weighed).p == pytest.approx(found.p)
    scores = [100 * mean(hits[row]) for row in ("ours", "theirs")]
    assert [verdict(claim, weighed).row, verdict(claim, weighed).than] == pytest.approx(scores)
    lists = Claim("c", "p", "t", "ours", "theirs", "metrics.acc", items="found == gold")
    gold = [{**e, "found": e["hits"], "gold": [1] * 200} for e in entries]
    assert verdict(lists, gold).p == pytest.approx(expected.pvalue)


def test_equal_items_tell_nothing():
    claim = Claim("c", "p", "t", "ours", "theirs", "metrics.acc", items="hits")
    hits = [i % 2 for i in range(40)]
    entries = [
        {"row": row, "seed": 0, "metrics": {"acc": 0.5}, "hits": hits, "date": "d"}
        for row in ("ours", "theirs")
    ]
    assert verdict(claim, entries).words == "cannot tell: all differ by 0"


def test_items_of_a_group_count_once():
    """Ten groups of 20 equal items are ten observations, too few; forty are enough."""
    claim = Claim("c", "p", "t", "ours", "theirs", "metrics.acc", items="hits", cluster=", turn")
    for groups, words in ((10, "cannot tell: 1 seed"), (40, "direction shown (one run)")):
        gain = {g: 0.3 + 0.1 * (g % 2) for g in range(groups)}
        hits = {
            "ours": {f"{g}, turn {i}": gain[g] for g in gain for i in range(20)},
            "theirs": {f"{g}, turn {i}": 0.1 for g in gain for i in range(20)},
        }
        entries = [
            {
                "row": row,
                "seed": 0,
                "metrics": {"acc": mean(hit.values())},
                "hits": hit,
                "date": "d",
            }
            for row, hit in hits.items()
        ]
        found = verdict(claim, entries)
        assert found.words == words
        if groups == 40:
            assert found.items == 40
            expected = stats.ttest_1samp([each - 0.1 for each in gain.values()], 0)
            assert found.p == pytest.approx(expected.pvalue)


def test_one_seed_without_items_decides_nothing():
    assert verdict(CLAIM, rows([0.9], [0.1])).words == "cannot tell: 1 seed"
    assert verdict(CLAIM, []).words == "not run yet"
    assert verdict(CLAIM, rows([0.5, 0.6, 0.4], [0.5, 0.4, 0.55])).words.startswith("cannot tell b")


def test_few_items_of_one_seed_are_paired_too():
    """The other row holds a third item, which moves its score and must not move the difference."""
    ours, theirs = rows([0.5], [1.0])
    ours["items"], theirs["items"] = {"a": 1, "b": 0}, {"a": 1, "b": 0, "c": 1}
    assert measure(replace(CLAIM, items="items"), [ours, theirs]).difference == 0


def test_rows_are_paired_by_seed_and_filtered():
    entries = rows([0.9, 0.8, 0.7], [0.1, 0.2, 0.35], set="x") + rows([0.0] * 3, [1.0] * 3, set="y")
    claim = Claim("c", "p", "t", "ours", "theirs", "metrics.acc", where={"set": "x"})
    assert verdict(claim, entries).words == "direction shown"
    missing = [e for e in entries if not (e["row"] == "theirs" and e["seed"] == 2)]
    assert measure(claim, missing).seeds == 2
    above = Claim("c", "p", "t", "ours", 0.5, "metrics.acc", where={"set": "x"})
    expected = stats.ttest_1samp([0.9, 0.8, 0.7], 0.5)
    assert verdict(above, entries).p == pytest.approx(expected.pvalue)


def test_a_rule_that_draws_nothing_is_paired_with_every_seed():
    entries = rows([0.9, 0.8, 0.85, 0.95], [0.5])
    assert measure(CLAIM, entries).seeds == 1
    found = verdict(replace(CLAIM, than_once=True), entries)
    expected = stats.ttest_1samp([0.9, 0.8, 0.85, 0.95], 0.5)
    assert (found.seeds, found.words) == (4, "direction shown")
    assert found.p == pytest.approx(expected.pvalue)
    assert verdict(replace(CLAIM, than_once=True), rows([0.9], [])).seeds == 0


def test_smaller_and_level_claims():
    entries = rows([0.5, 0.51, 0.52, 0.5], [0.6, 0.61, 0.63, 0.6])
    smaller = Claim("c", "p", "t", "ours", "theirs", "metrics.acc", smaller_is_better=True)
    assert verdict(smaller, entries).words == "direction shown"
    level = {
        within: Claim("c", "p", "t", "ours", "theirs", "metrics.acc", within=within)
        for within in (20, 5)
    }
    assert verdict(level[20], entries).words == "direction shown"
    assert verdict(level[5], entries).words == "opposite"


def test_holm():
    """By hand: .01 x 4, .02 x 3, .03 x 2 = .06 (not below .06), .2 x 1."""
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([np.nan, 0.04])[1] == 0.04
    assert holm([0.01, 0.011]) == pytest.approx([0.02, 0.02])  # never below one that came before
    strong, weak = (
        rows([0.9, 0.8, 0.85], [0.1, 0.15, 0.1]),
        rows([0.6, 0.7, 0.65], [0.5, 0.55, 0.6]),
    )
    alone = verdict(CLAIM, weak).p
    assert decide([(CLAIM, weak), (CLAIM, strong)])[0].p == pytest.approx(max(alone, alone))
    assert decide([(CLAIM, weak), (CLAIM, weak)])[0].p == pytest.approx(2 * alone)


def test_committed_claims_have_their_rows_and_at_most_two_lines_each():
    for name in methods():
        known = evidence(name)
        found = reproduce.verdicts(known, claims_file.RESULTS)
        for claim, result in found:
            ran = claim.trial and (claims_file.RESULTS / known.trials[claim.trial].json).is_file()
            assert result.seeds or not ran, (name, claim.text)
        assert sum(claim.headline for claim, _ in found) <= 2, name
    folders = {path.parent.name for path in (ROOT / "zoo" / "methods").glob("*/module.py")}
    assert set(methods()) == folders - {"sft", "esc_baselines"}


@pytest.mark.parametrize("method", ["coct", "fisminess", "straq"])
def test_commands_of_support_have_the_settings_of_their_rows(method):
    """The rows that claims name: dialogues, steps, dtype; what is trained, or who talks."""
    known = evidence(method)
    for claim in known.claims:
        trial = known.trials.get(claim.trial)
        if trial is None or "benchmarks.support " not in trial.command:
            continue
        options = support.parse(shlex.split(trial.command.format(json="f.json"))[3:])
        entries = json.loads((claims_file.RESULTS / trial.json).read_text())
        found = [e for e in entries if e["row"] in (claim.row, claim.than)]
        assert {e["row"] for e in found} == {claim.row, claim.than} <= {*options.rows}
        for entry in found:
            trained = entry["model"] == options.backbone
            asked = {name: getattr(options, name) for name in entry["settings"]}
            untouched = () if trained else ("steps", "per_step", "lr")  # the talker learns nothing
            same = {name for name, value in asked.items() if entry["settings"][name] == value}
            assert same >= asked.keys() - {*untouched}, (trial.command, entry["settings"])
            assert entry["dtype"] == (options.precision if trained else options.talker_dtype)
            assert set(options.sets) >= {entry["set"]}


@pytest.mark.fidelity("coct", 9)
def test_rows_of_coct_see_the_same_past_and_have_the_talker_of_their_command():
    """Past strategies are shown to both rows of a claim or to none (sheet, item 9)."""
    known = evidence("coct")
    for claim in known.claims:
        if not claim.trial:
            continue
        trial = known.trials[claim.trial]
        seen = {shows_past_strategies(ROWS[name]) for name in (claim.row, claim.than)}
        assert len(seen) == 1, claim.text
        options = support.parse(shlex.split(trial.command.format(json="f.json"))[3:])
        entries = json.loads((claims_file.RESULTS / trial.json).read_text())
        models = {e["model"] for e in entries if e["row"] in (claim.row, claim.than)}
        assert models == {options.talker}


def shows_past_strategies(row):
    """Return whether the prompt of a row of the support benchmark holds past strategies."""
    default, key = {"ESCBaseline": (True, "show_strategies"), "CoCT": (False, "keep_tags")}[
        row.method
    ]
    return row.given.get(key, default)


def test_readme_table_is_what_the_files_say():
    known = [(e, reproduce.verdicts(e, claims_file.RESULTS)) for e in map(evidence, methods())]
    text = (ROOT / "README.md").read_text("utf-8")
    assert readme_with(text, known) == text, "run: python -m benchmarks.reproduce all --readme"
    with pytest.raises(InputError, match="README.md: the lines"):
        readme_with(text.replace(END, ""), known)
    assert START in text


@pytest.fixture
def own_claims(tmp_path: Path, monkeypatch):
    """A method of its own, whose trial writes two rows and counts how often it ran."""
    script = tmp_path / "trial.py"
    script.write_text(
        "import json, sys\n"
        f"rows = {rows([0.9, 0.8, 0.85], [0.1, 0.2, 0.1])!r}\n"
        "json.dump(rows, open(sys.argv[1], 'w'))\n"
    )
    folder = tmp_path / "claims"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "trials:\n  t: {rung: b, budget: minutes, json: mine.json, "
        f"command: 'python {script} {{json}}'}}\n"
        "claims:\n  - {text: c, source: p, trial: t, row: ours, than: theirs, value: metrics.acc}\n"
    )
    monkeypatch.setattr(claims_file, "FOLDER", folder)
    return folder


def test_a_budget_runs_its_trials_and_prints_the_verdict(own_claims, tmp_path, capfd):
    out = tmp_path / "out"
    assert reproduce.main(["mine", "--budget", "minutes", "--out", str(out)]) == 0
    printed = capfd.readouterr().out
    assert "direction shown" in printed
    assert "+71.7" in printed
    assert len(json.loads((out / "mine.json").read_text())) == 6
    assert reproduce.main(["mine", "--budget", "gpu", "--out", str(out)]) == 2
    assert "no trial of gpu; there are: minutes" in capfd.readouterr().err
    (tmp_path / "trial.py").write_text("raise SystemExit(3)")
    assert reproduce.main(["mine", "--budget", "minutes", "--out", str(out)]) == 2
    assert "exit status 3" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rung: b", "rung: z", "mine.yaml: trial t: 'z' is not one of a, b, c"),
        ("budget: minutes", "budgt: minutes", "no field 'budgt'; did you mean 'budget'?"),
        ("trial: t", "trial: s", "no trial 's'"),
        ("row: ours", "rwo: ours", "claim 1: no field 'rwo'; did you mean 'row'?"),
    ],
)
def test_a_wrong_file_is_named(own_claims, old, new, message):
    path = own_claims / "mine.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError) as error:
        evidence("mine")
    assert message in str(error.value)


def test_items_of_folds_are_pooled():
    """Four folds that differ by one each but 40 items that differ at random: the items decide."""
    hits = np.random.default_rng(0).permutation([1.0, 0.0] * 15 + [1.0] * 10).reshape(4, 10)
    entries = rows(*([0.5 + d] * 4 for d in (0.1, 0.0)))
    for entry in entries:
        ours, fold = entry["row"] == "ours", entry["seed"]
        entry["items"] = {f"{fold}/{i}": hit * ours for i, hit in enumerate(hits[fold])}
    found = measure(replace(CLAIM, items="items"), entries)
    expected = stats.ttest_1samp(100 * hits.flatten(), 0).confidence_interval(0.95)
    assert (found.seeds, found.items) == (4, 40)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))

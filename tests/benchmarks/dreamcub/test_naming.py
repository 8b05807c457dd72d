"""The naming trial: it runs, goes on where its file ends, and tells its settings apart."""

from __future__ import annotations

import json

import pytest

from benchmarks.dreamcub import naming


def test_a_row_is_run_once_for_each_number_of_visits(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.json"
    options = ["naming", "--json", str(path), "--folder", str(tmp_path), "--quick", "--rows", "SFT"]
    for every in ("3", "3", "9"):
        monkeypatch.setattr("sys.argv", [*options, "--every", every])
        naming.main()
        shown = capsys.readouterr().out.splitlines()
        assert [line.split(" | ")[0] for line in shown if line.startswith("| S")] == ["| SFT"]
    entries = json.loads(path.read_text())
    assert [(entry["row"], entry["every"]) for entry in entries] == [("SFT", 3), ("SFT", 9)]
    for entry in entries:
        assert 0 <= entry["metrics"]["reward"] <= 1
        assert entry["metrics"]["user_turns"] == 0


@pytest.mark.parametrize(("every", "steps"), [(3, 40 + 9 * 8), (9, 40 + 3 * 8)])
def test_ppo_has_as_many_turns_with_the_user_as_the_full_method(tmp_path, every, steps):
    """S3 and S4 have 32 and 80 cycles; the full method meets 4 dialogues in every third of them.

    PPO meets four times as many at once, a fourth as often, and learns each of them in 8 steps.
    """
    module = naming.method_of("model-free PPO", "tiny-llama", naming.LENGTHS, every)
    assert naming.steps_of("model-free PPO", module, naming.LENGTHS, every) == steps
    assert module.user.visits == 4 * naming.VISITS

"""Scenes on the command line: they go on alone, with a user, with new names; the baselines."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import ROOT, main, refusal, scalars, tiny
from runs import DATA, SCHEDULE, Runs

from datamodules import Scenes
from zoo.methods.mupas.evaluation import SEED_TURNS

STRATEGIES = ("mupas", "mupas_silence")
WARM = ("--temperature", "2.0")
MOST = 3  # turns that the tiny settings add


@pytest.fixture(params=STRATEGIES)
def given(request: pytest.FixtureRequest, runs: Runs) -> tuple[str, ...]:
    """The arguments of a trained model of each strategy."""
    return runs.given(request.param)


def said(printed: str) -> list[tuple[str, str]]:
    """Return name and words of each line."""
    return [(name, words) for name, _, words in (x.partition(": ") for x in printed.splitlines())]


def test_scenes_are_written_whole(
    given: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each goes on from its first turns among its own people; a file that is there stays."""
    output = tmp_path / "scenes.jsonl"
    main("generate", *given, *WARM, "--num_records", "2", "--output", str(output))
    begun, told = Scenes().records("test")[:2], Scenes(str(output)).records("test")
    for before, after in zip(begun, told, strict=True):
        assert (after.names, after.setting, after.id) == (before.names, before.setting, before.id)
        assert after.turns[:SEED_TURNS] == before.turns[:SEED_TURNS]
        assert SEED_TURNS <= len(after.turns) <= SEED_TURNS + MOST
        assert set(after.speakers) <= set(before.names)
        assert after.ended or len(after.turns) == SEED_TURNS + MOST
    written = output.read_bytes()
    again = ("--output", str(output))
    line = refusal(capfd, tmp_path, *again, verb="generate", given=given)
    assert line == f"output: {output} exists; name a new file"
    assert output.read_bytes() == written
    below = str(output / "y.jsonl")
    line = refusal(capfd, tmp_path, "--output", below, verb="generate", given=given)
    assert line.startswith(f"output: {below} cannot be written (Not a directory)")
    main("generate", *given, "--num_records", "1", "--data.path", str(output))  # and it is data
    assert "turn 2 (given):" in capfd.readouterr().out


def test_a_scene_is_watched(
    given: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Unseen people in a setting from the command line; only lines of theirs are printed."""
    names = ["Zaphod Beeblebrox", "Trillian", "Marvin the robot", "Eddie"]
    path = tmp_path / "cast.jsonl"
    turns = [{"speaker": name, "text": "Hm."} for name in names]
    path.write_text(json.dumps({"setting": "A ship.", "turns": turns}) + "\n")
    where = ("--data.path", str(path), "--situation", "A bridge of glass.")
    main("chat", *given, *WARM, *where)
    out, err = capfd.readouterr()
    assert "A bridge of glass." in err
    assert "people: Eddie, Marvin the robot, Trillian, Zaphod Beeblebrox" in err
    assert {name for name, _ in said(out)} <= set(names)
    assert len(said(out)) <= MOST
    assert ("(the scene is over)" in err) or f"(stopped after {MOST} turns)" in err


def test_one_of_them_is_the_user(
    given: tuple[str, ...], monkeypatch: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No line is printed for the user, who is asked in time; a role that nobody has is refused."""
    heard, name = 0, min(Scenes().records("test")[0].names, key=len)  # untrained: likeliest
    for seed in range(6):
        lines = io.StringIO("I am here.\n" * 9)
        monkeypatch.setattr("sys.stdin", lines)
        main("chat", *given, *WARM, "--seed_everything", str(seed), "--role", name)
        out, err = capfd.readouterr()
        assert f"you are {name}; an empty line or /quit ends" in err
        assert name not in {speaker for speaker, _ in said(out)}
        heard += lines.tell() // len("I am here.\n")
    assert heard or "mupas_silence" not in given[1]  # untrained, S1 ends: one token, not a header
    line = refusal(capfd, tmp_path, "--role", name[:-1], verb="chat", given=given)
    assert line.startswith(f"role: nobody here is called {name[:-1]!r}")
    assert f"{name!r}?" in line


@pytest.mark.parametrize("config", STRATEGIES)
def test_an_untrained_model_is_watched_for_some_turns(
    config: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Four as the README's command stands; one that would end the scene at once ends it then."""
    given = (*tiny(config), "--model.max_turns", "9")
    lines = {}
    for least in (None, 6, 0):
        main("chat", *given, *(() if least is None else ("--min_turns", str(least))))
        out, err = capfd.readouterr()
        lines[least] = len(said(out))
        assert ("(the scene is over)" in err) or lines[least] == 9
    assert lines[None] >= 4
    assert lines[6] >= 6
    if config == "mupas":  # untrained, S1 ends: one token, not a header
        assert lines == {None: 4, 6: 6, 0: 0}
    line = refusal(capfd, tmp_path, "--min_turns", "-1", verb="chat", given=given)
    assert line == "min_turns: -1 is below 0"


def test_the_user_has_turns_with_an_untrained_model(
    monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Their lines count among the least turns; nothing is printed for them."""
    lines = io.StringIO("I am here.\n" * 9)
    monkeypatch.setattr("sys.stdin", lines)
    main("chat", *tiny("mupas"), "--model.max_turns", "9", "--role", "Otto")
    out, err = capfd.readouterr()
    heard = lines.tell() // len("I am here.\n")
    assert len(said(out)) + heard == 4
    assert "Otto" not in {name for name, _ in said(out)}
    assert "(the scene is over)" in err


def test_a_line_that_is_longer_than_the_window_is_asked_for_again(
    monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """The scene goes on with the next line; what was too long is nowhere."""
    lines = io.StringIO("long " * 500 + "\n" + "I am here.\n/quit\n")
    monkeypatch.setattr("sys.stdin", lines)
    main("chat", *tiny("mupas"), "--model.max_turns", "9", "--role", "Otto")
    _, err = capfd.readouterr()
    assert re.search(r"a turn of 25\d\d tokens does not fit .*; say it in fewer words", err)
    assert lines.tell() > 2501, "the next line was read"
    assert "(the scene is over)" in err or "(stopped after" in err


@pytest.mark.parametrize("config", ["mupas_token_mean", "mupas_single_role", "mupas_pairwise"])
def test_baselines(config: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each trains and is scored; the rules stand beside it; pairwise knows no next speakers.

    It and the single role learn words alone.
    """
    root = ("--trainer.default_root_dir", str(tmp_path))
    main("fit", *tiny(config), *DATA, *SCHEDULE, *root)
    found = scalars(tmp_path)
    assert found["val/perplexity"] > 1
    pairwise = config == "mupas_pairwise"
    assert ("train/speaker_loss" in found) is (config == "mupas_token_mean")
    assert ("val/speaker_accuracy" in found) is not pairwise
    if not pairwise:
        assert {f"val/rule_{rule}" for rule in ("uniform", "most_frequent")} <= found.keys()
        return
    config_file = ("--config", str(tmp_path / "config.yaml"))
    line = refusal(capfd, tmp_path, verb="generate", given=config_file)
    assert line == "model.objective: pairwise does not know who speaks next"


def test_a_model_that_is_only_prompted(tmp_path: Path) -> None:
    """Without a checkpoint `test` scores the backbone as it is, beside the rules."""
    main("test", *tiny("mupas"), *DATA, "--trainer.default_root_dir", str(tmp_path))
    found = scalars(tmp_path)
    assert 0 <= found["test/speaker_accuracy_3plus"] <= found["test/speaker_mrr_3plus"] <= 1
    assert 0 <= found["test/speaker_macro_f1"] <= 1
    rules = ("uniform", "most_frequent", "previous_other", "alternation")
    assert {f"test/rule_{rule}_3plus" for rule in rules} <= found.keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("objective", "role_means"), "model.objective: 'role_means'"),
        (("speaker_weight", "-1"), "model.speaker_weight: -1.0 is below 0"),
    ],
)
def test_bad_settings(
    settings: tuple[str, str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line, before anything is written."""
    option = (f"--model.{settings[0]}", settings[1])
    assert refusal(capfd, tmp_path, *option, given=tiny("mupas")).startswith(message)


def test_baselines_differ_in_their_objective() -> None:
    """Settings of the baselines differ from MuPaS' own in one thing each."""
    own = yaml.safe_load((ROOT / "configs" / "mupas.yaml").read_text())["model"]["init_args"]
    for config in ("token_mean", "single_role", "pairwise"):
        path = ROOT / "configs" / f"mupas_{config}.yaml"
        other = yaml.safe_load(path.read_text())["model"]["init_args"]
        assert {key for key in other if other[key] != own.get(key)} == {"objective"}
        assert other["objective"] == config

"""LaMsS in runs: what its verbs show, the second stage after the first; wrong settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import board, main, scalars, tiny
from runs import DATA, SCHEDULE

import zoo
from datamodules import FactWorld

SMALL = (*tiny("lamss_facts"), *DATA, "--model.max_answer_tokens", "3", "--data.max_test", "6")
LEVELS = [f"<|skeptic_{j}|>" for j in range(5)]
Refused = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Label afresh."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, read: Path) -> Path:
    """Four steps on questions, from the model that has read."""
    folder = tmp_path_factory.mktemp("lamss") / "run"
    root = ("--trainer.default_root_dir", str(folder), "--model.backbone.name", str(read))
    main("fit", *SMALL, *SCHEDULE, "--data.max_val", "6", *root)
    return folder


def test_what_a_run_shows(trained: Path) -> None:
    """Losses of all three kinds, scores, risk against coverage, answers shaded by doubt."""
    wanted = {f"train/{name}_loss" for name in ("token", "sigma", "level")}
    wanted |= {"val/auc", "val/ap", "val/willing_accuracy", "val/answer_rate", "val/ece"}
    assert wanted <= set(scalars(trained))
    assert {"val/risk_coverage", "val/tokens", "val/kinds"} <= set(board(trained).Tags()["images"])


def test_the_second_stage_starts_from_the_first(read: Path) -> None:
    """The exported vocabulary holds the levels; they are neither added twice nor renumbered."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(read)
    lm = AutoModelForCausalLM.from_pretrained(read)
    ids = tokenizer.convert_tokens_to_ids(LEVELS)
    assert ids == list(range(lm.config.vocab_size - 5, lm.config.vocab_size))
    module = zoo.LaMsS(backbone={"name": str(read)})
    module.configure_model()
    assert module.level_ids == ids
    for name, value in lm.state_dict().items():
        assert torch.equal(value, module.lm.state_dict()[name]), name


def test_generate_predict_export(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer, its doubt and the decision; the exported folder answers the same."""
    saved = str(trained / "checkpoints" / "last.ckpt")
    given = ("--config", str(trained / "config.yaml"), "--ckpt_path", saved)
    capsys.readouterr()
    main("generate", *given, "--num_records", "2")
    text = capsys.readouterr().out
    doubts = re.findall(r"^skepticism response: +(\S+)", text, re.MULTILINE)
    assert len(doubts) == 2
    assert all(0 <= float(doubt) <= 1 for doubt in doubts)
    assert not any(level in text for level in LEVELS)

    main("predict", *given, "--trainer.default_root_dir", str(tmp_path))
    rows = [json.loads(x) for x in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    out = tmp_path / "out"
    main("export", *given, "--output", str(out))
    module = zoo.load(out)
    records = FactWorld(max_test=6).records("test")
    answers = module.answer(records)
    assert len(rows) == len(answers) == 6
    for row, answer in zip(rows, answers, strict=True):
        assert row["answer"] == answer.text
        assert row["skepticism"]["response"] == pytest.approx(answer.skepticism["response"], 1e-3)
        assert row["willing"] == (answer.skepticism["response"] < module.threshold)


def test_check_counts_the_labels_of_a_sample(
    read: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The levels of the first records, as the labelling model gives them; a constant one is named.

    Without weights there are none, and `check` says why.
    """
    given = (*SMALL, "--data.max_train", "30", "--model.backbone.name", str(read))
    main("check", *given)
    lines = capsys.readouterr().out.splitlines()
    start = lines.index(f"labels      of 24 records by {read}, in quantiles of these alone")
    module = zoo.LaMsS({"name": str(read)}, max_answer_tokens=3, max_length=4096)
    records = FactWorld(max_train=30).records("train")[:24]
    module.encoder().study(records, "val")
    studied = [module.encoder().studied[record] for record in records]
    expected = {
        "gold answer": [j for s in studied for j in s.levels[0][:-1]],
        "own answer": [j for s in studied for j in s.response_levels[:-1]],
        "stop tokens": [row[-1] for s in studied for row in (s.levels[0], s.response_levels)],
        "whole answer": [s.level for s in studied],
    }
    for line, (name, levels) in zip(lines[start + 1 :], expected.items(), strict=False):
        assert line[2:14].strip() == name
        counts = [int(n) for n in re.findall(r"s_\d +(\d+)", line)]
        assert counts == [levels.count(j) for j in range(5)]
        assert line.endswith("(all alike: nothing to learn)") == (len(set(levels)) == 1)
    assert set(expected["whole answer"]) == {4}  # after two steps it knows nothing

    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((read / file).read_bytes())
    main("check", *given[:-1], str(tmp_path))
    assert "labels      none yet, the levels below are all s_0: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--model.num_levels", "1"), "model.num_levels: 1 is not in 2..10"),
        (("--model.num_levels", "11"), "model.num_levels: 11 is not in 2..10"),
        (("--model.eps", "1.5"), "model.eps: 1.5 is not in"),
        (("--model.max_answer_tokens", "0"), "model.max_answer_tokens: 0 is not above 0"),
        (("--model.doubt_source", "ref_prop"), "model.doubt_source"),
        (("--model.backbone.freeze", "true"), "the rows of the levels must learn; use lora"),
        (("--data", "datamodules.ESConv"), "ESConv yields Dialogue, but the method takes "),
    ],
)
def test_settings_that_are_wrong(args: tuple[str, ...], said: str, refused: Refused) -> None:
    assert said in refused(*args, given=SMALL)


def test_a_tokenizer_with_levels_of_another_number(read: Path, refused: Refused) -> None:
    args = ("--model.backbone.name", str(read), "--model.num_levels", "3")
    said = refused(*args, given=SMALL)
    assert said == f"model.num_levels: 3, but {read} has 5 levels already"

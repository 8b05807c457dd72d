"""MeGan in runs: what its verbs show, two processes; wrong settings and data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from process_pair import DDP, SHARDED, ProcessPair, recorded, same_steps, steps
from recorder import lines
from running import METHANOL, board, last, load, main, scalars, tiny
from runs import Runs

import zoo
from datamodules import ConditionedChat
from zoo.errors import InputError
from zoo.records import Conditioned

SMALL = (*tiny("megan"), "--model.max_answer_tokens", "3", "--model.optimizer.lr", "0.01")
Refused = Callable[..., str]


def chat(path: Path, *conditions: str) -> str:
    """Write a file of chats, one for each condition (empty for none); return its path."""
    rows = []
    for i, text in enumerate(conditions):
        user = {"role": "user", "content": f"question {i}"}
        row = {"messages": [user, {"role": "assistant", "content": "yes"}], "task": "t"}
        rows.append({**row, **({"task_description": text} if text else {})})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_what_a_run_shows(runs: Runs) -> None:
    """Losses, accuracy, the heat map; it trains the hypernetwork and the adapters only."""
    folder = runs.fit("megan_mixed")
    values = scalars(folder)
    assert {"train/reply_loss", "train/beta_loss", "val/reply_loss", "val/accuracy"} <= set(values)
    assert values["train/beta_loss"] > 0
    assert "val/beta" in board(folder).Tags()["images"]
    first = load(folder / "checkpoints" / "step-2.ckpt")["state_dict"]
    for name, value in load(last(folder))["state_dict"].items():
        changed = not torch.equal(value, first[name])
        assert changed == (name.startswith("hypers.") or ".lora_" in name), name


def test_export(runs: Runs) -> None:
    """The hypernetwork lies beside the plain backbone; without condition all betas are 1."""
    from safetensors.torch import load_file

    out = runs.export("megan_mixed")
    module = zoo.load(out)
    records = ConditionedChat().records("test")
    bare = [Conditioned("", r.prompt, r.response, system=r.system) for r in records]
    assert set(load_file(out / "zoo.safetensors")) == {
        name for name in module.state_dict() if name.startswith("hypers.")
    }
    plain = module.generate(bare)
    assert all(reply.betas == [1.0] * 4 for reply in plain)
    assert module.generate(records)[0].betas != plain[0].betas
    state = load(last(runs.fit("megan_mixed")))["state_dict"]
    for name, value in module.hypers.state_dict().items():
        assert torch.equal(value, state[f"hypers.{name}"])


def test_generate(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """The gates of each block beside the reply; all open without a condition."""
    text = runs.generate("megan_mixed")
    assert len(re.findall(r"^beta: +block 1 [01]\.\d{4}, block 2 ", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^reply: .*\[gold: ", text, re.MULTILINE)) == 2
    capsys.readouterr()
    main("generate", *runs.given("megan_mixed"), "--prompt", "Hi", "--condition", "")
    text = capsys.readouterr().out
    assert "condition: none\nquery:   Hi\nreply:" in text
    assert "block 4 1.0000" in text


def test_predictions(runs: Runs) -> None:
    assert [set(row) for row in runs.predict("megan_mixed")] == [{"id", "answer", "betas"}] * 2


@pytest.mark.parametrize(
    "strategy", [pytest.param(DDP, marks=pytest.mark.slow), SHARDED], ids=["ddp", "fsdp2"]
)
def test_two_processes(strategy: tuple[str, ...], tmp_path: Path, pair: ProcessPair) -> None:
    """Two records in each of two processes, rows without condition among them, as four in one.

    The hypernetwork is in the root group of shards, and used in every block.
    """
    file = chat(tmp_path / "chat.jsonl", "be kind", "", "be rude and short", "x", "", "", "be", "b")
    given = (
        *(*SMALL, "--data.train", file, "--data.val", file, "--data.allow_missing", "true"),
        *("--data.batch_size", "2", "--data.eval_batch_size", "2", "--trainer.max_steps", "3"),
        *("--model.lambda_beta", "1e-6", "--trainer.check_val_every_n_epoch", "null"),
    )
    one = ("--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "4")
    main(*recorded(tmp_path / "one", *given, *one))
    pair.run(*recorded(tmp_path / "two", *given, "--trainer.val_check_interval", "2", *strategy))
    same_steps(steps(tmp_path / "two", ranks=2), steps(tmp_path / "one"))
    assert len(lines(tmp_path / "two" / "log", 1)) == 3
    ours, theirs = scalars(tmp_path / "two"), scalars(tmp_path / "one")
    for key in ("val/reply_loss", "val/beta_loss", "val/accuracy"):
        assert ours[key] == pytest.approx(theirs[key], abs=1e-4), key


# -- what may be wrong -------------------------------------------------------------------------


@pytest.fixture
def refused(refused: Refused) -> Refused:
    """Run MeGan with something that must fail; return its line without `error: `."""
    return partial(refused, given=SMALL)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("--model.backbone.name", "tiny-gemma"),
            "backbone.name: the blocks of tiny-gemma have no SwiGLU; architectures that fit: "
            "Llama, Qwen2, Qwen3, Mistral",
        ),
        (("--model.hyper.bottleneck", "-1"), "model.hyper.bottleneck: -1 is less than 0"),
        (
            ("--model.hyper.bottleneck", "0", "--model.hyper.heads", "5"),
            "model.hyper.heads: 5 do not divide the backbone's width 32",
        ),
        (("--model.hyper.heads", "2"), "model.hyper.heads: 2, but a bottleneck has 1"),
        (("--model.hyper.beta_init", "zeros"), "model.hyper.beta_init: 'zeros'"),
        (("--model.hyper.botleneck", "4"), "did you mean 'bottleneck'?"),
        (("--model.gate", "hyperr"), "model.gate: "),
        (("--model.gate", "none"), "model.train: hyper has nothing to train with gate: none"),
        (("--model.gate", "static", "--model.lambda_w", "1"), "they need gate: hyper"),
        (("--model.lambda_beta", "-1"), "model.lambda_beta, lambda_w: less than 0"),
        (("--model.condition_mask", "false"), "condition_mask: false needs official_condition_len"),
        (("--model.official_condition_len", "0"), "official_condition_len: 0 is less than 1"),
        (("--model.max_condition", "0"), "model.max_condition: 0 is not above 0"),
        (
            ("--model.max_condition", "9"),
            "conditioned_chat.jsonl:1: a condition of 72 tokens, longer than max_condition=9",
        ),
        (("--data", "datamodules.FalseBelief"), "FalseBelief yields Triple, but the method takes "),
    ],
)
def test_settings_that_are_wrong(args: tuple[str, ...], said: str, refused: Refused) -> None:
    assert said in refused(*args)


def test_values_that_are_near(refused: Refused) -> None:
    """The nearest valid choice, from the command line and from Python."""
    said = refused("--model.hyper.beta_init", "zeros")
    assert "zero" in said.removeprefix("model.hyper.beta_init: 'zeros'")
    for options, key in (({"gate": "statik"}, "static"), ({"train": "ful"}, "full")):
        with pytest.raises(InputError, match=f"did you mean '{key}'"):
            zoo.MeGan(backbone={"name": "tiny-llama"}, **options)


def test_rows_without_condition(tmp_path: Path, refused: Refused) -> None:
    path = chat(tmp_path / "chat.jsonl", "kind", "", "kind", "")
    said = refused("--data.train", path, "--data.val", path)
    assert said.startswith("2 samples have no condition (task_description, user_profiles")
    assert f"{path}:2, {path}:4; set allow_missing to true" in said


def test_a_condition_for_a_method_without(refused: Refused) -> None:
    said = refused("--condition", "x", verb="generate", given=METHANOL)
    assert said == "condition: MeTHanol takes none; leave it out"

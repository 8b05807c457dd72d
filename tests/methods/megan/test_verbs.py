"""MeGan through the command line: fit, resume, generate, export; wrong settings and data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from recorder import lines
from running import ROOT, TINY, main, refusal
from test_distributed import launch, objective, run_here, scalars, validate

import zoo
from datamodules import ConditionedChat
from zoo.errors import InputError
from zoo.records import Conditioned

FSDP2 = str(ROOT / "configs" / "overlays" / "fsdp2.yaml")
SMALL = (
    *("--config", str(ROOT / "configs" / "megan.yaml"), *TINY[:-4]),
    *("--model.max_length", "4096", "--model.max_answer_tokens", "3"),
    *("--model.hyper.bottleneck", "8", "--model.optimizer.lr", "0.01"),
)
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


def fit(folder: Path, *args: str) -> Path:
    main(
        *("fit", *SMALL, "--data.batch_size", "2", "--trainer.default_root_dir", str(folder)),
        *("--checkpoint.every_n_train_steps", "2", "--checkpoint.save_top_k", "-1"),
        *("--trainer.log_every_n_steps", "1", *args),
    )
    return folder / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps with a validation at the end; adapters, recomputed blocks, bfloat16."""
    folder = tmp_path_factory.mktemp("megan") / "run"
    fit(folder, *MIXED, *STEPS, "--trainer.val_check_interval", "4")
    return folder


LORA = ("--config", str(ROOT / "configs" / "overlays" / "lora.yaml"))
MIXED = (*LORA, "--model.backbone.gradient_checkpointing", "true")
MIXED = (*MIXED, "--trainer.precision", "bf16-mixed", "--model.lambda_beta", "1e-6")
STEPS = ("--trainer.max_steps", "4", "--model.optimizer.lr", "0.01")


def test_what_a_run_shows(trained: Path) -> None:
    """Losses, accuracy, the heat map; it trains the hypernetwork and the adapters only."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = scalars(trained)
    assert {"train/reply_loss", "train/beta_loss", "val/reply_loss", "val/accuracy"} <= set(found)
    assert found["train/beta_loss"] > 0
    events = EventAccumulator(str(trained), size_guidance={"images": 0})
    events.Reload()
    assert "val/beta" in events.Tags()["images"]
    first, last = (
        torch.load(trained / "checkpoints" / name, weights_only=True)["state_dict"]
        for name in ("step-2.ckpt", "last.ckpt")
    )
    for name, value in last.items():
        changed = not torch.equal(value, first[name])
        assert changed == (name.startswith("hypers.") or ".lora_" in name), name


def test_resume_is_exact(trained: Path, tmp_path: Path) -> None:
    saved = trained / "checkpoints" / "step-2.ckpt"
    last = fit(
        tmp_path / "run",
        *MIXED,
        *STEPS,
        "--ckpt_path",
        str(saved),
        "--trainer.val_check_interval",
        "4",
    )
    ours, theirs = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in (last, trained / "checkpoints" / "last.ckpt")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_export_and_load(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder is the plain backbone, adapters merged; the hypernetwork lies beside it."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    given = ("--config", str(trained / "config.yaml"))
    given += ("--ckpt_path", str(trained / "checkpoints" / "last.ckpt"))
    out = tmp_path / "out"
    main("export", *given, "--output", str(out))
    lm = AutoModelForCausalLM.from_pretrained(out, local_files_only=True).eval()
    module = zoo.load(out)
    ids = torch.arange(3, 43)[None]
    records = ConditionedChat().records("test")
    bare = [Conditioned("", r.prompt, r.response, system=r.system) for r in records]
    assert set(load_file(out / "zoo.safetensors")) == {
        name for name in module.state_dict() if name.startswith("hypers.")
    }
    with torch.no_grad():
        torch.testing.assert_close(lm(ids).logits, module.lm(ids).logits)
        plain = module.generate(bare)
        assert all(reply.betas == [1.0] * 4 for reply in plain)
        assert module.generate(records)[0].betas != plain[0].betas
    state = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in module.hypers.state_dict().items():
        assert torch.equal(value, state[f"hypers.{name}"])
    capsys.readouterr()
    main("generate", *given, "--num_records", "2")
    text = capsys.readouterr().out
    assert len(re.findall(r"^beta: +block 1 [01]\.\d{4}, block 2 ", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^reply: .*\[gold: ", text, re.MULTILINE)) == 2
    main("generate", *given, "--prompt", "Hi", "--condition", "")
    text = capsys.readouterr().out
    assert "condition: none\nquery:   Hi\nreply:" in text
    assert "block 4 1.0000" in text


def test_predictions(trained: Path, tmp_path: Path) -> None:
    given = ("--config", str(trained / "config.yaml"), "--data.max_test", "2")
    main("predict", *given, "--trainer.default_root_dir", str(tmp_path))
    rows = [json.loads(x) for x in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"id", "answer", "betas"}] * 2


@pytest.mark.slow
def test_ddp_steps(tmp_path: Path) -> None:
    """Two copies take the steps of one process, one of them with rows without condition."""
    options = ("--trainer.strategy", "ddp", "--trainer.devices", "2")
    two_processes(tmp_path, *options)


def test_fsdp2_steps(tmp_path: Path) -> None:
    """So do two shards; the hypernetwork is in the root group, used in every block."""
    two_processes(tmp_path, "--config", FSDP2, "--trainer.accelerator", "cpu")


def two_processes(tmp_path: Path, *strategy: str) -> None:
    """Two records in each of two processes: the steps of four in one, validation and export."""
    file = chat(tmp_path / "chat.jsonl", "be kind", "", "be rude and short", "x", "", "", "be", "b")
    given = (*SMALL, "--data.train", file, "--data.val", file, "--data.allow_missing", "true")
    given += ("--data.eval_batch_size", "2", "--trainer.precision", "32-true")
    given += ("--trainer.max_steps", "3", "--model.lambda_beta", "1e-6")
    one = ("--data.batch_size", "2", "--trainer.accumulate_grad_batches", "2", *validate(4))
    home = run_here(tmp_path, "one", *one, given=given)
    two = ("--data.batch_size", "2", *validate(2), *strategy, "--trainer.precision", "32-true")
    folder = launch(tmp_path, "two", *two, given=given)
    ours, theirs = objective(tmp_path, "two", 2, 1), objective(tmp_path, "one", 1, 2)
    for (loss, norm), (other, other_norm) in zip(ours, theirs, strict=True):
        assert loss == pytest.approx(other, rel=1e-5)  # sums in another order
        assert norm == pytest.approx(other_norm, rel=1e-3)
    assert len(lines(tmp_path / "two.log", 1)) == 3
    found, expected = scalars(folder), scalars(home)
    for key in ("val/reply_loss", "val/beta_loss", "val/accuracy"):
        assert found[key] == pytest.approx(expected[key], abs=1e-4), key


# -- what may be wrong -------------------------------------------------------------------------


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Refused:
    """Run a command that must fail in an empty folder; return its line without `error: `."""
    monkeypatch.chdir(tmp_path)
    return partial(refusal, capfd, tmp_path, given=SMALL)


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
        (("--model.max_condition", "0"), "model.max_condition: 0 is less than 1"),
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
        module = zoo.MeGan(backbone={"name": "tiny-llama"}, **options)
        with pytest.raises(InputError, match=f"did you mean '{key}'"):
            module.validate()


def test_rows_without_condition(tmp_path: Path, refused: Refused) -> None:
    path = chat(tmp_path / "chat.jsonl", "kind", "", "kind", "")
    said = refused("--data.train", path, "--data.val", path)
    assert said.startswith("2 samples have no condition (task_description, user_profiles")
    assert f"{path}:2, {path}:4; set allow_missing to true" in said


def test_a_condition_for_a_method_without(refused: Refused) -> None:
    methanol = ("--config", str(ROOT / "configs" / "methanol.yaml"), *TINY)
    given = (*methanol, "--model.thinking_layer", "2")
    said = refused("--condition", "x", verb="generate", given=given)
    assert said == "condition: MeTHanol takes none; leave it out"

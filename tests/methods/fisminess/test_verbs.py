"""FiSMiness, CoCT and the baselines from the command line and in runs."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from running import ROOT, main, refusal, start

import zoo
from datamodules import EmpatheticDialogues, ESConv
from zoo.support.decisions import decisions
from zoo.support.labels import EMOTIONS, STRATEGIES

CONFIG = ("--config", str(ROOT / "configs" / "fisminess.yaml"))
AGENT = ("--config", str(ROOT / "configs" / "fisminess_agent.yaml"))
COCT = ("--config", str(ROOT / "configs" / "coct.yaml"))
SPEED = (
    *("--model.backbone.name", "tiny-llama", "--model.max_length", "8192"),
    *("--model.max_new_tokens", "3", "--model.max_generated", "3"),
    *("--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
)
TINY = (
    *SPEED,
    *("--data.max_train", "2", "--data.max_val", "1", "--data.max_test", "1"),
    *("--data.batch_size", "2", "--trainer.accumulate_grad_batches", "1"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps with a validation."""
    folder = tmp_path_factory.mktemp("fisminess")
    main(
        *("fit", *CONFIG, *TINY, "--trainer.max_steps", "2", "--trainer.log_every_n_steps", "1"),
        *("--trainer.val_check_interval", "2", "--trainer.default_root_dir", str(folder)),
    )
    return folder


def last(folder: Path) -> str:
    return str(folder / "checkpoints" / "last.ckpt")


def test_tensorboard_has_losses_scores_figures_and_walks(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    tags = events.Tags()
    losses = {f"val/{task}_loss" for task in ("emotion", "strategy", "reply")}
    scores = {"val/accuracy", "val/bias", "val/bleu_2", "val/emotion_accuracy", "val/calls"}
    assert losses | scores <= set(tags["scalars"])
    assert {"val/early/accuracy", "val/strategy_failed"} <= set(tags["scalars"])
    assert {"val/confusion", "val/emotions", "val/transitions"} <= set(tags["images"])
    (name,) = (tag for tag in tags["tensors"] if "samples/val" in tag)
    table = events.Tensors(name)[0].tensor_proto.string_val[0].decode()
    assert table.startswith("| state | emotion | strategy | walk | reply | gold |")
    assert "s0 -" in table


def test_generate_and_predict(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = (*CONFIG, *TINY, "--ckpt_path", last(run))
    main("generate", *given, "--prompt", "I lost my job.", "--given", "questions")
    out = capsys.readouterr().out
    assert "state:   Seeker: I lost my job.\n" in out
    assert re.search(r"^walk: +s0 -\w+-> s1 -Question-> s2 -reply-> s3$", out, re.MULTILINE)
    said = refusal(capsys, tmp_path, "--given", "Hugs", verb="generate", given=given)
    assert said.startswith("given: no support strategy 'Hugs'")
    main("predict", *given, "--trainer.default_root_dir", str(tmp_path))
    rows = [json.loads(x) for x in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    (record,) = ESConv(max_test=1).records("test")
    assert [row["id"] for row in rows] == [decision.id for decision in decisions(record)]
    for row in rows:  # each decision once, though it gives three examples
        assert row["emotion"] in EMOTIONS
        assert row["strategy"] in STRATEGIES
        assert row["walk"].startswith(f"s0 -{row['emotion']}-> s1 -{row['strategy']}-> s2")


def test_what_is_prompted_only_does_not_fit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = ("--trainer.default_root_dir", str(tmp_path))
    baseline = ("--config", str(ROOT / "configs" / "esc_baselines.yaml"))
    for config, words in (
        (AGENT, "model.mode: an agent is not trained"),
        (COCT, "model.learn: false trains nothing"),
        (baseline, "model.kind: direct is not trained"),
    ):
        said = refusal(capsys, tmp_path, given=(*config, *SPEED, *root))
        assert said.startswith(words)


def test_coct_writes_its_transition_tables(tmp_path: Path) -> None:
    main("test", *COCT, *SPEED, "--data.max_test", "1", "--trainer.default_root_dir", str(tmp_path))
    rows = (tmp_path / "transitions_strategy.csv").read_text().splitlines()
    assert rows[0].startswith(",Question,Restatement or Paraphrasing,Reflection of feelings")
    assert len(rows) == 9


def test_out_of_domain_data_is_answered(tmp_path: Path) -> None:
    """EmpatheticDialogues has no strategies: text scores, and no strategy scores."""
    module = zoo.FiSMiness(backbone={"name": "tiny-llama"}, max_length=8192, max_new_tokens=3)
    module.configure_model()
    import lightning as L

    data = EmpatheticDialogues(max_test=1)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = L.Trainer(accelerator="cpu", default_root_dir=tmp_path, **quiet)
    (scores,) = trainer.test(module, data, verbose=False)
    assert "test/rouge_l" in scores
    assert "test/rouge_l/low" in scores
    assert "test/accuracy" not in scores


def test_export(make: Any, tmp_path: Path) -> None:
    """`zoo.load` walks as before; a plain model has the same weights."""
    from transformers import AutoModelForCausalLM

    from zoo import export

    module = make("FiSMiness", "tiny-qwen2", spread=5.0, max_length=8192, max_new_tokens=3)
    states = decisions(ESConv().records("test")[0])[:1]
    said = module.respond(states)
    export.save(module, tmp_path / "out")
    assert zoo.load(tmp_path / "out").respond(states) == said
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(plain.state_dict(), module.lm.state_dict())


# -- several processes -------------------------------------------------------------------------

FSDP2 = ("--config", str(ROOT / "configs" / "overlays" / "fsdp2.yaml"))
PLACES = {
    "fsdp2": (*FSDP2, "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
    "ddp": ("--trainer.strategy", "ddp", "--trainer.devices", "2"),
}


def launch(folder: Path, *args: str) -> dict[str, float]:
    """Run `fit` with a validation of four dialogues in a process group; return the last values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    process = start(
        *("fit", *CONFIG, *SPEED, *args, "--trainer.default_root_dir", str(folder)),
        *("--trainer.max_steps", "2", "--trainer.val_check_interval", "2"),
        *("--trainer.log_every_n_steps", "1", "--model.optimizer.lr", "0.0"),
        *("--data.max_train", "2", "--data.max_val", "4", "--data.batch_size", "2"),
        *("--data.eval_batch_size", "7"),
        cwd=folder.parent,
        start_new_session=True,
    )
    try:
        _, err = process.communicate(timeout=600)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err[-3000:]
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("closed", ["constrained", "likelihood"])
def test_two_processes_walk_as_one(place: str, closed: str, tmp_path: Path) -> None:
    """Dialogues of unlike length on two ranks: no one waits for the other, and the same scores."""
    options = ("--model.max_generated", "null", "--model.closed", closed)
    alone = launch(tmp_path / "alone", *options, "--trainer.accumulate_grad_batches", "2")
    two = launch(
        tmp_path / "two", *options, "--trainer.accumulate_grad_batches", "1", *PLACES[place]
    )
    for name in ("accuracy", "bias", "emotion_accuracy", "rouge_l", "answers", "reply_loss"):
        assert two[f"val/{name}"] == pytest.approx(alone[f"val/{name}"], rel=1e-4)

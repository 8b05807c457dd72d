"""FiSMiness in runs: what its verbs show, data of another domain, two processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from process_pair import DDP, SHARDED, ProcessPair
from running import board, main, refusal, scalars, tiny
from runs import Runs
from training import quiet_trainer

import zoo
from datamodules import EmpatheticDialogues, ESConv
from zoo.support.decisions import decisions
from zoo.support.labels import EMOTIONS, STRATEGIES


def test_tensorboard_has_losses_scores_figures_and_walks(runs: Runs) -> None:
    events = board(runs.fit("fisminess"))
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
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = runs.given("fisminess")
    main("generate", *given, "--prompt", "I lost my job.", "--given", "questions")
    out = capsys.readouterr().out
    assert "state:   Seeker: I lost my job.\n" in out
    assert re.search(r"^walk: +s0 -\w+-> s1 -Question-> s2 -reply-> s3$", out, re.MULTILINE)
    said = refusal(capsys, tmp_path, "--given", "Hugs", verb="generate", given=given)
    assert said.startswith("given: no support strategy 'Hugs'")
    records = ESConv(max_test=2).records("test")
    rows = runs.predict("fisminess")
    assert [row["id"] for row in rows] == [d.id for record in records for d in decisions(record)]
    for row in rows:  # each decision once, though it gives three examples
        assert row["emotion"] in EMOTIONS
        assert row["strategy"] in STRATEGIES
        assert row["walk"].startswith(f"s0 -{row['emotion']}-> s1 -{row['strategy']}-> s2")


def test_out_of_domain_data_is_answered(tmp_path: Path) -> None:
    """EmpatheticDialogues has no strategies: text scores, and no strategy scores."""
    module = zoo.FiSMiness(backbone={"name": "tiny-llama"}, max_length=8192, max_new_tokens=3)
    module.configure_model()
    data = EmpatheticDialogues(max_test=2)
    (scores,) = quiet_trainer().test(module, data, verbose=False)
    assert "test/rouge_l" in scores
    assert "test/rouge_l/low" in scores
    assert "test/accuracy" not in scores


# -- two processes -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [DDP, SHARDED], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("closed", ["constrained", "likelihood"])
def test_two_processes_walk_as_one(
    strategy: tuple[str, ...], closed: str, tmp_path: Path, pair: ProcessPair
) -> None:
    """Dialogues of unlike length on two ranks: no one waits for the other, and the same scores."""

    def fit(name: str, accumulate: str) -> tuple[str, ...]:
        return (
            *("fit", *tiny("fisminess"), "--trainer.default_root_dir", str(tmp_path / name)),
            *("--trainer.max_steps", "2", "--trainer.val_check_interval", "2"),
            *("--trainer.log_every_n_steps", "1", "--model.optimizer.lr", "0.0"),
            *("--data.max_train", "2", "--data.max_val", "4", "--data.batch_size", "2"),
            *("--data.eval_batch_size", "7", "--model.max_new_tokens", "3"),
            *("--model.max_generated", "null", "--model.closed", closed),
            *("--trainer.accumulate_grad_batches", accumulate),
        )

    main(*fit("alone", "2"))
    pair.run(*fit("two", "1"), *strategy)
    ours, theirs = scalars(tmp_path / "two"), scalars(tmp_path / "alone")
    for name in ("accuracy", "bias", "emotion_accuracy", "rouge_l", "answers", "reply_loss"):
        assert ours[f"val/{name}"] == pytest.approx(theirs[f"val/{name}"], rel=1e-4)

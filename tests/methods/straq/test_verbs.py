"""straQ* in runs: what its verbs show, its target after a resume, sharding, two processes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from process_pair import DDP, SHARDED, ProcessPair
from running import board, main, refusal, tiny
from runs import Runs

import zoo
from datamodules import ESConv
from zoo.cli.trainer import ZooTrainer
from zoo.support.labels import STRATEGIES

# -- verbs -------------------------------------------------------------------------------------


def test_tensorboard_has_scores_figures_and_samples(runs: Runs) -> None:
    events = board(runs.fit("straq"))
    tags = events.Tags()
    scores = {"val/td_loss", "val/accuracy", "val/proficiency", "val/bias", "train/td_loss"}
    assert scores <= set(tags["scalars"])
    figures = {"val/confusion", "val/transitions", "val/transitions/gold", "val/values"}
    assert figures <= set(tags["images"])
    (name,) = (tag for tag in tags["tensors"] if "samples/val" in tag)
    table = events.Tensors(name)[0].tensor_proto.string_val[0].decode()
    assert table.startswith("| state | Q | strategy | reply |")
    assert "gold: " in table


def test_generate(runs: Runs) -> None:
    """State, all eight values in order, the best one as the strategy, and the reply."""
    out = runs.generate("straq")
    assert out.startswith("state:")
    assert "\nSeeker: " in out
    values = re.search(r"^Q: +(.*)$", out, re.MULTILINE)
    assert values
    ranked = [part.rpartition(" ") for part in values[1].split(", ")]
    assert sorted(name for name, _, _ in ranked) == sorted(STRATEGIES)
    numbers = [float(value) for _, _, value in ranked]
    assert numbers == sorted(numbers, reverse=True)
    assert f"strategy: {ranked[0][0]}   [gold: " in out
    assert re.search(r"^reply: ", out, re.MULTILINE)


def test_generate_for_a_prompt_by_a_given_strategy(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = (*runs.given("straq"), "--prompt", "I lost my job.")
    main("generate", *given, "--given", "questions")
    out = capsys.readouterr().out
    assert "state:   Seeker: I lost my job.\nQ:" in out
    assert "strategy: Question\n" in out
    assert re.search(r"^reply: ", out, re.MULTILINE)  # by the checkpoint's responder
    said = refusal(capsys, tmp_path, "--given", "Hugs", verb="generate", given=given)
    assert said.startswith("given: no support strategy 'Hugs'; one of: Affirmation")


def test_predict(runs: Runs) -> None:
    rows = runs.predict("straq")
    module = zoo.StraQ(backbone={"name": "tiny-llama"}, max_length=4096)
    expected = [
        x for record in ESConv(max_test=2).records("test") for x in module.encoder()(record)
    ]
    assert [row["id"] for row in rows] == [example.record.id for example in expected]
    for row in rows:
        assert set(row) == {"id", "strategy", "values", "gold", "reply", "gold_reply"}
        assert list(row["values"]) == list(STRATEGIES)
        assert row["strategy"] == max(row["values"], key=row["values"].__getitem__)


def test_check_counts_no_new_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    main("check", *tiny("straq"))
    out = capsys.readouterr().out
    assert re.search(r"new +none\n", out)
    assert "rewards     " in out
    main("check", *tiny("straq"), "--model.readout", "value_head")
    assert "new         value_head.bias, value_head.weight" in capsys.readouterr().out


def test_part_of_the_optimiser_keeps_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """One key given on the command line: the others are those of the released training script."""
    import yaml

    given = ("--model", "zoo.StraQ", "--model.optimizer.lr", "0.5", "--data", "datamodules.ESConv")
    with pytest.raises(SystemExit):
        main("fit", *given, "--print_config")
    optimizer = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["optimizer"]
    assert optimizer == {
        **{"lr": 0.5, "schedule": "cosine", "warmup_ratio": 0.03, "weight_decay": 0.0},
        **{"beta1": 0.9, "beta2": 0.95, "final_ratio": 0.1, "clip_heads_apart": False},
    }


def test_export(runs: Runs) -> None:
    """A plain model gives the letters' logits, adapters merged."""
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(runs.export("straq_lora")).eval()
    encoder = zoo.load(runs.export("straq_lora")).encoder()
    example = encoder(runs.data("straq_lora").records("test")[0])[0]
    with torch.no_grad():
        logits = plain(torch.tensor([example.ids])).logits[0, -1, encoder.letter_ids]
    values = list(runs.predict("straq_lora")[0]["values"].values())
    assert values == pytest.approx(logits.tolist(), abs=1e-4)


# -- resume ------------------------------------------------------------------------------------

STEPS = 9
LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.3, "targets": "all-linear"}


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(float(outputs["loss"]))


def trained(
    folder: Path, ckpt: str | None = None, lora: Any = None, **options: Any
) -> tuple[zoo.StraQ, list[float]]:
    """Train for nine steps with a copy after every fourth, saving after every third."""
    L.seed_everything(0, verbose=False)
    module = zoo.StraQ(
        backbone={"name": "tiny-llama", "lora": lora},
        optimizer={"lr": 3e-3, "schedule": "linear"},
        sync_every=4,
        max_length=700,
    )
    watch = Losses()
    saving = ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    run = ZooTrainer(
        **{"accelerator": "cpu", "max_steps": STEPS, "accumulate_grad_batches": 2, **options},
        **{"logger": False, "enable_progress_bar": False, "enable_model_summary": False},
        callbacks=[watch, saving],
        num_sanity_val_steps=1,
    )
    run.fit(module, datamodule=ESConv(batch_size=1, max_train=2, max_val=1), ckpt_path=ckpt)
    return module, watch.values


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_resumed_is_unbroken(lora: Any, tmp_path: Path) -> None:
    """From between two copies and from the step of one: losses, weights and target bit for bit."""
    whole, losses = trained(tmp_path / "whole", lora=lora)
    for step in (6, 8):
        ckpt = tmp_path / "whole" / f"step={step}.ckpt"
        content = torch.load(ckpt, weights_only=True)
        assert content["target"].keys() == whole.target.values.keys()
        assert not [name for name in content["state_dict"] if "target" in name]
        online = content["state_dict"]
        equal = [torch.equal(v, online[n]) for n, v in content["target"].items()]
        assert all(equal) if step == 8 else not all(equal)
        again, rest = trained(tmp_path / f"from{step}", str(ckpt), lora=lora)
        assert rest == losses[2 * step :]
        same(dict(again.state_dict()), dict(whole.state_dict()))
        same(again.target.values, whole.target.values)


# -- sharding ----------------------------------------------------------------------------------


def test_sharded_in_one_process(tmp_path: Path) -> None:
    """FSDP2 on one process: the losses of a plain run, also after a resume."""
    from lightning.pytorch.strategies import ModelParallelStrategy

    _, losses = trained(tmp_path / "plain")
    strategy = {"strategy": ModelParallelStrategy(1, 1), "devices": 1}
    try:
        _, sharded = trained(tmp_path / "shards", **strategy)
        assert sharded == pytest.approx(losses, abs=1e-5)
        strategy["strategy"] = ModelParallelStrategy(1, 1)
        ckpt = str(tmp_path / "shards" / "step=6.ckpt")
        _, rest = trained(tmp_path / "again", ckpt, **strategy)
        assert rest == sharded[12:]
    finally:
        torch.distributed.destroy_process_group()
        os.environ.pop("LOCAL_RANK", None)  # Lightning sets it; later runs are no children


@pytest.mark.slow
@pytest.mark.parametrize(
    ("readout", "strategy"),
    [("mean_logit", SHARDED), ("mean_logit", DDP), ("value_head", DDP)],
    ids=["fsdp2", "ddp", "ddp_value_head"],
)
def test_two_processes_take_the_steps_of_one(
    readout: str, strategy: tuple[str, ...], tmp_path: Path, pair: ProcessPair
) -> None:
    """Gradient norms of all steps, over two copies to the target, and after a resume."""

    def fit(name: str, *args: str) -> tuple[str, ...]:
        return (
            *("fit", *tiny("straq"), "--model.responder", "null", "--model.readout", readout),
            *("--data.max_train", "2", "--data.max_val", "2", "--data.batch_size", "2"),
            *("--trainer.max_steps", "9", "--trainer.val_check_interval", "1.0"),
            *("--trainer.check_val_every_n_epoch", "1", "--trainer.log_every_n_steps", "1"),
            *("--model.sync_every", "4", "--model.optimizer.lr", "0.003"),
            *("--checkpoint.every_n_train_steps", "6", *args),
            *("--trainer.default_root_dir", str(tmp_path / name)),
        )

    def logged(name: str) -> dict[str, list[float]]:
        events = board(tmp_path / name)
        return {t: [e.value for e in events.Scalars(t)] for t in events.Tags()["scalars"]}

    two = ("--trainer.accumulate_grad_batches", "1", *strategy)
    main(*fit("alone", "--trainer.accumulate_grad_batches", "2"))
    pair.run(*fit("two", *two))
    ckpt = tmp_path / "two" / "checkpoints" / "step-6.ckpt"
    pair.run(*fit("again", *two, "--ckpt_path", str(ckpt)))
    ours, theirs, resumed = logged("two"), logged("alone"), logged("again")
    assert ours["train/grad_norm"] == pytest.approx(theirs["train/grad_norm"], rel=1e-3)
    for name in ("val/td_loss", "val/accuracy", "val/bias"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3)
    assert resumed["train/grad_norm"] == pytest.approx(ours["train/grad_norm"][6:], rel=1e-5)

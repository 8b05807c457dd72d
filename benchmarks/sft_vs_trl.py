"""Plain supervised fine-tuning against TRL's SFTTrainer: tokens per second and peak memory.

Both sides train SmolLM2-135M-Instruct on the same ESConv dialogues, token for token: supporter
turns supervised, the same eight dialogues in the same step, AdamW at one learning rate, gradients
clipped at 1, the same precision, the same gradient checkpointing. Both are timed from the end of
one optimiser step to the end of the next, data loading and logging included.

TRL is run at its best for speed, found by measuring: padding-free, no checkpointing. The other
settings (`TRL_OTHERS`), its defaults among them, are in the details of a full run. On the CPU its
loss scores every position; on CUDA the supervised ones only, so ratios there will be smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.exactness import fingerprint
from benchmarks.harness import Sample, Setting, interleave, measure
from benchmarks.meters import Clock, Meter
from benchmarks.peers import step_marks, trainer_settings
from benchmarks.result import Peer, Result, agree, compare, summarise
from benchmarks.training import quiet_trainer
from benchmarks.workload import BACKBONE, batches, fill
from zoo.encoding import IGNORE, Example

CLAIM = "plain SFT on ESConv: at least 1.3x the tokens/s of TRL's SFTTrainer in 0.8x its memory"
NAME = "sft_vs_trl"
LEARNING_RATE = 1e-5
PRECISIONS: dict[str, tuple[Any, Any]] = {  # name -> type of the weights, Lightning's precision
    "bf16-mixed": ("float32", "bf16-mixed"),
    "bf16-true": ("bfloat16", "bf16-true"),
    "fp32": ("float32", "32-true"),
}
TRL_OTHERS: tuple[dict[str, Any], ...] = (
    {"precision": "bf16-mixed", "checkpointing": True},  # TRL's defaults
    {"precision": "bf16-mixed"},
    {"precision": "bf16-true", "padding_free": True},
)


def trl(
    setting: Setting,
    *,
    precision: str,
    steps: int,
    checkpointing: bool = False,
    padding_free: bool = False,
) -> Sample:
    """Train with TRL; `bf16-true` keeps its autocast on, which is what `bf16=True` does there."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from zoo.backbone import resolve

    dtype, _ = PRECISIONS[precision]
    folder = resolve(BACKBONE)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    data, label = batches(tokenizer, setting, steps=steps)
    rows = [_unshifted(example) for batch in data for example in batch]
    lm = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), trust_remote_code=False
    )
    args = SFTConfig(
        **trainer_settings(setting.device, steps, LEARNING_RATE),
        per_device_train_batch_size=len(data[0]),
        bf16=precision != "fp32",
        gradient_checkpointing=checkpointing,
        padding_free=padding_free,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    clock = Clock(setting.device)
    trainer = SFTTrainer(
        model=lm,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[step_marks(clock)],
    )
    meter = Meter(setting.device)
    meter.start(lm)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    first = {"loss": logs[0]["loss"], "grad_norm": float(logs[0]["grad_norm"])}
    return _sample(data, label, clock, meter, {**first, "last_loss": logs[-1]["loss"]})


def zoo(setting: Setting, *, precision: str, steps: int, checkpointing: bool = False) -> Sample:
    """Train `zoo.methods.sft.SFT` with Lightning on padding-free batches."""
    from torch.utils.data import DataLoader

    from zoo.backbone import Backbone
    from zoo.encoding import collate
    from zoo.methods.sft.module import SFT
    from zoo.optimizer import Optimizer

    dtype, lightning_precision = PRECISIONS[precision]
    module = SFT(
        Backbone(BACKBONE, dtype=dtype, gradient_checkpointing=checkpointing),
        Optimizer(lr=LEARNING_RATE, schedule="constant", warmup_ratio=0.0, weight_decay=0.0),
    )
    module.configure_model()
    data, label = batches(module.tokenizer, setting, steps=steps)
    rows: Any = data
    clock = Clock(setting.device)
    mark = _lightning_callback(clock)
    trainer = quiet_trainer(
        accelerator="gpu" if setting.device == "cuda" else "cpu",
        devices=1,
        precision=lightning_precision,
        max_steps=steps,
        callbacks=[mark],
    )
    meter = Meter(setting.device)
    meter.start(module)
    trainer.fit(module, DataLoader(rows, batch_size=None, collate_fn=collate))
    first = {"loss": mark.losses[0], "grad_norm": mark.norms[0], "last_loss": mark.losses[-1]}
    return _sample(data, label, clock, meter, first)


def _lightning_callback(clock: Clock) -> Any:
    from lightning.pytorch import Callback

    class Mark(Callback):
        def __init__(self) -> None:
            self.losses: list[float] = []
            self.norms: list[float] = []

        def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            clock.mark()
            self.losses.append(float(trainer.callback_metrics["train/speak_loss"]))
            self.norms.append(float(trainer.callback_metrics["train/grad_norm"]))

    return Mark()


def _unshifted(example: Example) -> dict[str, list[int]]:
    """Return an example as TRL takes it: the label of a token is the token itself."""
    labels = [IGNORE, *example.labels[:-1]]
    return {"input_ids": example.input_ids, "labels": labels}


def _sample(
    data: Sequence[Sequence[Example]],
    label: str,
    clock: Clock,
    meter: Meter,
    checks: dict[str, Any],
) -> Sample:
    """Return the steps after the first, which warms up."""
    timed = data[1:]
    ids = [[(e.input_ids, e.labels) for e in batch] for batch in data]
    return Sample(
        **clock.steps(),
        work={
            "tokens": [sum(map(len, batch)) for batch in timed],
            "supervised": [sum(sum(e.weights) for e in batch) for batch in timed],
        },
        checks={**checks, "data": fingerprint(ids)},
        loaded_bytes=meter.loaded,
        peak_bytes=meter.peak(),
        notes={
            "data": label,
            "share_of_padded_batch_that_is_real": sum(map(fill, timed)) / max(len(timed), 1),
        },
    )


SIDES = {"trl": trl, "zoo": zoo}
TOLERANCES = {
    "fp32": {"data": 0.0, "loss": 1e-4, "grad_norm": 1e-3, "last_loss": 1e-3},
    "bf16-mixed": {"data": 0.0, "loss": 1e-2, "grad_norm": 2e-2, "last_loss": 2e-2},
}


def run(setting: Setting) -> Result:
    """Compare in fp32 for equality, then in bf16 autocast over fp32 weights for time and memory."""
    sides = {"trl": {"padding_free": True}, "zoo": {}}
    small = Setting(setting.device, quick=True)
    exact = interleave(NAME, _with(sides, precision="fp32", steps=2), small, 1)
    checks = {"fp32": agree(exact["zoo"][0], exact["trl"][0], TOLERANCES["fp32"])}
    steps, repeats = (4, 1) if setting.quick else (5, 3)
    timed = _with(sides, precision="bf16-mixed", steps=steps)
    samples = interleave(NAME, timed, setting, repeats)
    checks["bf16-mixed"] = agree(samples["zoo"][0], samples["trl"][0], TOLERANCES["bf16-mixed"])
    details = {}
    if not setting.quick:
        for options in TRL_OTHERS:
            label = "trl " + " ".join(f"{key}={value}" for key, value in options.items())
            details[label] = summarise([measure(NAME, "trl", setting, steps=3, **options)])
        true = measure(NAME, "zoo", setting, steps=3, precision="bf16-true")
        details["zoo precision=bf16-true"] = summarise([true])
    label = "TRL SFTTrainer, padding-free, no checkpointing, bf16 autocast over fp32 weights"
    peer = Peer(label, "trl", "zoo", target=1.3, memory_target=0.8)
    return compare(NAME, CLAIM, [peer], samples, checks, **details)


def _with(sides: dict[str, dict[str, Any]], **more: Any) -> dict[str, dict[str, Any]]:
    return {side: {**options, **more} for side, options in sides.items()}

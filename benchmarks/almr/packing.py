"""Continual pre-training on packed blocks against TRL's packing and Hugging Face's Trainer.

All sides train SmolLM2-135M-Instruct on English texts and German captions (see `corpus`), blocks of
512 tokens, two a step, AdamW at one learning rate, gradients clipped at 1, no checkpointing, bf16
autocast over fp32 weights. A step is timed from the end of one optimiser step to the next.

- `ours`: `MixtureLoader` reads, tokenises, mixes and cuts while training runs; the share of a step
  that this takes is noted (`mixture_share`).
- `hf`: `transformers.Trainer` on the very same blocks, cut beforehand; losses must agree.
- `wrapped`, `bfd`: TRL's `SFTTrainer(packing=True)` with each of its strategies, on the texts that
  the blocks are cut from, tokenised and packed beforehand. `bfd` keeps texts apart, which takes
  masks, and does not fill every block.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.almr.corpus import write_corpus
from benchmarks.harness import Sample, Setting, interleave
from benchmarks.meters import Clock, Meter
from benchmarks.peers import step_marks, trainer_settings
from benchmarks.result import Peer, Result, agree, compare
from benchmarks.training import quiet_trainer
from benchmarks.workload import BACKBONE
from datamodules.mixture_loader import MixtureLoader
from datamodules.text_shards import ReadingPlace, TextShards

CLAIM = "packed pre-training: at least 1.15x TRL's packing in tokens/s; the mixture below 5 %"
NAME = "cpt_packing"
SHARES = {"english": 0.67, "german": 0.33}
BATCH, LEARNING_RATE = 2, 1e-5


class Timed:
    """A loader; how long each of its batches took."""

    def __init__(self, loader: MixtureLoader) -> None:
        self.loader = loader
        self.seconds: list[float] = []

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.seconds.append(time.perf_counter() - start)
            yield batch


def loader(folder: Path, ids: Any, collate: Any, length: int, steps: int) -> MixtureLoader:
    """Return the mixture of the two texts."""
    write_corpus(folder)
    sources = {name: TextShards(name, str(folder / name), shuffle=512) for name in SHARES}
    return MixtureLoader(
        *(sources, SHARES, ids, collate),
        length=length,
        batch_size=BATCH,
        num_tokens=length * BATCH * steps,
    )


def ours(setting: Setting, *, precision: str, steps: int) -> Sample:
    """Train `zoo.ALMR` with Lightning on the stream."""
    from benchmarks.sft_vs_trl import PRECISIONS
    from zoo.backbone import Backbone
    from zoo.methods.almr.module import ALMR
    from zoo.optimizer import Optimizer

    dtype, lightning_precision = PRECISIONS[precision]
    length = length_of(setting)
    module = ALMR(
        Backbone(BACKBONE, dtype=dtype),
        Optimizer(lr=LEARNING_RATE, schedule="constant", warmup_ratio=0.0, weight_decay=0.0),
        max_length=length,
    )
    module.configure_model()
    encoder = module.encoder()
    with tempfile.TemporaryDirectory() as folder:
        collate = partial(_collated, encoder)
        batches = Timed(loader(Path(folder), encoder.document_ids, collate, length, steps))
        clock = Clock(setting.device)
        mark = _lightning_callback(clock)
        trainer = quiet_trainer(precision=lightning_precision, max_steps=steps, callbacks=[mark])
        meter = Meter(setting.device)
        meter.start(module)
        trainer.fit(module, batches)
    sample = _sample(clock, meter, length, mark.losses)
    sample.notes["mixture_share"] = sum(batches.seconds[1:]) / sum(sample.seconds)
    return sample


def _collated(encoder: Any, blocks: list[list[int]]) -> Any:
    return encoder.collate([encoder.block(ids) for ids in blocks], {})


def _lightning_callback(clock: Clock) -> Any:
    from lightning.pytorch import Callback

    class Mark(Callback):
        def __init__(self) -> None:
            self.losses: list[float] = []

        def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            clock.mark()
            self.losses.append(float(trainer.callback_metrics["train/text_loss"]))

    return Mark()


def hf(setting: Setting, *, precision: str, steps: int) -> Sample:
    """Train with `transformers.Trainer` on the same blocks."""
    from transformers import Trainer, TrainingArguments

    blocks = []
    with tempfile.TemporaryDirectory() as folder:
        lm, tokenizer = model(precision)
        ids = partial(document_ids, tokenizer)
        for batch in loader(Path(folder), ids, list, length_of(setting), steps):
            blocks += [{"input_ids": block, "labels": block} for block in batch]
    return peer(setting, Trainer, TrainingArguments, lm, blocks, precision, steps)


def trl(setting: Setting, *, precision: str, steps: int, strategy: str) -> Sample:
    """Train with TRL on the texts."""
    from trl import SFTConfig, SFTTrainer

    length = length_of(setting)
    lm, tokenizer = model(precision)
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder))
        sources = [TextShards(name, f"{folder}/{name}", shuffle=512) for name in SHARES]
        texts = zip(*(source.read(ReadingPlace()) for source in sources), strict=False)
        rows = [
            {"input_ids": document_ids(tokenizer, text)}
            for pair in islice(texts, 2000)
            for _, text in pair
        ]
    more = {"packing": True, "packing_strategy": strategy, "max_length": length + 1}
    more |= {"processing_class": tokenizer}
    return peer(setting, SFTTrainer, SFTConfig, lm, rows, precision, steps, **more)


def peer(
    setting: Setting,
    trainer: Any,
    arguments: Any,
    lm: Any,
    rows: list[dict[str, Any]],
    precision: str,
    steps: int,
    **more: Any,
) -> Sample:
    """Train with a peer's trainer; `more` are settings of TRL's alone."""
    from datasets import Dataset

    given = {"processing_class": more.pop("processing_class")} if more else {}
    args = arguments(
        **trainer_settings(setting.device, steps, LEARNING_RATE),
        per_device_train_batch_size=BATCH,
        bf16=precision != "fp32",
        gradient_checkpointing=False,
        **more,
    )
    clock = Clock(setting.device)
    made = trainer(
        model=lm,
        args=args,
        train_dataset=Dataset.from_list(rows),
        callbacks=[step_marks(clock)],
        **given,
    )
    meter = Meter(setting.device)
    meter.start(lm)
    made.train()
    losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    sample = _sample(clock, meter, length_of(setting), losses)
    if more:  # blocks of TRL may be shorter: the tokens that it counts
        seen = [e["num_tokens"] for e in made.state.log_history if "num_tokens" in e]
        sample.work["tokens"] = [b - a for a, b in zip(seen, seen[1:], strict=False)]
    return sample


def model(precision: str) -> tuple[Any, Any]:
    """Return the model as the library loads it, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from benchmarks.sft_vs_trl import PRECISIONS
    from zoo.model_files import resolve

    folder = resolve(BACKBONE)
    dtype = getattr(torch, PRECISIONS[precision][0])
    lm = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
    return lm, AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def document_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a text with its start and end, as `StageEncoder` does."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    start = tokenizer.bos_token_id
    return [*([] if start is None else [start]), *ids, tokenizer.eos_token_id]


def length_of(setting: Setting) -> int:
    """Return the targets of a block."""
    return 128 if setting.quick else 512


def _sample(clock: Clock, meter: Meter, length: int, losses: list[float]) -> Sample:
    """Return the steps after the first, which warms up."""
    steps: dict[str, Any] = clock.steps()
    return Sample(
        **steps,
        work={"tokens": [float(BATCH * length)] * len(steps["seconds"])},
        checks={"loss": losses[0], "last_loss": losses[-1]},
        loaded_bytes=meter.loaded,
        peak_bytes=meter.peak(),
    )


SIDES = {
    "ours": ours,
    "hf": hf,
    "wrapped": partial(trl, strategy="wrapped"),
    "bfd": partial(trl, strategy="bfd"),
}


def run(setting: Setting) -> Result:
    """Compare losses in fp32, then times in bf16 autocast."""
    small = Setting(setting.device, quick=True)
    pair = {side: {"precision": "fp32", "steps": 3} for side in ("ours", "hf")}
    exact = interleave(NAME, pair, small, 1)
    tolerances = {"loss": 1e-4, "last_loss": 1e-3}
    checks = {"fp32": agree(exact["ours"][0], exact["hf"][0], tolerances)}
    steps, repeats = (4, 1) if setting.quick else (6, 2)
    timed = {side: {"precision": "bf16-mixed", "steps": steps} for side in SIDES}
    samples = interleave(NAME, timed, setting, repeats)
    peers = [
        Peer("TRL SFTTrainer, packing, bfd (its default)", "bfd", target=1.15),
        Peer("TRL SFTTrainer, packing, wrapped", "wrapped", target=1.15),
        Peer("transformers.Trainer on the same blocks", "hf", target=1.15),
    ]
    shares = [sample.notes["mixture_share"] for sample in samples["ours"]]
    return compare(NAME, CLAIM, peers, samples, checks, mixture_share=max(shares))

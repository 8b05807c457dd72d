"""A DPO step at 4,096 tokens against TRL's DPOTrainer: time and peak memory.

The pairs of one block: a prompt of 3,976 tokens and 3 segments of 40, chosen and rejected of each
after the chosen ones before it, so that the longest sequence has 4,096 tokens. A random Llama (4
blocks of width 256, 6,144 tokens; seed 0), float32, full fine-tuning with AdamW, DPO with beta 0.1,
the mean over pairs, reference in the step.

- `ours`: `ALPO` with `objective: segment_dpo`, one tree of 4,216 tokens.
- `trl`: a batch of one pair, accumulated over the 3; it has no padding then, and the least memory
  that TRL can have. Its head is fused, its padding-free path is not there for DPO.

Both with and without gradient checkpointing. The first gradient's norm and the loss after the last
step agree before anything is compared. TRL is to be importable: run in its environment, with
Lightning's on the path.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from functools import lru_cache
from typing import Any

import torch

from benchmarks.exactness import fingerprint
from benchmarks.harness import Sample, Setting, interleave
from benchmarks.meters import Clock, Meter
from benchmarks.peers import step_marks, trainer_settings
from benchmarks.result import Peer, Result, agree, compare
from benchmarks.training import quiet_trainer

CLAIM = "DPO at 4,096 tokens: at least TRL's speed in half the memory of its DPOTrainer"
NAME = "dpo_step"
PROMPT, SEGMENTS, LENGTH = 3976, 3, 40
QUICK = (444, 4, 20)
SHAPE: dict[str, Any] = {
    "vocab_size": 6144,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "bos_token_id": 256,
    "eos_token_id": 258,
    "pad_token_id": 256,
    "tie_word_embeddings": True,
}
LEARNING_RATE, BETA = 1e-4, 0.1
TOLERANCES = {"data": 0.0, "grad_norm": 1e-3, "last_loss": 1e-3}


@lru_cache
def folder() -> str:
    """Write the model and a tokenizer; return where."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from zoo.tiny_models import byte_tokenizer

    torch.manual_seed(0)
    path = tempfile.mkdtemp()
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


def blocks(setting: Setting, steps: int) -> list[tuple[list[int], list[tuple[list[int], ...]]]]:
    """Return the prompt of each block, and chosen and rejected of its segments."""
    prompt, segments, length = QUICK if setting.quick else (PROMPT, SEGMENTS, LENGTH)
    draw = random.Random(0)

    def words(size: int) -> list[int]:
        return [draw.randrange(300, SHAPE["vocab_size"]) for _ in range(size)]

    return [
        (words(prompt), [(words(length), words(length)) for _ in range(segments)])
        for _ in range(steps)
    ]


def ours(setting: Setting, *, steps: int, checkpointing: bool) -> Sample:
    """Train ALPO's segment DPO with Lightning, a tree a step."""
    from torch.utils.data import DataLoader

    from zoo.backbone import Backbone
    from zoo.methods.alpo.choose import Choice
    from zoo.methods.alpo.module import ALPO
    from zoo.methods.alpo.preference_tree import BlockPlan, collate_plans
    from zoo.optimizer import Optimizer

    module = ALPO(
        Backbone(folder(), gradient_checkpointing=checkpointing),
        Optimizer(lr=LEARNING_RATE, schedule="constant", warmup_ratio=0.0, weight_decay=0.0),
        objective="segment_dpo",
        dpo_beta=BETA,
    )
    module.configure_model()
    data = blocks(setting, steps)
    plans = [
        BlockPlan(
            tuple(prompt),
            tuple(tuple(map(tuple, pair)) for pair in pairs),
            tuple(Choice(0, 1, 1.0, BETA, is_open=True) for _ in pairs),
            float(len(pairs)),
            index,
        )
        for index, (prompt, pairs) in enumerate(data)
    ]
    clock = Clock(setting.device)
    mark = _lightning_callback(clock)
    trainer = quiet_trainer(
        max_steps=steps, callbacks=[mark], precision="32-true", accelerator=setting.device
    )
    meter = Meter(setting.device)
    meter.start(module)
    rows: Any = [[plan] for plan in plans]
    trainer.fit(
        module,
        DataLoader(
            rows, batch_size=None, collate_fn=lambda row: collate_plans(row, 1.0, None, None)
        ),
    )
    tokens = [float(len(plan)) for plan in plans]
    return _sample(data, tokens, clock, meter, mark.logs)


def trl(setting: Setting, *, steps: int, checkpointing: bool) -> Sample:
    """Train with TRL, a pair at a time, its gradients accumulated over the block."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class Tokenized(DPOTrainer):  # type: ignore[misc, unused-ignore]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    data = blocks(setting, steps)
    tokenizer = AutoTokenizer.from_pretrained(folder(), trust_remote_code=False)
    lm = AutoModelForCausalLM.from_pretrained(
        folder(), dtype=torch.float32, trust_remote_code=False
    )
    args = DPOConfig(
        **trainer_settings(setting.device, steps, LEARNING_RATE),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=len(data[0][1]),
        beta=BETA,
        bf16=False,
        gradient_checkpointing=checkpointing,
        max_length=None,
    )
    clock = Clock(setting.device)
    rows = [row for prompt, pairs in data for row in _rows(prompt, pairs)]
    trainer = Tokenized(
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
    tokens = [
        sum(2.0 * len(row["prompt_ids"] + row["chosen_ids"]) for row in _rows(*block))
        for block in data
    ]
    kept = [(float(entry["loss"]), float(entry["grad_norm"])) for entry in logs]
    return _sample(data, tokens, clock, meter, kept)


def _rows(prompt: list[int], pairs: list[tuple[list[int], ...]]) -> list[dict[str, list[int]]]:
    """Return the pairs of a block as TRL takes them."""
    prefixes = itertools.accumulate((chosen for chosen, _ in pairs[:-1]), initial=prompt)
    return [
        {"prompt_ids": prefix, "chosen_ids": chosen, "rejected_ids": rejected}
        for prefix, (chosen, rejected) in zip(prefixes, pairs, strict=True)
    ]


def _lightning_callback(clock: Clock) -> Any:
    from lightning.pytorch import Callback

    class Mark(Callback):
        def __init__(self) -> None:
            self.logs: list[tuple[float, float]] = []

        def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            clock.mark()
            found = trainer.callback_metrics
            self.logs.append(
                (float(found["train/preference_loss"]), float(found["train/grad_norm"]))
            )

    return Mark()


def _sample(
    data: Any,
    tokens: list[float],
    clock: Clock,
    meter: Meter,
    logs: list[tuple[float, float]],
) -> Sample:
    """Return the steps after the first, which warms up."""
    checks = {"data": fingerprint(data), "grad_norm": logs[0][1], "last_loss": logs[-1][0]}
    return Sample(
        **clock.steps(),
        work={"tokens": tokens[1:]},
        checks=checks,
        loaded_bytes=meter.loaded,
        peak_bytes=meter.peak(),
        notes={"tokens": tokens[-1]},
    )


SIDES = {"ours": ours, "trl": trl}


def run(setting: Setting) -> Result:
    """Measure both sides in turn, then both with gradient checkpointing."""
    steps, repeats = 3, 1
    samples: dict[str, list[Sample]] = {}
    checks: dict[str, Any] = {}
    for checkpointing, suffix in ((False, ""), (True, ", checkpointing")):
        options = {"steps": steps, "checkpointing": checkpointing}
        found = interleave(NAME, dict.fromkeys(SIDES, options), setting, repeats)
        checks[f"fp32{suffix}"] = agree(found["ours"][0], found["trl"][0], TOLERANCES)
        samples |= {f"{side}{suffix}": found[side] for side in SIDES}
    label = "TRL DPOTrainer, fused head, one pair at a time"
    peers = [
        Peer(label, "trl", target=1.0, memory_target=0.5),
        Peer(f"{label}, both with checkpointing", "trl, checkpointing", "ours, checkpointing"),
    ]
    return compare(NAME, CLAIM, peers, samples, checks)

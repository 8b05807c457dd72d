"""Rung (a): can each method learn a handful of examples by heart?

    python -m benchmarks.learns --json benchmarks/results/learns-2026-11-29.json

Each method's own config trains a small model from scratch on its first training records, and is
scored on these records. What cannot learn them has a fault, whatever a table says. Rows go on
where the file ends. `loss` is the mean training loss of the first and of the last tenth of the
steps; `scores` are what validation logs on the training records.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import datamodules
import zoo
from benchmarks.harness import ROOT
from benchmarks.training import quiet_trainer
from benchmarks.trials import Entry, FinishedRows, make_parser, markdown
from zoo.cli.main import main as zoo_main

CONFIGS = {  # config -> folder of the method, records, steps
    "methanol": ("methanol", 16, 300),
    "hdlm": ("hdlm", 16, 300),
    "lamss": ("lamss", 16, 300),
    "megan": ("megan", 16, 300),
    "m3_jepa": ("m3_jepa", 32, 300),
    "lahore": ("lahore", 8, 300),
    "rabtriever": ("rabtriever", 8, 300),
    "straq": ("straq", 4, 300),
    "fisminess": ("fisminess", 4, 300),
    "coct_sft": ("coct", 4, 300),
    "sova_sft": ("sova", 16, 300),
    "mupas": ("mupas", 4, 300),
    "alpo": ("alpo", 4, 300),
    "dreamcub_sft": ("dreamcub", 4, 300),
    "almr": ("almr", 16, 300),
}
"""What is trained in each method."""
SAMPLES = ROOT / "datamodules" / "samples"


def small_model(folder: Path) -> Path:
    """Write a Llama of 0.9 million parameters (seed 0) with tokens of the project's samples."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    from zoo.tiny_models import byte_tokenizer, tiny_config

    tokenizer = byte_tokenizer().train_new_from_iterator(
        (path.read_text("utf-8") for path in sorted(SAMPLES.glob("*.json*"))), 1000
    )
    shape = tiny_config("tiny-llama").to_dict()
    shape |= {"hidden_size": 128, "intermediate_size": 256, "vocab_size": len(tokenizer)}
    shape |= {"head_dim": 32, "max_position_embeddings": 4096}
    for name in ("bos", "eos", "pad"):
        shape[f"{name}_token_id"] = getattr(tokenizer, f"{name}_token_id")
    set_seed(0)
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def learn(config: str, model: Path) -> Entry:
    """Train a config on its first records and score it on them."""
    _, records, steps = CONFIGS[config]
    with tempfile.TemporaryDirectory() as scratch:
        start = time.time()
        root = f"--trainer.default_root_dir={scratch}"
        zoo_main(["fit", *arguments(config, model), root])
        trained = round(time.time() - start)
        run = yaml.safe_load((Path(scratch) / "config.yaml").read_text("utf-8"))
        losses = training_losses(Path(scratch))
        scores = scored(run, str(Path(scratch) / "checkpoints" / "last.ckpt"))
    tenth = max(1, len(losses) // 10)
    return {
        "config": config,
        "records": records,
        "steps": steps,
        "loss": {
            "first": sum(losses[:tenth]) / tenth,
            "last": sum(losses[-tenth:]) / tenth,
        },
        "scores": scores,
        "seconds": {"train": trained, "all": round(time.time() - start)},
    }


def arguments(config: str, model: Path) -> list[str]:
    """Return the arguments of the run; M3-JEPA keeps the small towers of its overlay."""
    method, records, steps = CONFIGS[config]
    return [
        f"--config={ROOT / 'configs' / config}.yaml",
        f"--config={ROOT / 'tests' / 'methods' / method / 'tiny.yaml'}",
        *([] if method == "m3_jepa" else [f"--model.backbone.name={model}"]),
        f"--data.max_train={records}",
        "--data.max_val=1",
        f"--trainer.max_steps={steps}",
        "--trainer.accumulate_grad_batches=1",
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        "--trainer.limit_val_batches=0",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--model.optimizer.lr=1e-3",
    ]


def training_losses(folder: Path) -> list[float]:
    """Return the training loss of each step, as TensorBoard has it."""
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return [float(event.value) for event in board.Scalars("train/loss")]


def scored(run: dict[str, Any], checkpoint: str) -> dict[str, float]:
    """Return what validation says of the run's training records."""
    build = {"model": zoo, "data": datamodules}
    module, data = (
        getattr(build[part], run[part]["class_path"].rpartition(".")[2])(**run[part]["init_args"])
        for part in build
    )
    train = data.load
    data.load = lambda split: train("train")
    data.limits["val"] = data.limits["train"]
    (found,) = quiet_trainer(limit_val_batches=1.0).validate(
        module, data, ckpt_path=checkpoint, verbose=False
    )
    return {name.removeprefix("val/"): round(value, 4) for name, value in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the missing configs and print the table."""
    parser = make_parser(__doc__, rows=CONFIGS)
    options = parser.parse_args(argv)
    finished = FinishedRows(options.json, "config")
    if not options.table:
        with tempfile.TemporaryDirectory() as folder:
            model = small_model(Path(folder))
            finished.run(((c,) for c in options.rows), lambda config: learn(config, model))
    print("\n".join(table(finished.entries)))


def table(entries: Sequence[Entry]) -> list[str]:
    """Return a line for each config."""
    return markdown(
        ("config", "records", "steps", "loss, first to last", "scores on the same records"),
        [
            (
                entry["config"],
                str(entry["records"]),
                str(entry["steps"]),
                f"{entry['loss']['first']:.3g} to {entry['loss']['last']:.3g}",
                json.dumps(entry["scores"])[1:-1].replace('"', ""),
            )
            for entry in entries
        ],
    )


if __name__ == "__main__":
    main()

"""Rung (a): can each method learn a handful of examples by heart?

    python -m benchmarks.learns --json benchmarks/results/learns-2026-11-29.json

Each method's own config trains a small model from scratch on its first training records, and is
scored on these records. What cannot learn them has a fault, whatever a table says. Rows go on
where the file ends. `loss` is the mean training loss of the first and of the last tenth of the
steps; `scores` are what validation logs on the training records, of which one decides.

Some do not learn the right answer of every record, so that their loss decides. straQ*
learns the values of two of eight strategies in a state: the logged one, and one other. LaMsS
learns how much the model of before doubted, which is all over where that was random. SoVA's SFT
learns each dilemma in one order of its two actions, and a handful of dilemmas by their position.
MeGan's backbone, frozen in the paper, is trained here: there is no pre-trained one of this size.
Rabtriever copies the LaHoRe that has learned the same records, on pairs of which half are relevant:
over all documents its reverse KL saturates at "False", and an MSE of one factor a dimension for all
documents cannot be learned by heart. Its goal is a KL of 0.05 nats times w, on these pairs.
DreamCUB trains adapters and needs a base that knows the words, brackets around strategies among
them, which are left out: random rows of a frozen head cannot be told apart sharply.
ALMR's texts follow each other in a drawn order, so that the first tokens of one are never known;
its goal is 0.15 nats for that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Lesson:
    """What is learned by heart, and when it counts as learned.

    Attributes:
        method: Folder of the method.
        records: Number of training records; a stream (ALMR) has no such limit and reads all texts.
        score: What validation logs on them.
        goal: The score is at least this; one whose name ends in "loss" is at most this.
        arguments: Settings of this config's run.
        before: Config whose run on the same records comes first, and is what this one starts from.
        base: Config whose trained model is the backbone: adapters cannot do without one.
        steps: Optimiser steps.
    """

    method: str
    records: int
    score: str
    goal: float
    arguments: tuple[str, ...] = ()
    before: str = ""
    base: str = ""
    steps: int = 300


LONG_ANSWERS = ("--model.max_thought_tokens=64", "--model.max_answer_tokens=16")
WIDE = ("--model.hidden=256", "--data.batch_size=32")
SPEAKS = (
    "--model.schedule.policy=600",
    "--model.optimizer.lr=3e-3",
    "--model.strategy_line=false",
)
COPIES = ("--model.optimizer.lr=2e-3", "--model.negatives=1", "--model.mse=false")
AGAIN = (
    "--model.max_length=128",
    "--data.num_tokens=512",
    "--data.max_epochs=1000000",
    "--model.optimizer.lr=3e-3",
)
CONFIGS = {
    "methanol": Lesson("methanol", 16, "accuracy", 1.0, LONG_ANSWERS),
    "hdlm": Lesson("hdlm", 16, "joint_accuracy", 1.0),
    "lamss": Lesson("lamss", 16, "level_loss", 0.05),
    "megan": Lesson("megan", 16, "mention_accuracy", 1.0, ("--model.train=full",)),
    "m3_jepa": Lesson("m3_jepa", 32, "R@1", 0.95, WIDE),
    "lahore": Lesson("lahore", 8, "R@1", 1.0),
    "rabtriever": Lesson(
        "rabtriever", 8, "train_loss", 0.00125, COPIES, before="lahore", steps=1500
    ),
    "straq": Lesson("straq", 4, "td_loss", 0.05),
    "fisminess": Lesson("fisminess", 4, "loss", 0.05, steps=900),
    "coct_sft": Lesson("coct", 4, "loss", 0.05),
    "sova_sft": Lesson("sova", 16, "action_loss", 0.05),
    "mupas": Lesson("mupas", 4, "speaker_accuracy", 1.0),
    "alpo": Lesson("alpo", 3, "loss", 0.05, ("--data.part=all",)),
    "dreamcub_sft": Lesson("dreamcub", 1, "train_loss", 0.05, SPEAKS, base="coct_sft", steps=600),
    "almr": Lesson("almr", 16, "train_loss", 0.15, AGAIN, steps=1500),
}
"""What is trained in each method."""
LAST = Path("checkpoints") / "last.ckpt"
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
    lesson = CONFIGS[config]
    with tempfile.TemporaryDirectory() as scratch:
        start = time.time()
        folder = trained(config, model, Path(scratch))
        seconds = round(time.time() - start)
        run = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        losses = training_losses(folder)
        heard = lesson.score != "train_loss"
        scores = scored(run, str(folder / LAST)) if heard else {}
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    scores["train_loss"] = round(last, 4)
    return {
        "config": config,
        "records": lesson.records,
        "steps": lesson.steps,
        "loss": {"first": first, "last": last},
        "score": lesson.score,
        "learned": reached(lesson, scores[lesson.score]),
        "scores": scores,
        "seconds": {"train": seconds, "all": round(time.time() - start)},
    }


def reached(lesson: Lesson, score: float) -> bool:
    """Return whether a score is as good as the lesson's goal."""
    return score <= lesson.goal if lesson.score.endswith("loss") else score >= lesson.goal


def trained(config: str, model: Path, scratch: Path) -> Path:
    """Train a config, after the one that it starts from; return its run's folder."""
    lesson, folder = CONFIGS[config], scratch / config
    start = []
    if lesson.base:
        model = exported(trained(lesson.base, model, scratch))
    if lesson.before:
        start = [f"--init_from={trained(lesson.before, model, scratch) / LAST}"]
    zoo_main(["fit", *arguments(config, model), f"--trainer.default_root_dir={folder}", *start])
    return folder


def exported(folder: Path) -> Path:
    """Return a finished run as a folder that a backbone is loaded from."""
    out = folder / "model"
    given = [f"--config={folder / 'config.yaml'}", f"--ckpt_path={folder / LAST}"]
    zoo_main(["export", *given, f"--output={out}"])
    return out


def arguments(config: str, model: Path) -> list[str]:
    """Return the arguments of the run; M3-JEPA keeps the small towers of its overlay."""
    lesson = CONFIGS[config]
    return [
        f"--config={ROOT / 'configs' / config}.yaml",
        f"--config={ROOT / 'tests' / 'methods' / lesson.method / 'tiny.yaml'}",
        *([] if lesson.method == "m3_jepa" else [f"--model.backbone.name={model}"]),
        f"--data.max_train={lesson.records}",
        "--data.max_val=1",
        f"--trainer.max_steps={lesson.steps}",
        "--trainer.accumulate_grad_batches=1",
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        "--trainer.limit_val_batches=0",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--model.optimizer.lr=1e-3",
        *lesson.arguments,
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
        ("config", "records", "steps", "loss, first to last", "decided by", "learned"),
        [
            (
                entry["config"],
                str(entry["records"]),
                str(entry["steps"]),
                f"{entry['loss']['first']:.3g} to {entry['loss']['last']:.3g}",
                f"{entry['score']} {entry['scores'][entry['score']]:.3g}",
                "yes" if entry["learned"] else "no",
            )
            for entry in entries
        ],
    )


if __name__ == "__main__":
    main()

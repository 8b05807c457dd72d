"""Does `python -m zoo check` say how much memory a training step needs?

    python -m benchmarks.step_memory --json FILE --models MODEL_FOLDER ...

Each config is checked and then trained for a few steps of its largest micro-batches, both as a
user would, in a process of its own; the most memory that the process holds beyond what it held
before the model is loaded stands beside what `check` said. Backbones: the packaged SmolLM2-135M,
a wide and shallow Llama with random weights, and the folders of `--models`. `ZOO_DATA` gives
longer dialogues (`esconv/`); without it the samples of the package are trained on. Resumable.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import trials
from benchmarks.harness import ROOT
from benchmarks.meters import Meter
from benchmarks.workload import BACKBONE

CONFIGS = {  # config -> settings that give a step of some thousand tokens
    "methanol_esconv": ("--data.batch_size=4", "--model.thinking_layer=3"),
    "hdlm_esconv": ("--data.batch_size=8", "--model.layers=[3]"),
    "coct_sft": ("--data.batch_size=8",),
    "mupas": ("--data.batch_size=8",),
    "megan": ("--data.batch_size=16",),
}
DIALOGUES = ("methanol_esconv", "hdlm_esconv", "coct_sft")  # those that read ESConv
WIDE = "wide"  # the name of the Llama with random weights
SAID = re.compile(r"about ([\d.]+) GiB in training.*\((.*)\)$", re.MULTILINE)
GIB = 2**30


def wide_model(folder: Path) -> str:
    """Write a Llama of 6 blocks and width 1024 with the tokens of the packaged model."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from zoo.backbone import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve(BACKBONE), trust_remote_code=False)
    shape: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 2816}
    shape |= {
        "num_hidden_layers": 6,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": len(tokenizer),
    }
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def arguments(config: str, model: str) -> list[str]:
    """Return the settings of a run of three steps over eight records."""
    longer = os.environ.get("ZOO_DATA") if config in DIALOGUES else None
    return [
        f"--config={ROOT / 'configs' / config}.yaml",
        f"--model.backbone.name={model}",
        "--data.max_train=8",
        "--data.max_val=1",
        "--trainer.accelerator=cpu",
        "--trainer.max_steps=3",
        "--trainer.accumulate_grad_batches=1",
        "--trainer.limit_val_batches=0",
        "--trainer.logger=false",
        "--trainer.enable_checkpointing=false",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        *([f"--data.path={longer}/esconv"] if longer else []),
        *CONFIGS[config],
    ]


def said(config: str, model: str) -> tuple[float, str]:
    """Return what `check` says of a config in GiB, and how it knows."""
    from zoo.cli.main import main

    heard = io.StringIO()
    with contextlib.redirect_stdout(heard):
        main(["check", *arguments(config, model)])
    found = SAID.search(heard.getvalue())
    if found is None:
        raise ValueError(f"check says nothing of memory:\n{heard.getvalue()}")
    return float(found[1]), found[2]


def held(config: str, model: str) -> float:
    """Return how many GiB a run holds at most beyond what the process held before."""
    import datasets  # noqa: F401  what a run imports is not the step's
    import transformers

    from zoo.cli.main import main

    transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    meter = Meter("cpu")
    with tempfile.TemporaryDirectory() as folder:
        meter.reset()
        main(["fit", *arguments(config, model), f"--trainer.default_root_dir={folder}"])
    return (meter.peak() - meter.loaded) / GIB


def apart(function: Any, *given: Any) -> Any:
    """Return what a function returns in a fresh process."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(function, *given).result()


def run(config: str, backbone: str, models: dict[str, str]) -> trials.Entry:
    """Check and train one config on one backbone."""
    counted, how = apart(said, config, models[backbone])
    measured = apart(held, config, models[backbone])
    return {
        "config": config,
        "backbone": backbone,
        "said_gib": counted,
        "how": how,
        "held_gib": round(measured, 3),
        "ratio": round(counted / measured, 3),
    }


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return a line for each run."""
    numbers = ("said_gib", "held_gib", "ratio")
    rows = [
        [entry["config"], entry["backbone"], *(f"{entry[name]:.2f}" for name in numbers)]
        for entry in entries
    ]
    return trials.markdown(["config", "backbone", "check says, GiB", "held, GiB", "ratio"], rows)


def main() -> None:
    """Run what is missing and print the table."""
    parser = trials.make_parser(__doc__, rows=CONFIGS)
    parser.add_argument("--models", nargs="*", default=[], help="further model folders")
    given = parser.parse_args()
    finished = trials.FinishedRows(given.json, "config", "backbone")
    with tempfile.TemporaryDirectory() as folder:
        from zoo.backbone import resolve

        models = {BACKBONE: str(resolve(BACKBONE)), WIDE: wide_model(Path(folder))}
        models |= {Path(name).name: name for name in given.models}
        jobs = [(config, backbone) for backbone in models for config in given.rows]
        if not given.table:
            finished.run(jobs, lambda config, backbone: run(config, backbone, models))
    print("\n".join(table(finished.entries)))


if __name__ == "__main__":
    main()

"""Short runs of tiny methods, each made once and shared by the tests of a worker process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import yaml
from running import LORA, last, main, tiny

import datamodules

STEPS = 4  # a checkpoint is kept after every second
DATA = (
    *("--data.max_train", "8", "--data.max_val", "2", "--data.max_test", "2"),
    *("--data.batch_size", "2", "--data.eval_batch_size", "8"),
)
SCHEDULE = (
    *("--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", str(STEPS)),
    *("--trainer.check_val_every_n_epoch", "null", "--trainer.accumulate_grad_batches", "1"),
    *("--trainer.log_every_n_steps", "1"),
    *("--checkpoint.every_n_train_steps", "2", "--checkpoint.save_top_k", "-1"),
)
MIXED = (
    *("--config", LORA, "--model.backbone.gradient_checkpointing", "true"),
    *("--trainer.precision", "bf16-mixed", "--model.lambda_beta", "1e-6"),
    *("--model.optimizer.lr", "0.01"),
)
TRAINED: dict[str, tuple[str, ...]] = {
    "methanol": tiny("methanol"),
    "sft": tiny("sft"),
    "sft_thought": tiny("sft_thought"),
    "hdlm": tiny("hdlm"),
    "hdlm_two_calls": tiny("hdlm_two_calls"),
    "lamss": tiny("lamss"),
    "confident_sft": tiny("confident_sft"),
    "megan": tiny("megan"),
    "megan_mixed": (*tiny("megan"), *MIXED),
    "almr": tiny("almr"),
    "almr_sft": tiny("almr_sft"),
    "m3_jepa": tiny("m3_jepa"),
    "lahore": tiny("lahore"),
    "lahore_dpo": tiny("lahore_dpo"),
    "rabtriever": tiny("rabtriever"),
    "alpo": tiny("alpo"),
    "alpo_preference": tiny("alpo_preference"),
    "straq": tiny("straq"),
    "straq_lora": (*tiny("straq"), "--config", LORA),
    "straq_value_head": tiny("straq_value_head"),
    "straq_responder": tiny("straq_responder"),
    "fisminess": tiny("fisminess"),
    "coct_sft": tiny("coct_sft"),
    "dreamcub": tiny("dreamcub"),
    "esc_baselines_sft": tiny("esc_baselines_sft"),
    "sova_sft": tiny("sova_sft"),
    "mupas": tiny("mupas"),
    "mupas_silence": tiny("mupas_silence"),
}
"""Arguments of methods that are trained: one case of each class, and of what a class trains."""

PROMPTED = {name: tiny(name) for name in ("fisminess_agent", "coct", "esc_baselines", "sova")}
"""Arguments of methods that are only prompted."""


def once(make: Callable[[Runs, str], Any]) -> Callable[[Runs, str], Any]:
    """Keep what a method of `Runs` returned for a case."""

    @wraps(make)
    def kept(runs: Runs, case: str) -> Any:
        key = (make.__name__, case)
        if key not in runs.made:
            runs.made[key] = make(runs, case)
        return runs.made[key]

    return kept


class Runs:
    """What the verbs make of each case.

    Args:
        folder: Folder of all runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[tuple[str, str], Any] = {}

    @once
    def fit(self, case: str) -> Path:
        """Train four steps, validate after the last; return the run folder."""
        folder = self.folder / case
        root = ("--trainer.default_root_dir", str(folder))
        main("fit", *TRAINED[case], *DATA, *SCHEDULE, *root)
        return folder

    def given(self, case: str) -> tuple[str, ...]:
        """Return the arguments of a verb that comes after training, if there is any."""
        if case in PROMPTED:
            return (*PROMPTED[case], *DATA)
        folder = self.fit(case)
        return ("--config", str(folder / "config.yaml"), "--ckpt_path", str(last(folder)))

    @once
    def generate(self, case: str) -> str:
        """Return what `generate` prints for two records."""
        given = self.given(case)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            main("generate", *given, "--num_records", "2")
        return printed.getvalue()

    @once
    def predict(self, case: str) -> list[dict[str, Any]]:
        """Return the predictions for two test records."""
        folder = self.folder / f"{case}-predict"
        main("predict", *self.given(case), "--trainer.default_root_dir", str(folder))
        return [json.loads(x) for x in (folder / "predictions.jsonl").read_text().splitlines()]

    @once
    def export(self, case: str) -> Path:
        """Return the exported folder."""
        folder = self.folder / f"{case}-export"
        main("export", *self.given(case), "--output", str(folder))
        return folder

    def data(self, case: str) -> Any:
        """Return a data module like that of the run."""
        data = yaml.safe_load((self.fit(case) / "config.yaml").read_text())["data"]
        return getattr(datamodules, data["class_path"].rpartition(".")[2])(**data["init_args"])

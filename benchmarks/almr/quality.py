"""A small whole study: German captions added to a tiny Llama that has learned English texts.

1. pre-training from scratch on English, a small model and one with 4x its weights per block;
2. the grid: ratio of German tokens x learning rate, two seeds at the centre, controls at 0 and 1;
3. off the line: the predicted setting against 4x and 1/4 of its rate and the ratios beside it;
4. fine-tuning and preferences on top, with the losses before and after;
5. the larger model at r*: kappa eta / 2, kappa eta, 2 kappa eta, and the small model's eta.

Every fit goes on from its checkpoint when it was killed; what is done is not done again.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.almr.corpus import write_corpus, write_models
from benchmarks.trials import FinishedRows
from zoo.cli.study import Study
from zoo.cli.study_cells import cell_name, run_cell
from zoo.methods.almr.findings import Findings, Run, compare, noise_of, objective, transferred
from zoo.methods.almr.optimal_line import Point
from zoo.methods.almr.report import ALMRReport
from zoo.study import StudyResults

RATIO, LR, SEED = "data.shares.german", "model.optimizer.lr", "data.seed"
MEASURE = {"added": "val/german_loss", "original": "val/english_loss"}
KAPPA = 0.5
LENGTH, TOKENS = 128, 768  # of a block, and of a step


@dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
        pretrain: Steps of the small model on English.
        pretrain_large: Steps of the larger one.
        steps: Steps of a cell, 768 tokens each.
        sft: Steps of fine-tuning, and of preferences.
        ratios: r of the grid; the controls at 0 and 1 have the middle rate alone.
        lrs: eta of the grid.
        seeds: Of the centre, and of the larger model's settings.
        probe_seeds: Of every setting beside the line.
        pretrain_lr: Peak learning rate of the pre-training.
    """

    pretrain: int = 1200
    pretrain_large: int = 600
    steps: int = 120
    sft: int = 100
    ratios: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6, 0.8)
    lrs: tuple[float, ...] = (7.5e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2)
    seeds: tuple[int, ...] = (0, 1)
    probe_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    pretrain_lr: float = 3e-3


QUICK = Size(6, 6, 2, 2, (0.2, 0.5, 0.8), (1e-3, 4e-3, 1.6e-2), (0, 1), (0, 1))


class Trial:
    """The five parts, in a folder.

    Args:
        folder: Where everything is written.
        rows: The JSON of what is finished.
        size: How much is run.
        parallel: Fits at a time.
    """

    def __init__(self, folder: Path, rows: FinishedRows, size: Size, parallel: int = 1) -> None:
        self.folder, self.rows, self.size, self.parallel = folder, rows, size, parallel
        self.corpus = folder / "corpus"

    def run(self) -> None:
        """Run what is missing."""
        if not (self.corpus / "preferences.val.jsonl").is_file():
            write_corpus(self.corpus)
        if not (self.folder / "start" / "large").is_dir():
            write_models(self.corpus, self.folder / "start")
        small = self.pretrained("small")
        results = self.grid(small)
        found = self.report().findings(results)
        self.row("grid", ratio=found.optimum.ratio, lr=found.optimum.lr, noise=found.noise)
        probes = self.off_line(small, found)
        best = probes / "cells" / self.name(found.optimum.ratio, found.optimum.lr, 0)
        self.later_stages(best)
        self.larger(found)

    def row(self, name: str, **values: Any) -> None:
        """Keep a row, once."""
        if self.rows.missing([(name,)]):
            self.rows.add({"row": name, "probe": "", **values})

    # -- parts ---------------------------------------------------------------------------------

    def pretrained(self, name: str) -> Path:
        """Return the folder of a model that has learned English."""
        steps = self.size.pretrain if name == "small" else self.size.pretrain_large
        settings = self.settings(self.folder / "start" / name, steps) | {
            RATIO: 0.0,
            LR: self.size.pretrain_lr,
            "model.optimizer.schedule": "cosine",
        }
        run = self.folder / "pretrain" / name
        cell = run_cell(run, ["configs/almr.yaml"], {}, settings, MEASURE)
        self.row(f"pre-training, {name}", **cell.measures)
        return self.exported(run)

    def grid(self, base: Path) -> StudyResults:
        """Run the study; its report is written beside it."""
        size = self.size
        centre = (size.ratios[len(size.ratios) // 2], size.lrs[len(size.lrs) // 2])
        extra = [{RATIO: centre[0], LR: centre[1], SEED: seed} for seed in size.seeds[1:]]
        extra += [{RATIO: r, LR: centre[1], SEED: size.seeds[0]} for r in (0.0, 1.0)]  # controls
        vary = {RATIO: list(size.ratios), LR: list(size.lrs), SEED: [size.seeds[0]]}
        study = self.study("study", base, vary, extra, report=self.report())
        study.run()
        return StudyResults.load(study.folder / "results.json")

    def off_line(self, base: Path, found: Findings) -> Path:
        """Try the prediction against settings beside it; return the folder of these fits."""
        r, eta = found.optimum.ratio, found.optimum.lr
        inside = [fit.ratio for fit in found.optimum.parabolas]
        place = inside.index(r)
        beside = [inside[i] for i in (place - 1, place + 1) if 0 <= i < len(inside)]
        settings = {"predicted": (r, eta), "eta x 4": (r, 4 * eta), "eta / 4": (r, eta / 4)}
        settings |= {f"ratio {b:g}": (b, found.optimum.line.lr(b)) for b in beside}
        seeds = self.size.probe_seeds
        results = self.probes("probes", base, list(settings.values()), seeds)
        values = {name: self.values(results, *pair) for name, pair in settings.items()}
        for name, objectives in values.items():
            for seed, value in zip(seeds, objectives, strict=True):
                about = {"probe": name, "seed": seed, "objective": value}
                self.row(f"{name}, seed {seed}", **about)
        noise = noise_of([Point(*settings[n], v) for n, vs in values.items() for v in vs]) or 0.0
        for probe in compare(values.pop("predicted"), values, noise):
            row = {"difference": probe.difference, "noise": probe.noise, "worse": probe.worse}
            self.row(f"off the line: {probe.name}", **row)
        return self.folder / "probes"

    def larger(self, found: Findings) -> None:
        """Try r* with lower rates on the larger model, and with the small model's."""
        r, eta = found.optimum.ratio, found.optimum.lr
        base = self.pretrained("large")
        settings = {name: (r, lr) for name, lr in transferred(eta, KAPPA).items()}
        results = self.probes("larger", base, list(settings.values()), self.size.seeds)
        for name, pair in settings.items():
            label = f"{name}{' = the eta of the small model' * (pair[1] == eta)}"
            self.row(f"larger: {label}", objective=float(np.mean(self.values(results, *pair))))

    def later_stages(self, best: Path) -> None:
        """Fine-tune, then learn preferences; measure the losses before and after."""
        model = self.exported(best)
        self.losses("after texts", model)
        run = self.folder / "sft"
        fixed = self.stage_settings("answers", model) | {LR: 1e-3, "model.max_answer_tokens": 8}
        run_cell(run, ["configs/almr_sft.yaml"], {}, fixed, {"answers": "val/answer_loss"})
        model = self.exported(run)
        self.losses("after fine-tuning", model)
        run = self.folder / "dpo"
        fixed = self.stage_settings("preferences", model) | {LR: 1e-4}
        measure = {"preference": "val/preference_loss"}
        cell = run_cell(run, ["configs/almr_dpo.yaml"], {}, fixed, measure)
        self.row("preferences: held-out loss, ln 2 before", **cell.measures)
        self.losses("after preferences", self.exported(run))

    # -- settings and measures -----------------------------------------------------------------

    def settings(self, model: Path, steps: int) -> dict[str, Any]:
        """Return what all fits on texts have in common."""
        sources = {name: str(self.corpus / name) for name in ("english", "german")}
        return {
            "model.backbone.name": str(model),
            "model.max_length": LENGTH,
            "model.max_generated": 2,
            "model.max_answer_tokens": 8,
            "model.optimizer.schedule": "constant",
            "data.sources": sources,
            "data.held_out": 150,
            "data.shuffle": 1,  # texts in the order of the files, as in the committed grid
            "data.num_tokens": TOKENS * max(steps, 2),
            "data.batch_size": TOKENS // LENGTH,
            "data.eval_batch_size": 64,
            "trainer.max_steps": steps,
            "trainer.accelerator": "auto",
            "trainer.precision": "32-true",
            "trainer.enable_progress_bar": False,
            "trainer.val_check_interval": max(1, steps // 4),
            "checkpoint.every_n_train_steps": max(1, steps // 8),
        }

    def stage_settings(self, data: str, model: Path) -> dict[str, Any]:
        """Return the settings of a later stage."""
        steps = self.size.sft
        return {
            "model.backbone.name": str(model),
            "model.max_generated": 2,
            "data": "datamodules.Triples" if data == "answers" else "datamodules.Preferences",
            "data.train": str(self.corpus / f"{data}.train.jsonl"),
            "data.val": str(self.corpus / f"{data}.val.jsonl"),
            "data.batch_size": 16,
            "trainer.max_steps": steps,
            "trainer.precision": "32-true",
            "trainer.enable_progress_bar": False,
            "trainer.val_check_interval": max(1, steps // 2),
            "checkpoint.every_n_train_steps": max(1, steps // 2),
        }

    def report(self) -> ALMRReport:
        """Return what is fitted, declared before any run."""
        return ALMRReport(RATIO, kappa=KAPPA, tokens_per_step=TOKENS, constant_lr=True)

    def study(
        self, name: str, base: Path, vary: dict[str, Any], extra: list[Any], **more: Any
    ) -> Study:
        """Return a study of the trial."""
        return Study(
            ["configs/almr.yaml"],
            vary,
            MEASURE,
            str(self.folder / name),
            fixed=self.settings(base, self.size.steps),
            extra=extra,
            base=True,
            parallel=self.parallel,
            **more,
        )

    def probes(
        self, name: str, base: Path, pairs: list[tuple[float, float]], seeds: tuple[int, ...]
    ) -> StudyResults:
        """Run settings, each with every seed."""
        cells = [{RATIO: r, LR: lr, SEED: s} for r, lr in pairs for s in seeds]
        vary = {key: [value] for key, value in cells[0].items()}
        study = self.study(name, base, vary, cells[1:])
        study.run()
        return StudyResults.load(study.folder / "results.json")

    def name(self, ratio: float, lr: float, seed: int) -> str:
        """Return the name of a cell."""
        return cell_name({RATIO: ratio, LR: lr, SEED: seed})

    def values(self, results: StudyResults, ratio: float, lr: float) -> list[float]:
        """Return J of each seed at a setting, in the order of the seeds."""
        base = Run(0.0, 0.0, results.base["added"], results.base["original"], {})
        found = [c for c in results.cells if (c.settings[RATIO], c.settings[LR]) == (ratio, lr)]
        found.sort(key=lambda cell: int(cell.settings[SEED]))
        runs = [Run(ratio, lr, c.measures["added"], c.measures["original"], {}) for c in found]
        return [objective(run, base, 0.5) for run in runs]

    def losses(self, name: str, model: Path) -> None:
        """Keep the losses of a model: both texts, and the answers to held-out questions."""
        folder = self.folder / "losses" / name.replace(" ", "_")
        texts, answers = Path(f"{folder}_texts"), Path(f"{folder}_answers")
        fixed = self.settings(model, 2)
        cell = run_cell(texts, ["configs/almr.yaml"], {}, fixed, MEASURE, "validate")
        fixed = self.stage_settings("answers", model)
        measure = {"answers": "val/answer_loss"}
        asked = run_cell(answers, ["configs/almr_sft.yaml"], {}, fixed, measure, "validate")
        self.row(name, **cell.measures, **asked.measures)

    def exported(self, run: Path) -> Path:
        """Return a finished run as a folder that a backbone is loaded from."""
        out = run.with_name(f"{run.name}-model")
        if not out.is_dir():
            given = ["--config", str(run / "config.yaml"), "--output", str(out)]
            given += ["--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
            subprocess.run([sys.executable, "-m", "zoo", "export", *given], check=True)
        return out

"""Command line: fit validate test predict, check generate export, list.

    python -m zoo fit --config configs/methanol.yaml
    python -m zoo fit --config configs/methanol.yaml --config configs/overlays/lora.yaml
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

import zoo
from zoo.callbacks import Samples, Throughput
from zoo.errors import InputError, nearest
from zoo.module import ZooModule
from zoo.trainer import ZooTrainer

EXAMPLE = "python -m zoo fit --config configs/methanol.yaml"
RUN_DIR = "ZOO_RUN_DIR"  # set by the first process, so that the others write beside it


class Parser(LightningArgumentParser):
    """Parser whose complaint about an unknown key names the nearest one that exists."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Exit with status 2 and one line."""
        print(f"error: {one_line(message, self)}", file=sys.stderr)
        sys.exit(2)


class ZooCLI(LightningCLI):
    """LightningCLI with the zoo's verbs, run folder and default callbacks."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return the strict parser."""
        kwargs.setdefault("dump_header", [f"zoo {zoo.__name__}"])
        kwargs.pop("dump_header")
        parser = Parser(**kwargs)
        parser.add_argument(
            "-c", "--config", action="config", help="A YAML file; later ones override earlier ones."
        )
        return parser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs and the arguments of each that a config already gives."""
        given = {"model", "datamodule"}
        return {
            **LightningCLI.subcommands(),
            "check": given,
            "generate": given,
            "export": given,
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the `checkpoint` section."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.every_n_train_steps": 100,
                "checkpoint.save_last": True,
                "checkpoint.save_top_k": 1,
                "checkpoint.monitor": "step",
                "checkpoint.mode": "max",
                "checkpoint.filename": "step-{step}",
                "checkpoint.auto_insert_metric_name": False,
            }
        )

    def before_instantiate_classes(self) -> None:
        """Choose the run folder."""
        config = self.config[self.subcommand]
        if config.trainer.default_root_dir is None:
            name = config.model.class_path.rpartition(".")[2].lower()
            stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
            config.trainer.default_root_dir = os.environ.setdefault(
                RUN_DIR, str(Path("runs") / name / stamp)
            )

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Any:
        root = config["default_root_dir"]
        if config.get("logger") in (None, True):
            config["logger"] = TensorBoardLogger(root, name="", version="")
        extra = [Samples(), Throughput()]
        if config["logger"] is not False:
            extra.append(LearningRateMonitor())
        return super()._instantiate_trainer(config, [*callbacks, *extra])

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand in ("fit", "validate", "test", "predict"):
            self.model.validate()
            self.datamodule.prepare(subcommand, self.model.encoder())
        super()._run_subcommand(subcommand)

    def after_fit(self) -> None:
        """Say where everything is and what to do next."""
        if not self.trainer.is_global_zero:
            return
        root, config = self.trainer.default_root_dir, "--config " + str(
            Path(self.trainer.default_root_dir) / "config.yaml"
        )
        last = self.trainer.checkpoint_callback.last_model_path if self.trainer.checkpoint_callback else ""
        print(f"run folder  {root}\ntensorboard tensorboard --logdir {root}")
        if last:
            print(f"checkpoint  {last}")
            print(f"generate    python -m zoo generate {config} --ckpt_path {last}")
            print(f"export      python -m zoo export {config} --ckpt_path {last} --output FOLDER")


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Arguments; None for those of the process.
    """
    args = sys.argv[1:] if args is None else args
    if args[:1] == ["list"]:
        print("\n".join(listing()))
        return
    verbs = [*ZooCLI.subcommands(), "list"]
    if not args or (not args[0].startswith("-") and args[0] not in verbs):
        hint = nearest(args[0], verbs) if args else f"one of: {', '.join(verbs)}"
        print(f"error: name a command, {hint}\nexample: {EXAMPLE}", file=sys.stderr)
        sys.exit(2)
    quiet()
    try:
        ZooCLI(
            ZooModule,
            LightningDataModule,
            trainer_class=ZooTrainer,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveConfigCallback,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            args=args,
        )
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def quiet() -> None:
    """Silence warnings that say nothing to a user of the zoo."""
    for pattern in (
        ".*does not have many workers.*",
        ".*args parameter is intended to run.*",
        ".*LeafSpec.*is deprecated.*",
        ".*tensorboardX.*",
    ):
        warnings.filterwarnings("ignore", message=pattern)


def listing() -> list[str]:
    """Return the lines of `python -m zoo list`: methods, data modules, configs."""
    data = importlib.import_module("datamodules")
    methods = {
        name: getattr(zoo, name)
        for name, home in zoo._HOME.items()
        if home.startswith("zoo.methods.")
    }
    modules = {name: getattr(data, name) for name in data.__all__ if name != "ZooDataModule"}
    lines = ["methods"]
    for name, cls in methods.items():
        doc = (cls.__doc__ or "").strip().splitlines()[0]
        takes = {kind.__name__ for kind in cls.takes}
        fit = [n for n, m in modules.items() if takes & {k.__name__ for k in m.record_types}]
        lines.append(f"  zoo.{name:<12} {doc}")
        lines.append(f"    takes {', '.join(sorted(takes))}; data: {', '.join(fit)}")
    lines.append("data modules")
    for name, cls in modules.items():
        doc = (cls.__doc__ or "").strip().splitlines()[0]
        yields = ", ".join(kind.__name__ for kind in cls.record_types)
        lines.append(f"  datamodules.{name:<12} {yields:<9} {doc}")
    lines.append("configs")
    lines += [f"  {path}" for path in sorted(Path("configs").rglob("*.yaml"))]
    return lines


def one_line(message: str, parser: LightningArgumentParser) -> str:
    """Return a parser's message in one line, with the nearest valid key if a key is unknown."""
    text = re.sub(r"\s+", " ", message).strip()
    return text

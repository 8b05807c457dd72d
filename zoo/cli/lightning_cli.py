"""LightningCLI as the zoo has it: its verbs, run folder, default callbacks and one-line errors."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from jsonargparse import Namespace
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from zoo import precision
from zoo.callbacks import (
    Figures,
    Hyperparameters,
    MonitoredNames,
    RunLogger,
    Samples,
    Throughput,
)
from zoo.cli.argument_errors import check_classes, check_trained, explain
from zoo.cli.config_files import lost, read
from zoo.cli.listing import changes, choices
from zoo.cli.parser import ComplaintError, Parser
from zoo.cli.run_folder import check_folder, new_folder, next_steps
from zoo.cli.whole_files import WholeFiles
from zoo.errors import InputError
from zoo.weights import check_source

HIDDEN = ("help", "print_config")  # options that are no keys
SHARDING = ("ModelParallelStrategy", "FSDP2")  # classes of strategies that shard checkpoints


class ZooCLI(LightningCLI):
    """LightningCLI with the zoo's verbs, run folder, default callbacks and one-line errors.

    Args:
        args: The verb and its arguments.
        given: All else that `LightningCLI` takes.
    """

    def __init__(self, args: list[str], **given: Any) -> None:
        self.verb = args[0]
        super().__init__(args=args, **given)

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        """Return the parser of a verb; one that is not asked for has a name and no arguments."""
        if subcommand == self.verb:
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        return Parser(**kwargs)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return the strict parser: no abbreviations, no unknown keys."""
        parser = Parser(allow_abbrev=False, **kwargs)
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
            "chat": given,
            "export": given,
            "index": given,
            "search": given,
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

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; a complaint names file, line and key, and the nearest valid one."""
        given = list(read(args[1:]))
        check_classes(given)
        for line in lost(args[1:]):
            print(f"note: {line}", file=sys.stderr)
        try:
            super().parse_arguments(parser, args)
        except ComplaintError as complaint:
            actions = self._subcommand_parsers[args[0]]._actions
            dests = [a.dest for a in actions if a.dest.split(".")[-1] not in HIDDEN]
            raise InputError(explain(str(complaint), given, dests, choices())) from complaint

    def _parse_ckpt_path(self) -> None:
        """Prefer a checkpoint's settings to the given ones, as Lightning does; print which."""
        config = self.config[self.config.subcommand]
        ckpt = config.get("ckpt_path")
        verb = self.config.subcommand
        for source in (ckpt, config.get("init_from")):
            if not source or source in ("last", "best", "hpc"):
                continue
            if source == ckpt and verb in LightningCLI.subcommands():
                resume, strategy = verb == "fit", config.trainer.get("strategy")
                shards = str(getattr(strategy, "class_path", "")).endswith(SHARDING)
                check_source(Path(source), resume=resume, sharded=shards)
            else:
                check_source(Path(source), resume=False, sharded=True)
        before = config.model.get("init_args", Namespace())
        try:
            super()._parse_ckpt_path()
        except ComplaintError as complaint:
            raise InputError(f"{ckpt}: made by another method: {complaint}") from complaint
        changed = changes(
            before, self.config[self.config.subcommand].model.get("init_args", Namespace())
        )
        if changed:
            note = f"note: {ckpt} has other settings, which are used: {', '.join(changed)}"
            print(note, file=sys.stderr)

    def _set_seed(self) -> None:
        """Seed without a message."""
        config = self.config[self.subcommand]
        if config.seed_everything is not False:
            seed = None if config.seed_everything is True else config.seed_everything
            config.seed_everything = seed_everything(seed, workers=True, verbose=False)

    def before_instantiate_classes(self) -> None:
        """Choose the run folder, and the precision where none is given."""
        transformers.utils.logging.disable_progress_bar()
        config = self.config[self.subcommand]
        if config.trainer.default_root_dir is None:
            config.trainer.default_root_dir = new_folder(config.model.class_path)
        root = Path(config.trainer.default_root_dir)
        check_folder(self.subcommand, root, config.get("ckpt_path"))
        if self.subcommand in ("check", "generate", "chat", "export", "index", "search"):
            if self.subcommand == "check":  # as `fit` would; before the processor is settled
                self._choose_precision(config.trainer)
            # one process, whatever trained it
            config.trainer.update(Namespace(devices=1, num_nodes=1, strategy="auto"))
            if self.subcommand in ("check", "export"):
                config.trainer.accelerator = "cpu"
            logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        else:
            self._choose_precision(config.trainer)

    def _choose_precision(self, config: Namespace) -> None:
        """Choose what the processor is fast in where no precision is given; say which and why."""
        if config.precision is not None or config.plugins:
            return
        found = config.accelerator
        if found in ("auto", "gpu"):
            found = "cuda" if torch.cuda.is_available() else "cpu" if found == "auto" else found
        config.precision, reason = precision.best(found)
        say(f"precision   {config.precision}: {reason}")

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Read and encode all data that the verb needs first: bad input shows before any output."""
        if not hasattr(self.datamodule, "prepare"):
            raise InputError(
                f"data: {type(self.datamodule).__name__} is a plain LightningDataModule, which has "
                f"no records; make it a subclass of datamodules.ZooDataModule with load(split)"
            )
        self.datamodule.check_path()
        self.model.validate()
        check_trained(self.subcommand, self.model)
        self._weights_of_folder()
        if self.subcommand in ("fit", "validate", "test", "predict"):
            self.model.check_data(self.datamodule)
            self.datamodule.prepare(self.subcommand, self.model.encoder())
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise InputError(f"trainer: {error}") from error
        precision.check(trainer, self.model, trains=self.subcommand == "fit")
        if self.subcommand == "fit":
            changed = trainer.fit_interval(self.datamodule)  # type: ignore[attr-defined]
            if changed:
                say(changed)
        return trainer

    def _weights_of_folder(self) -> None:
        """Let `test` and its like take weights from a folder: an export, or a sharded run's."""
        given = self.config_init[self.subcommand]
        path = given.get("ckpt_path")
        if self.subcommand in ("validate", "test", "predict") and path and Path(path).is_dir():
            self.model.init_from, given["ckpt_path"] = path, None

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Any:
        root = config["default_root_dir"]
        if config.get("logger") in (None, True):
            config["logger"] = RunLogger(root)
        if config.get("strategy") in ("auto", "ddp"):  # the others have ways of their own
            given = config.get("plugins") or []
            config["plugins"] = [*(given if isinstance(given, list) else [given]), WholeFiles()]
        extra = [Samples(), Figures(), Hyperparameters(), Throughput()]
        if config["logger"] is not False:
            extra.append(LearningRateMonitor())
        if config.get("enable_checkpointing") is False or config.get("fast_dev_run"):
            # the one of the `checkpoint` section
            callbacks = [c for c in callbacks if not isinstance(c, ModelCheckpoint)]
        trainer = super()._instantiate_trainer(config, [*callbacks, *extra])
        own = [MonitoredNames(), *trainer.callbacks]  # type: ignore[attr-defined]
        trainer.callbacks = own  # type: ignore[attr-defined]  # first: the others miss a name
        return trainer

    def after_fit(self) -> None:
        """Say where everything is and what to do next."""
        say("\n".join(next_steps(self.trainer)))

    def after_predict(self) -> None:
        """Keep the replies."""
        self.trainer.save_predictions()  # type: ignore[attr-defined]


@rank_zero_only
def say(text: str) -> None:
    """Print, in the first process only."""
    print(text)

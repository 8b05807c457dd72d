"""Command line: fit validate test predict check generate chat export index search study graph list.

python -m zoo fit --config configs/methanol.yaml
python -m zoo fit --config configs/methanol.yaml --config configs/overlays/lora.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

from lightning.pytorch import LightningDataModule

from zoo.cli.config_files import found, hint
from zoo.cli.lightning_cli import ZooCLI
from zoo.cli.listing import copy_configs, data_modules, listing
from zoo.cli.parser import cause
from zoo.cli.quiet import quiet
from zoo.cli.run_folder import SaveConfig
from zoo.cli.trainer import ZooTrainer
from zoo.errors import InputError
from zoo.module import ZooModule

EXAMPLE = "python -m zoo fit --config configs/methanol.yaml"
OTHERS = {
    "list": "methods, data modules and configs",
    "configs copy": "write all configs where you can change them",
    "study": "a grid of fits: shared, resumable, reported",
    "graph": "SoVA's graph of values: build, show, query",
}
"""Verbs that read no config."""
HELP = {
    "prog": "python -m zoo",
    "description": "Train, test and use the methods of the zoo.",
    "epilog": "Further commands: " + "; ".join(f"{n} ({what})" for n, what in OTHERS.items()),
}


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Arguments; None for those of the process.
    """
    args = sys.argv[1:] if args is None else args
    try:
        run(args)
    except ValueError as error:
        input_error = cause(error)
        if input_error is None:
            raise
        message = str(input_error).rpartition(f"{InputError.__name__}: ")[2]  # no worker's trace
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)


def run(args: list[str]) -> None:
    """Run a verb.

    Raises:
        InputError: Something that the user gave is wrong.
    """
    data_modules()  # first: no verb works where another package has their name
    if args[:1] in (["list"], ["configs"]):
        print("\n".join(_list_or_copy(args)))
        return
    if args[:1] in (["study"], ["graph"]):
        from zoo.cli import graph, study  # their libraries are not imported for the other verbs

        quiet()
        verb = study.run_study if args[0] == "study" else graph.run_graph
        print("\n".join(verb(args[1:])))
        return
    verbs = [*ZooCLI.subcommands(), *OTHERS]
    if not args or (args[0] not in verbs and args[0] not in ("-h", "--help")):
        if not args:
            raise InputError(f"no command; one of: {', '.join(sorted(verbs))}; example: {EXAMPLE}")
        if args[0].startswith("-"):
            raise InputError(f"no command before {args[0]}: it comes first; example: {EXAMPLE}")
        raise InputError(f"no command {args[0]!r}; {hint(args[0], verbs)}; example: {EXAMPLE}")
    quiet()
    args = found(args)
    ZooCLI(
        args,
        model_class=ZooModule,
        datamodule_class=LightningDataModule,
        trainer_class=ZooTrainer,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveConfig,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        parser_kwargs=HELP,
    )


def _list_or_copy(args: list[str]) -> list[str]:
    """Return what `list` or `configs copy FOLDER` prints.

    Raises:
        InputError: Other arguments.
    """
    if {"-h", "--help"} & {*args}:
        verb, folder = ("list", "") if args[0] == "list" else ("configs copy", " [FOLDER]")
        return [f"usage: python -m zoo {verb}{folder}", OTHERS[verb]]
    if args == ["list"]:
        return listing()
    if args[:2] == ["configs", "copy"] and len(args) <= 3:
        return [copy_configs(Path(*args[2:] or ["configs"]))]
    usage = "list takes no arguments" if args[0] == "list" else "write `configs copy FOLDER`"
    raise InputError(f"{' '.join(args)}: {usage}")

"""The command line's parser: its messages become one line, not a usage text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from zoo.cli.argument_errors import origin
from zoo.errors import InputError

NONE = re.compile(r"(?<=[\w])=None$")


class ComplaintError(Exception):
    """A parser's own message about wrong arguments; `explain` turns it into one line."""


class Parser(LightningArgumentParser):
    """Parser that raises instead of printing its usage."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise `ComplaintError`; parsers of nested classes report to the parser above them."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise ComplaintError(message)

    def parse_args(self, args: Sequence[str] | None = None, **options: Any) -> Any:  # type: ignore[override]
        """Parse; `None` is null: so jsonargparse hands `--model.backbone.lora null` on."""
        given = None if args is None else [NONE.sub("=null", word) for word in args]
        return super().parse_args(given, **options)

    def instantiate_classes(self, *args: Any, **options: Any) -> Any:
        """Make the objects; a constructor that fails is one line with the place of the mistake."""
        try:
            return super().instantiate_classes(*args, **options)
        except Exception as error:
            if cause(error) is not None:
                raise
            raise InputError(origin(error)) from error


def cause(error: BaseException | None) -> InputError | None:
    """Return the user's error among an error and its causes; the parser wraps a constructor's."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error

"""Messages of libraries that a user of the zoo need not read."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """Silence messages that say nothing to a user of the zoo."""
    for pattern in (
        ".*does not have many workers.*",
        ".*args parameter is intended to run.*",
        ".*LeafSpec.*is deprecated.*",
        ".*tensorboardX.*",
        ".*exists and is not empty.*",
        ".*is not supported by the model summary.*",
        ".*in eval mode at the start of training.*",  # frozen encoders are
    ):
        warnings.filterwarnings("ignore", message=pattern)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "litlogger" not in record.getMessage())

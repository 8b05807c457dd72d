"""The one exception type for bad input, and the hint it carries."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A user's file, key or value is wrong; the message says which one and what would fit.

    The command line prints it as one line and exits with status 2; in Python it is a `ValueError`.
    """


def nearest(name: str, options: Iterable[str]) -> str:
    """Return a hint such as `did you mean 'esconv'? (one of: bigtom, esconv)`.

    Args:
        name: What the user wrote.
        options: The names that would have been valid.
    """
    options = sorted(set(options))
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    listed = f"one of: {', '.join(options)}"
    return f"did you mean {close[0]!r}? ({listed})" if close else listed

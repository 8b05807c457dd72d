"""Texts told by their first letter and number, and tokens a letter each."""

from __future__ import annotations

from pathlib import Path

LENGTH = 16
END = 0


def ids(text: str) -> list[int]:
    """Return a token a letter, and an end."""
    return [*map(ord, text), END]


def text_file(path: Path, letter: str, count: int, size: int = 11) -> str:
    """Write texts that are told by their first letter and number."""
    path.write_text("".join(f"{letter}{i:05}" + letter * (i % size) + "\n" for i in range(count)))
    return str(path)

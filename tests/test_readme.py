"""The README: its Python runs, its paths exist, and CI runs its two commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", PYTHON, ids=[f"block-{i}" for i in range(len(PYTHON))])
def test_python_blocks_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_every_path_exists() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    named = re.findall(r"--config (configs/\S+)", README)
    missing = [path for path in linked + named if not (ROOT / path).exists()]
    assert linked
    assert named
    assert not missing


def test_every_verb_exists() -> None:
    from zoo.cli.main import ZooCLI

    verbs = set(re.findall(r"python -m zoo (\w+)", README))
    assert {"fit", "check", "generate", "export", "list"} <= verbs
    assert verbs <= {*ZooCLI.subcommands(), "study", "graph", "list", "configs"}


def test_commands_of_methods_are_named() -> None:
    """Those with a command of their own, and what `generate` does with a file."""
    methods = [path.parent.name for path in (ROOT / "zoo/methods").glob("*/__main__.py")]
    assert methods
    assert all(f"python -m zoo.methods.{name}" in README for name in methods)
    assert re.search(r"python -m zoo generate .* --input \S+\.srt --output \S+\.srt", README)


def test_ci_runs_the_two_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    one, two = re.findall(r"```bash\npython3 -m venv (.*?)\n```", README, re.DOTALL)
    for part in one.split(" && ")[2:]:
        assert part in script, f"command 1: {part}"
    for part in two.split(" && ")[2:]:
        assert part in script, f"command 2: {part}"

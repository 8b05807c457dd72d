"""The README: its Python runs, its paths exist, and CI runs its two commands."""

from __future__ import annotations

import re
import shlex
import shutil
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
    from zoo.cli.lightning_cli import ZooCLI

    verbs = set(re.findall(r"python -m zoo (\w+)", README))
    assert {"fit", "check", "generate", "export", "list"} <= verbs
    assert verbs <= {*ZooCLI.subcommands(), "study", "graph", "list", "configs"}


def test_commands_of_methods_are_named() -> None:
    """Those with a command of their own, and what `generate` does with a file."""
    methods = [path.parent.name for path in (ROOT / "zoo/methods").glob("*/__main__.py")]
    assert methods
    assert all(f"python -m zoo.methods.{name}" in README for name in methods)
    assert re.search(r"python -m zoo generate .* --input \S+\.srt --output \S+\.srt", README)


def test_the_graph_of_values_is_built_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worked example, as it stands there, on the samples and a tiny backbone."""
    from zoo.cli.main import main

    (block,) = re.findall(r"```bash\n(python -m zoo graph build .*?)```", README, re.DOTALL)
    folder = tmp_path / "daily_dilemmas"
    folder.mkdir()
    samples = ROOT / "datamodules" / "samples"
    shutil.copy(samples / "daily_dilemmas_values.csv", folder / "values.csv")
    shutil.copy(samples / "daily_dilemmas.csv", folder / "dilemmas_with_detail_by_action.csv")
    principle = "principle,source\nPut honesty above comfort.,somebody\n"
    (folder / "principle_claude.csv").write_text(principle, encoding="utf-8")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    tiny = {
        "query": ["--backbone", "tiny-llama"],
        "test": ["--config", str(ROOT / "tests/methods/sova/tiny.yaml")],
    }
    seen = []
    for line in block.splitlines():
        words = shlex.split(line.replace("$ZOO_DATA", str(tmp_path)))[3:]
        seen.append(words[1] if words[0] == "graph" else words[0])
        at = words.index("--config") + 2 if "--config" in words else len(words)
        main([*words[:at], *tiny.get(seen[-1], []), *words[at:]])
    assert seen == ["build", "show", "query", "test"]
    assert "from maslow-" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "values.html").read_text(encoding="utf-8")


def test_ci_runs_the_two_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    one, two = re.findall(r"```bash\npython3 -m venv (.*?)\n```", README, re.DOTALL)
    for part in one.split(" && ")[2:]:
        assert part in script, f"command 1: {part}"
    for part in two.split(" && ")[2:]:
        assert part in script, f"command 2: {part}"

"""Defaults: those of the papers where they are known, and one for each setting of a method."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import pytest
import yaml
from running import CONFIGS, ROOT

import zoo

PAPERS = sorted(path.stem for path in (CONFIGS / "paper").glob("*.yaml"))
FOLDERS = sorted(
    path for path in (ROOT / "zoo" / "methods").iterdir() if (path / "__init__.py").is_file()
)
SMALLER = {"max_length", "max_new_tokens", "max_answer_tokens", "document_tokens", "max_generated"}
"""Sizes: what a paper's 8B model on a large card has, a first run need not have."""
CHOSEN = {
    **{"alpo": {"mixing_stages"}, "hdlm": {"layers", "weights"}, "methanol": {"thinking_layer"}},
    **{"m3_jepa": {"mask_padding"}, "megan": {"official_condition_len", "condition_mask"}},
    **{"lahore": {"labels"}, "lahore_dpo": {"labels", "objective"}, "rabtriever": {"labels"}},
    **{"dreamcub": {"factors", "temperature"}, "sova": {"map_by"}},
}
"""Settings of an overlay that are no defaults: of the backbone's depth, the data, the release, or
of a large model (SoVA's reports: small ones copy the score that they have just read)."""
OF_THEIR_OWN = {
    **{
        "almr": {"draws"},
        "dreamcub": {"strategy_line", "reserve", "reward"},
        "sova": {"max_length"},
    },
    "m3_jepa": {"dropout", "alpha"},
    "alpo": {"kind", "retries", "temperature", "max_length", "max_new_tokens", "beta", "objective"},
}
"""Names that mean several things in a folder."""


@pytest.mark.parametrize("paper", PAPERS)
def test_a_method_has_the_papers_settings(paper: str) -> None:
    """Where its overlay names one: in Python it is the paper's method without a word more."""
    base, overlay = (
        yaml.safe_load((CONFIGS / folder / f"{paper}.yaml").read_text("utf-8"))["model"]
        for folder in ("", "paper")
    )
    taken = signature(getattr(zoo, base["class_path"].rpartition(".")[2])).parameters
    given = {k: v for k, v in overlay.get("init_args", {}).items() if not isinstance(v, dict)}
    different = {name for name, value in given.items() if taken[name].default != value}
    assert different - SMALLER == CHOSEN.get(paper, set())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_setting_has_one_default_in_a_method(folder: Path) -> None:
    """Its module, encoder and metrics agree, whichever of them a reader takes alone."""
    found: dict[str, set[object]] = defaultdict(set)
    for file in folder.glob("*.py"):
        for name, value in defaults(ast.parse(file.read_text("utf-8"))):
            found[name].add(value)
    several = {name for name, values in found.items() if len(values) > 1}
    assert several == OF_THEIR_OWN.get(folder.name, set())


def defaults(tree: ast.Module) -> Iterator[tuple[str, object]]:
    """Yield names and defaults of arguments and of fields: numbers, truth values and texts."""
    pairs: list[tuple[str, ast.expr | None]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            args, named = node.args.args, node.args.kwonlyargs
            given = [*zip(args[::-1], node.args.defaults[::-1], strict=False)]
            pairs += [(arg.arg, value) for arg, value in given]
            given_by_name = zip(named, node.args.kw_defaults, strict=True)
            pairs += [(arg.arg, value) for arg, value in given_by_name]
        elif isinstance(node, ast.ClassDef):
            fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
            pairs += [(ast.unparse(line.target), line.value) for line in fields]
    for name, value in pairs:
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
            value = next((k.value for k in value.keywords if k.arg == "default"), None)
        if isinstance(value, ast.Constant) and value.value not in (None, ""):
            yield name, value.value

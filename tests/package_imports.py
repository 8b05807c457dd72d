"""Which files a package has, and what each of them imports, inside functions too."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Return every module that a file imports, inside functions too, type checking left out."""
    found = []
    skipped: set[ast.AST] = set()
    tree = parsed(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            skipped.update(child for part in node.body for child in ast.walk(part))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            found.append((module, node.lineno))
            found += [(f"{module}.{alias.name}", node.lineno) for alias in node.names]
    return found


@cache
def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT / "zoo").parts[0].removesuffix(".py")


def names(path: Path, package: str) -> list[tuple[str, str]]:
    """Return the imports of a package as (dotted name, place)."""
    return [
        (name, f"{path.relative_to(ROOT)}:{line}")
        for name, line in imports(path)
        if name == package or name.startswith(f"{package}.")
    ]


@cache
def uses(path: Path) -> set[Path]:
    """Return the files of `zoo` that a file imports."""
    found = set()
    for name, _ in names(path, "zoo"):
        place = ROOT.joinpath(*name.split("."))
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file() and file != ROOT / "zoo/__init__.py":
                found.add(file)
    return found

"""Dependencies point one way: a walk over every import statement of the two packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = {"errors", "records"}
TOP = {"export", "inspect", "complaints", "callbacks", "trainer", "cli"}
LOW = {"encoding", "kernels", *BASE}
# room of zoo -> rooms it may import; a room that is not here has no place yet
ALLOWED = {
    "errors": set(),
    "records": {"errors"},
    "labels": set(BASE),
    "kernels": set(),
    "complaints": set(BASE),
    "encoding": {"kernels", *BASE},
    "metrics": {"labels", *BASE},
    "graph": set(BASE),
    "nn": LOW,
    "losses": LOW,
    "prompts": {"preview", "metrics", "nn", "labels", *LOW},
    "judges": {"backbone", "nn", "prompts", "labels", *LOW},
    "tiny": set(BASE),
    "media": set(BASE),
    "pairs": set(BASE),
    "figures": {"media", *BASE},
    "fingerprint": set(),
    "preview": LOW,
    "cache": set(BASE),
    "sources": {"nn", "tiny", "cache", *BASE},
    "backbone": {"nn", "tiny", "sources", *LOW},
    "towers": {"backbone", "nn", "tiny", "sources", *BASE},
    "decoding": {"nn", "prompts", *LOW},
    "parallel": {"backbone", *BASE},
    "export": {"backbone", *BASE},
    "vectors": {"errors"},
    "index": {"fingerprint", "vectors", *BASE},
    "target": {"parallel"},
    "module": {"backbone", "parallel", "losses", "export", *LOW},
    "methods": {
        "nn",
        "losses",
        "decoding",
        "metrics",
        "prompts",
        "judges",
        "graph",
        "labels",
        "module",
        "backbone",
        "export",
        "cache",
        "tiny",
        "sources",
        "target",
        "towers",
        "media",
        "pairs",
        "preview",
        "figures",
        "fingerprint",
        *LOW,
    },
    "callbacks": {"module", "decoding", "metrics", *LOW},
    "inspect": {"export", "module", "backbone", *LOW},
    "queries": set(BASE),
    "chat": set(BASE),
    "trainer": {"chat", "export", "index", "queries", "inspect", "module", *LOW},
    "cli": {"callbacks", "trainer", "module", "backbone", *TOP, *LOW},
    "__main__": {"cli"},
    "__init__": set(),
}


def imports(path: Path) -> list[tuple[str, int]]:
    """Return every module that a file imports, inside functions too, type checking left out."""
    found = []
    skipped: set[ast.AST] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
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
            if module in ("zoo", "datamodules"):  # `from zoo import parallel`
                found += [(f"{module}.{alias.name}", node.lineno) for alias in node.names]
            else:
                found.append((module, node.lineno))
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(ROOT / "zoo").parts
    return parts[0].removesuffix(".py")


def names(path: Path, package: str) -> list[tuple[str, str]]:
    """Return the imports of a package as (dotted name, place)."""
    return [
        (name, f"{path.relative_to(ROOT)}:{line}")
        for name, line in imports(path)
        if name == package or name.startswith(f"{package}.")
    ]


def test_the_walk_finds_imports() -> None:
    """The other tests prove nothing if the walk is blind."""
    assert "zoo.nn.blocks" in dict(names(ROOT / "zoo/methods/methanol/module.py", "zoo"))
    assert "zoo.parallel" in dict(names(ROOT / "zoo/module.py", "zoo"))  # from zoo import ...
    assert "zoo.nn.attention" in dict(names(ROOT / "zoo/backbone.py", "zoo"))  # in a function
    assert "zoo.module" not in dict(names(ROOT / "zoo/parallel.py", "zoo"))  # for types only
    assert len(files("zoo")) > 15


def test_zoo_never_imports_datamodules() -> None:
    assert [use for path in files("zoo") for use in names(path, "datamodules")] == []


def test_datamodules_import_records_and_errors_only() -> None:
    used = {use for path in files("datamodules") for use in names(path, "zoo")}
    assert {name for name, _ in used} <= {"zoo.records", "zoo.errors"}, used


def test_nothing_imports_a_method() -> None:
    for package in ("zoo", "datamodules"):
        for path in files(package):
            if package == "zoo" and room(path) == "methods":
                continue
            assert [n for n in names(path, "zoo") if n[0].startswith("zoo.methods")] == []


def test_rooms_import_what_the_design_lets_them() -> None:
    wrong = []
    for path in files("zoo"):
        own = room(path)
        assert own in ALLOWED, f"{own}: give it a place in ALLOWED"
        for name, place in names(path, "zoo"):
            target = name.split(".")[1] if "." in name else "__init__"
            if target == own or (name == "zoo" and own in TOP):
                continue
            if target not in ALLOWED[own]:
                wrong.append(f"{place}: {own} imports {name}")
    assert wrong == []


def test_the_rules_have_no_cycle() -> None:
    order: list[str] = []
    rest = {key: set(value) - {key} for key, value in ALLOWED.items()}
    while rest:
        free = [key for key, value in rest.items() if value <= set(order)]
        assert free, f"cycle among {sorted(rest)}"
        order += free
        for key in free:
            del rest[key]


def test_lightning_stays_out_of_the_pure_rooms() -> None:
    for path in files("zoo"):
        if room(path) in {"nn", "losses", "metrics", "prompts", "encoding", "records", "decoding"}:
            assert names(path, "lightning") == []
        if room(path) in {"metrics", "records", "errors"} and path.stem != "retrieval":
            assert names(path, "torch") == []


@pytest.mark.parametrize("package", ["zoo", "datamodules"])
def test_importing_a_package_is_light(package: str) -> None:
    code = f"import sys, {package}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_every_public_name_resolves() -> None:
    import datamodules
    import zoo

    for package in (zoo, datamodules):
        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
            _ = package.Nonsense

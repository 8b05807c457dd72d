"""The house: which room may import which, who lives where, what a folder of a paper holds."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from package_imports import ROOT, files, names, parsed, room, uses

PAPERS = sorted(p.name for p in (ROOT / "zoo/methods").iterdir() if (p / "module.py").is_file())
CONTROLS = {"sft", "esc_baselines"}  # compared with in several papers, without a sheet of their own
FOLLOWS = {("rabtriever", "lahore"), ("straq", "sft")}  # a follow-up imports what it builds on
FAMILIES = {
    "support": {"straq", "fisminess", "coct", "esc_baselines", "dreamcub"},
    "ranking": {"lahore", "rabtriever"},
}
SHARED = ("nn", "losses", "decoding", "metrics", "prompts", "judges", *FAMILIES)
KNOWN_SHARED = {
    "nn/heads.py": "depth heads",
    "losses/cross_entropy.py": "the routed loss",
    "losses/preference.py": "the preference loss",
    "decoding/prefix_cache.py": "prefix scoring",
    "decoding/depth_decoder.py": "depth decoding",
    "decoding/shared_context.py": "growing texts of several rows; DreamCUB imagines with it",
    "prompts/truncation.py": "what a shared context leaves out when its window is full",
    "metrics/text.py": "scores of texts; MuPaS and ALPO are scored with them",
    "metrics/text_metrics.py": "their metric classes",
    "support/ratings.py": "public metrics of ratings by people or judges; no method rates itself",
    "judges/judge.py": "the interface of judges; ALPO asks one",
    "judges/local.py": "judges",
    "judges/recorded.py": "judges",
    "support/simulation.py": "simulated seekers; trials talk with them too",
    "support/judging.py": "compares replies of every support paper; straQ* also learns from it",
    "support/judge_prompts.py": "its wording",
}
LAYERS = (  # a room imports rooms of its own line and of those above it
    {"errors"},
    {"choices", "records", "markup", "cache", "parallel", "precision", "tiny_models"},
    {"encoding", "trees", "media", "sample_preview", "plots", "nn", "model_files", "optimizer"},
    {"weights", "weight_copy", "backbone", "adapters", "copies"},
    {"resuming", "export", "sharding", "given_loaders"},
    {"losses", "metrics", "prompts", "decoding"},
    {"loss_logs"},
    {"module"},
    {"evaluation", "text_evaluation", "judges", "study"},
    {"support", "ranking"},
    {"methods"},
    {"callbacks"},
    {"cli"},
    {"__main__", "__init__"},
)
CORE_USES = {("parallel", "backbone"), ("parallel", "module"), ("export", "__init__")}
MAX_FILE, MAX_FUNCTION = 300, 60


def test_the_walk_finds_imports() -> None:
    """The other tests prove nothing if the walk is blind."""
    assert "zoo.nn.blocks" in dict(names(ROOT / "zoo/methods/methanol/module.py", "zoo"))
    assert "zoo.parallel" in dict(names(ROOT / "zoo/module.py", "zoo"))  # from zoo import ...
    assert "zoo.nn.attention" in dict(names(ROOT / "zoo/backbone.py", "zoo"))  # in a function
    assert "zoo.module" not in dict(names(ROOT / "zoo/parallel.py", "zoo"))  # for types only
    assert ROOT / "zoo/nn/blocks.py" in uses(ROOT / "zoo/methods/methanol/module.py")
    assert len(PAPERS) >= 12


# -- rule 1: a file lives with its only paper --------------------------------------------------


@cache
def papers_of() -> dict[Path, set[str]]:
    """Return, for every file, the papers whose folders reach it by imports."""
    reached: dict[Path, set[str]] = defaultdict(set)
    for paper in PAPERS:
        todo = sorted((ROOT / "zoo/methods" / paper).glob("*.py"))
        seen = set(todo)
        while todo:
            file = todo.pop()
            reached[file].add(paper)
            for used in uses(file) - seen:
                if room(used) != "methods":  # a follow-up reaches its forerunner's parts
                    seen.add(used)
                    todo.append(used)
    return reached


def test_a_file_lives_with_its_only_paper() -> None:
    reached = papers_of()
    tools = {
        used for package in ("zoo/cli", "benchmarks") for f in files(package) for used in uses(f)
    }
    lonely = {}
    for file in files("zoo"):
        where = file.relative_to(ROOT / "zoo").as_posix()
        if room(file) not in SHARED or file.name == "__init__.py" or where in KNOWN_SHARED:
            continue
        users = reached[file]
        if len(users) < 2 and not (not users and file in tools):
            lonely[where] = users
    assert lonely == {}


def test_a_file_of_one_family_lives_in_its_room() -> None:
    reached = papers_of()
    wrong = {}
    for file in files("zoo"):
        where = file.relative_to(ROOT / "zoo").as_posix()
        if room(file) not in SHARED or file.name == "__init__.py" or where in KNOWN_SHARED:
            continue
        for family, members in FAMILIES.items():
            if room(file) != family and reached[file] and reached[file] <= members:
                wrong[where] = family
    assert wrong == {}


def test_known_shared_files_exist() -> None:
    assert [name for name in KNOWN_SHARED if not (ROOT / "zoo" / name).is_file()] == []


# -- rule 2: papers import no other paper ------------------------------------------------------


def test_a_paper_imports_no_other_paper() -> None:
    wrong = []
    for paper in PAPERS:
        for file in files(f"zoo/methods/{paper}"):
            for name, place in names(file, "zoo.methods"):
                other = (name.split(".") + ["", ""])[2]
                if other in PAPERS and other != paper and (paper, other) not in FOLLOWS:
                    wrong.append(f"{place}: {name}")
    assert wrong == []


# -- rule 3: dependencies point one way --------------------------------------------------------


def test_rooms_import_what_stands_above_them() -> None:
    rank = {name: i for i, line in enumerate(LAYERS) for name in line}
    wrong = []
    for path in files("zoo"):
        own = room(path)
        assert own in rank, f"{own}: give it a place in LAYERS"
        for used in uses(path):
            other = room(used)
            if rank[other] > rank[own] and (own, other) not in CORE_USES:
                wrong.append(f"{path.relative_to(ROOT)}: {own} imports {other}")
    assert sorted(set(wrong)) == []


def test_there_is_no_import_circle() -> None:
    """A file of a package is not imported, however far around, by what it imports."""
    graph = {f: {u for u in uses(f) if u.name != "__init__.py"} for f in files("zoo")}
    done: set[Path] = set()

    def visit(file: Path, path: tuple[Path, ...]) -> None:
        circle = (
            [p.relative_to(ROOT).as_posix() for p in path[path.index(file) :]]
            if (file in path)
            else []
        )
        assert not circle, circle
        if file not in done:
            for used in graph[file]:
                visit(used, (*path, file))
            done.add(file)

    for file in graph:
        visit(file, ())


def test_zoo_never_imports_datamodules() -> None:
    assert [use for path in files("zoo") for use in names(path, "datamodules")] == []


def test_datamodules_import_records_errors_choices_and_cache_only() -> None:
    allowed = ("zoo.records", "zoo.errors", "zoo.choices", "zoo.cache")
    used = {use for path in files("datamodules") for use in names(path, "zoo")}
    assert {n for n, _ in used if not n.startswith(allowed)} == set(), used


def test_only_methods_import_a_method() -> None:
    for path in files("zoo") + files("datamodules"):
        if path.is_relative_to(ROOT / "zoo/methods"):
            continue
        assert names(path, "zoo.methods") == []


def test_lightning_stays_out_of_the_pure_rooms() -> None:
    pure = {
        "nn",
        "losses",
        "metrics",
        "prompts",
        "encoding",
        "records",
        "decoding",
        "errors",
        "choices",
    }
    for path in files("zoo"):
        if room(path) in pure:
            assert names(path, "lightning") == []
        if room(path) in {"records", "errors", "choices"}:
            assert names(path, "torch") == []


# -- rule 4: sizes and names -------------------------------------------------------------------


def test_class_names_are_unique() -> None:
    places = defaultdict(list)
    for path in [*files("zoo"), *files("datamodules")]:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("package", ["zoo", "datamodules", "benchmarks"])
def test_files_and_functions_are_short(package: str) -> None:
    long = []
    for path in files(package):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > MAX_FILE:
            long.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > MAX_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {length}")
    assert long == []


READERS = ("from_pretrained", "from_config", "load_dataset")  # may run code that a folder holds


@pytest.mark.parametrize("package", ["zoo", "datamodules", "benchmarks"])
def test_code_beside_a_model_never_runs(package: str) -> None:
    """Every call says `trust_remote_code=False`, by itself or in a mapping of options."""
    without = []
    for path in files(package):
        text = path.read_text(encoding="utf-8")
        for call in ast.walk(parsed(path)):
            if not isinstance(call, ast.Call) or not isinstance(
                call.func, ast.Attribute | ast.Name
            ):
                continue
            name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
            said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            mapped = None in said and '"trust_remote_code": False' in text
            if name in READERS and said.get("trust_remote_code") != "False" and not mapped:
                without.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert without == []


# -- rule 5: what belongs to a paper -----------------------------------------------------------


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_is_whole(paper: str) -> None:
    import zoo

    folder = ROOT / "zoo/methods" / paper
    public = [n for n, home in zoo._HOME.items() if home.startswith(f"zoo.methods.{paper}.")]
    assert public, "a paper's class is a public name of zoo"
    assert (folder / "__init__.py").is_file()
    assert (ROOT / f"configs/{paper}.yaml").is_file()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert any(f"`zoo.{name}`" in readme for name in public)
    if paper not in CONTROLS:
        assert (ROOT / f"configs/paper/{paper}.yaml").is_file()
        tests = (ROOT / "tests/methods" / paper).glob("test_fidelity*.py")
        assert any(f'fidelity("{paper}"' in path.read_text(encoding="utf-8") for path in tests)


# -- imports are light, names resolve ----------------------------------------------------------


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

"""Shared fixtures, the block on the network, and the fidelity table at the end of a run.

`--strict-markers` is on; the markers are registered in setup.cfg. A test marked
`@pytest.mark.fidelity("methanol", 3)` checks property 3 of MeTHanol's sheet; the run ends with a
table of method x property.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from dialogues import TALK

from zoo.errors import SaidOnce
from zoo.records import SUPPORTER, Dialogue, Triple, Turn

if TYPE_CHECKING:
    from process_pair import ProcessPair
    from runs import Runs

SHAPES = ("tiny-llama", "tiny-qwen2", "tiny-gemma")
PROPERTIES = {
    "methanol": 10,
    "m3_jepa": 9,
    "hdlm": 10,
    "lamss": 10,
    "almr": 9,
    "dreamcub": 10,
    "megan": 10,
    "lahore": 9,
    "rabtriever": 10,
    "straq": 10,
    "fisminess": 10,
    "coct": 10,
    "alpo": 10,
    "esc_metrics": 8,
    "sova": 10,
    "mupas": 10,
    "daily_dilemmas": 8,
}
"""Number of properties that a faithful implementation of each method must show."""


# -- the network is closed ---------------------------------------------------------------------


class NetworkBlockedError(RuntimeError):
    """A test tried to reach another machine. No library takes this for a network failure."""


def _is_local(host: object) -> bool:
    if host in (None, "", b"", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse(host: object) -> None:
    if not _is_local(host):
        raise NetworkBlockedError(f"a test tried to reach {host!r}; tests run without a network")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sockets reach this machine only (gloo needs the loopback address)."""

    def guard(name: str, position: int = 0) -> None:
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, *args: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                _refuse(args[position][0])
            return original(self, *args)

        monkeypatch.setattr(socket.socket, name, guarded)

    guard("connect")
    guard("connect_ex")
    guard("sendto", -1)
    resolve = socket.getaddrinfo

    def guarded_resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse(host)
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", guarded_resolve)


# -- tiny modules and records ------------------------------------------------------------------


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Start every test at seed 0 and give the global random state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny matrices gain nothing from threads; sums over two threads round otherwise.

    For every test again: Lightning sets the number of threads when it starts processes.
    """
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    """Let every test hear what is said once in a process."""
    SaidOnce.said.clear()


@pytest.fixture(scope="session", params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    """Name of a tiny random backbone: untied Llama, tied Qwen2 with biases, scaled Gemma."""
    return request.param


@pytest.fixture(scope="session")
def make() -> Callable[..., Any]:
    """Build a ready module: `make("MeTHanol", "tiny-llama", thinking_layer=2)`."""
    import zoo

    def build(method: str, name: str, *, spread: float = 1.0, **options: Any) -> Any:
        """Build a module; `spread` scales the weight matrices of the random blocks."""
        backbone = {"name": name, **options.pop("backbone", {})}
        module = getattr(zoo, method)(backbone=zoo.Backbone(**backbone), **options)
        module.configure_model()
        with torch.no_grad():
            for parameter in module.lm.model.layers.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(spread)
        return module.eval()

    return build


@pytest.fixture(scope="session")
def triples() -> list[Triple]:
    """Four triples of clearly different lengths."""
    return [
        Triple("Where is the ball?", "Ann saw it in the box.", "In the box.", id="a"),
        Triple("Who?", "Bob.", "It was Bob, of course.", system="Be brief.", id="b"),
        Triple("Where does Ann look for the key?", "She left before Bob moved it.", "Bag", id="c"),
        Triple("Why", "x", "y", id="d"),
    ]


@pytest.fixture(scope="session")
def dialogue() -> Dialogue:
    """Two supporter turns that answer, after an opening that answers nothing."""
    return Dialogue(
        turns=(Turn(SUPPORTER, "Hello."), *TALK.turns),
        emotion="sadness",
        problem="job crisis",
        id="dialogue:1",
    )


# -- runs --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Short runs of all methods, made when a test first asks for them."""
    from runs import Runs

    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 18 steps over one and a quarter epochs."""
    from killed_runs import STEPS, arguments
    from running import last, load, main

    tmp_path = tmp_path_factory.mktemp("unbroken")
    main(*arguments(tmp_path, "run", "log"))
    assert load(last(tmp_path / "run"))["global_step"] == STEPS
    return tmp_path


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command that must fail in an empty folder; return its line without `error: `."""
    from running import refusal

    monkeypatch.chdir(tmp_path)
    return partial(refusal, capfd, tmp_path)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessPair]:
    """Two processes that run commands together."""
    from process_pair import ProcessPair

    processes = ProcessPair(tmp_path_factory.mktemp("pair"))
    yield processes
    processes.stop()


# -- the fidelity table ------------------------------------------------------------------------

UNTRUE = "does not hold"
STANDINGS = ("failed", UNTRUE, "passed", "skipped")
TOTALS = ("passed", "failed", UNTRUE, "skipped", "not yet")

_outcomes: dict[tuple[str, int], list[str]] = defaultdict(list)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a fidelity mark whose method or number no sheet has."""
    for item in items:
        for mark in item.iter_markers("fidelity"):
            method, number = mark.args
            if number not in range(1, PROPERTIES.get(method, 0) + 1):
                raise pytest.UsageError(f"{item.nodeid}: no property {number} of {method!r}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Write on each report which properties it speaks of; it may come from a worker process."""
    outcome = yield
    report = outcome.get_result()
    marks = [list(mark.args) for mark in item.iter_markers("fidelity")]
    report.user_properties.append(("fidelity", marks))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember how each fidelity test ended."""
    if report.when != "call" and report.outcome == "passed":
        return
    for name, marks in report.user_properties:
        if name == "fidelity":
            for method, number in marks:
                expected = hasattr(report, "wasxfail") and report.outcome == "skipped"
                _outcomes[method, number].append(UNTRUE if expected else report.outcome)


def standing(outcomes: list[str]) -> str:
    """Return one property's standing: one failure fails it, a skipped variant does not.

    `does not hold` is what a test shows that is marked `xfail`: the paper's claim, measured here,
    did not come out. `not yet`: no test of it ran; some are marked `slow`.
    """
    for verdict in STANDINGS:
        if verdict in outcomes:
            return verdict
    return "not yet"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table: a line per method, its properties, and the totals."""
    if not _outcomes:
        return
    terminalreporter.section("fidelity: properties of the papers' sheets")
    for method, count in sorted(PROPERTIES.items()):
        found = {n: standing(_outcomes[method, n]) for n in range(1, count + 1)}
        for number, verdict in found.items():
            terminalreporter.write_line(f"{method:<12} {number:>2}  {verdict}")
        verdicts = list(found.values())
        totals = ", ".join(f"{verdicts.count(v)} {v}" for v in TOTALS if v in verdicts)
        terminalreporter.write_line(f"{method:<12} of {count}: {totals}")

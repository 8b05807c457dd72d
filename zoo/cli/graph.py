"""`python -m zoo graph build|show|query`: the graph of values that SoVA retrieves from.

python -m zoo graph build index/ --values values.csv --principles principle_claude.csv
python -m zoo graph show index/ --output graph.html
python -m zoo graph query index/ --text "Should I tell her?" --theory maslow
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import zoo
from zoo.backbone import DTYPES, Backbone
from zoo.errors import InputError, check_counts, nearest
from zoo.judges.local import LocalLLM

READERS = "datamodules.daily_dilemmas_rows"
REPORT_TOKENS = 700  # of a report's JSON
PROMPT_TOKENS = 8192


class _Arguments(argparse.ArgumentParser):
    """A parser whose complaints are the zoo's: one line, with the nearest option."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog.removeprefix('python -m zoo ')}: {message}")

    def read(self, args: Sequence[str]) -> argparse.Namespace:
        """Return the arguments.

        Raises:
            InputError: One is unknown, missing or of the wrong type.
        """
        found, unknown = self.parse_known_args(args)
        if unknown:
            options = [name for action in self._actions for name in action.option_strings]
            self.error(f"no option {unknown[0]!r}; {nearest(unknown[0], options)}")
        return found


def run_graph(args: Sequence[str]) -> list[str]:
    """Run a verb of `graph`; return the lines to print.

    Raises:
        InputError: Something that the user gave is wrong.
    """
    verbs: dict[str, Callable[[Sequence[str]], list[str]]] = {
        "build": build,
        "show": show,
        "query": query,
    }
    if not args or args[0] not in verbs:
        if args and args[0] in ("-h", "--help"):
            return (__doc__ or "").strip().splitlines()
        given = args[0] if args else ""
        raise InputError(f"graph: no verb {given!r}; {nearest(given, verbs)}")
    return verbs[args[0]](args[1:])


def _parser(verb: str, about: str) -> _Arguments:
    parser = _Arguments(prog=f"python -m zoo graph {verb}", description=about, allow_abbrev=False)
    parser.add_argument("index", type=Path, help="folder of the index")
    return parser


def _add_models(parser: _Arguments, backbone: str | None, role: str) -> None:
    parser.add_argument("--backbone", default=backbone, help=f"language model that {role}")
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES), help="its type")
    parser.add_argument("--device", default="cpu", help="where it runs, for example cuda")
    parser.add_argument("--encoder", help="encoder of sentences: a folder or a hub id")


def build(args: Sequence[str]) -> list[str]:
    """Build an index of a value table and principles."""
    parser = _parser("build", "Build the index; one that was cut off is finished.")
    parser.add_argument("--values", type=Path, required=True, help="table of values and labels")
    parser.add_argument("--principles", type=Path, nargs="*", default=[], help="principle_*.csv")
    _add_models(parser, None, "words the reports; none for a template's words")
    parser.add_argument("--max_size", type=int, default=10, help="of a community; best effort")
    parser.add_argument("--seed", type=int, default=0, help="of the communities")
    given = parser.read(args)
    check_counts("", {"max_size": given.max_size})
    if not 0 <= given.seed < 2**64:
        raise InputError(f"seed: {given.seed} is not in 0..2^64 - 1")
    readers = importlib.import_module(READERS)
    start = time.monotonic()
    index = zoo.ValueIndex.build(
        given.index,
        readers.read_values(given.values),
        [text for path in given.principles for text in readers.read_principles(path)],
        encoder=zoo.SentenceEncoder.load(given.encoder) if given.encoder else None,
        judge=_writer(given) if given.backbone else None,
        max_size=given.max_size,
        seed=given.seed,
    )
    sizes = ", ".join(f"{count} {name}" for name, count in index.card["counts"].items())
    return [
        f"index       {given.index}: {sizes}",
        f"time        {time.monotonic() - start:.1f} s",
        f"next        python -m zoo graph show {given.index}",
    ]


def show(args: Sequence[str]) -> list[str]:
    """Write the page of an index."""
    parser = _parser("show", "Write the graph as one HTML page that opens from disk.")
    parser.add_argument("--output", type=Path, help="the page; graph.html beside the index")
    given = parser.read(args)
    folder = given.index.resolve()
    output = given.output or folder.parent / "graph.html"
    if output.suffix != ".html":
        raise InputError(f"output: {output} does not end with .html, as a page has to")
    if output.resolve().is_relative_to(folder):
        raise InputError(f"output: {output} is inside the index; name a file elsewhere")
    index = zoo.ValueIndex.open(given.index)
    size = zoo.write_graph_page(index, output)
    return [f"page        {output}: {size / 2**10:.0f} KiB; open it in a browser"]


def query(args: Sequence[str]) -> list[str]:
    """Return the instructions for a situation."""
    parser = _parser("query", "Print the instructions of a theory for a situation.")
    parser.add_argument("--text", required=True, help="the situation")
    parser.add_argument("--theory", default="maslow", help="maslow, emotion or virtue")
    _add_models(parser, Backbone().name, "scores the reports")
    parser.add_argument("--how", default="likelihood", choices=("likelihood", "model"))
    parser.add_argument("--tau", type=float, default=60.0, help="keep what scores above it")
    parser.add_argument("--top", type=int, default=100, help="keep at most so many")
    parser.add_argument("--prefilter", type=int, help="score only the closest reports")
    given = parser.read(args)
    if not 0 <= given.tau <= 100:
        raise InputError(f"tau: {given.tau:g} is not in 0..100")
    check_counts("", {"top": given.top, "prefilter": given.prefilter})
    if given.prefilter is not None and given.encoder is None:
        raise InputError("prefilter: name the encoder that the index was built with: --encoder")
    index = zoo.ValueIndex.open(given.index)
    reports = index.reports_of(given.theory)
    model = _writer(given)
    retrieval = zoo.ValueRetrieval(
        model.lm,
        model.tokenizer,
        index,
        zoo.SentenceEncoder.load(given.encoder) if given.encoder else None,
        how=given.how,
        tau=given.tau,
        top=given.top,
        prefilter=given.prefilter,
        window=PROMPT_TOKENS,
    )
    (kept,) = retrieval.instructions([given.text], given.theory)
    texts = {principle.id: principle for principle in index.principles}
    return [*_listed(kept, texts), _sum(retrieval.counts, len(reports), given.tau)]


def _writer(given: argparse.Namespace) -> LocalLLM:
    backbone = Backbone(name=given.backbone, dtype=given.dtype)
    return LocalLLM.load(
        backbone, device=given.device, max_new_tokens=REPORT_TOKENS, max_length=PROMPT_TOKENS
    )


def _listed(kept: Sequence[Any], principles: dict[str, Any]) -> list[str]:
    lines = []
    for item in kept:
        lines.append(f"{item.score:5.1f}  {item.report_id:<14} {item.text}")
        for name in item.principle_ids:
            sources = "; ".join(principles[name].sources)
            lines.append(f"       from {name}: {principles[name].statement} [{sources}]")
    return lines


def _sum(counts: dict[str, int], reports: int, tau: float) -> str:
    parts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)
    return f"{reports} reports of the theory, kept above {tau:g}: {parts or 'none'}"

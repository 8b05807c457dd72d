"""Single-expression changes of Python source, the way a slip of the hand would make them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SWAPPED: dict[type[ast.AST], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.And: "or",
    ast.Or: "and",
}
SAID_ONLY = ("InputError", "warn", "print", "join", "log_once")
"""Calls whose arguments are words for a person: no test should pin those."""


@dataclass(frozen=True)
class Mutation:
    """One change: the text between two columns of a line becomes another.

    Attributes:
        file: Path in the tree.
        line: Line number, from 1.
        start: First column, in characters.
        end: Column behind the last.
        before: The text that stands there.
        after: The text that takes its place.
    """

    file: Path
    line: int
    start: int
    end: int
    before: str
    after: str

    def __str__(self) -> str:
        """Return file, line and what changes."""
        return f"{self.file}:{self.line}:{self.start}: {self.before!r} -> {self.after!r}"

    def apply(self, source: str) -> str:
        """Return the source with the change.

        Raises:
            ValueError: The text to change does not stand there.
        """
        lines = source.splitlines(keepends=True)
        line = lines[self.line - 1]
        if line[self.start : self.end] != self.before:
            raise ValueError(f"{self} does not fit the source")
        lines[self.line - 1] = line[: self.start] + self.after + line[self.end :]
        return "".join(lines)


def mutations_of(file: Path) -> list[Mutation]:
    """Return every mutation of a file, in order; words for people are left alone."""
    source = file.read_text("utf-8")
    lines = source.splitlines()
    found: dict[str, Mutation] = {}
    for node in _code(ast.parse(source)):
        for line, start, end, after in _changes(node, lines):
            if not lines[line - 1].isascii():
                continue  # the parser counts columns in bytes
            before = lines[line - 1][start:end]
            mutation = Mutation(file, line, start, end, before, after)
            found[str(mutation)] = mutation
    return sorted(found.values(), key=lambda m: (m.line, m.start))


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what runs: no annotations, no decorators, no docstrings, no words for people."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_said(child):
                continue
            yield child
            yield from _code(child)


def _is_said(node: ast.AST) -> bool:
    """Return whether a node is a string, an error's or a message's call, or an import."""
    if isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return name in SAID_ONLY
    is_text = isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )
    return is_text or isinstance(node, ast.Import | ast.ImportFrom)


def _changes(node: ast.AST, lines: list[str]) -> Iterator[tuple[int, int, int, str]]:
    """Return changes of a node as (line, first column, end column, new text), on one line each."""
    if isinstance(node, ast.Constant):
        new = _other_constant(node.value)
        if new is not None and node.lineno == node.end_lineno:
            yield node.lineno, node.col_offset, node.end_col_offset or 0, new
    elif isinstance(node, ast.BinOp):
        yield from _operator(node.left, node.right, node.op, lines)
    elif isinstance(node, ast.BoolOp):
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from _operator(left, right, node.op, lines)
    elif isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        for left, right, op in zip(operands, operands[1:], node.ops, strict=False):
            yield from _operator(left, right, op, lines)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.lineno, node.col_offset, node.operand.col_offset, ""
    elif isinstance(node, ast.If | ast.IfExp) and node.test.lineno == node.test.end_lineno:
        yield node.test.lineno, node.test.col_offset, node.test.end_col_offset or 0, "True"
        yield node.test.lineno, node.test.col_offset, node.test.end_col_offset or 0, "False"
    elif isinstance(node, ast.Expr) and node.lineno == node.end_lineno:
        yield node.lineno, node.col_offset, node.end_col_offset or 0, "pass"  # a call left out
    elif isinstance(node, ast.Call) and node.lineno == node.end_lineno and not node.keywords:
        kept = _argument_of(node)  # copy.deepcopy(norm) -> norm, states.detach() -> states
        if kept is not None:
            yield node.lineno, node.col_offset, node.end_col_offset or 0, ast.unparse(kept)


def _argument_of(call: ast.Call) -> ast.expr | None:
    """Return what a call with one operand works on."""
    if len(call.args) == 1:
        return call.args[0]
    if not call.args and isinstance(call.func, ast.Attribute):
        return call.func.value
    return None


def _other_constant(value: object) -> str | None:
    if isinstance(value, bool):
        return str(not value)
    if isinstance(value, int):
        return str(value + 1)
    return repr(value * 2 + 0.5) if isinstance(value, float) else None


def _operator(
    left: ast.expr, right: ast.expr, op: ast.AST, lines: list[str]
) -> Iterator[tuple[int, int, int, str]]:
    """Return the change of an operator between two operands that stand on one line."""
    if left.end_lineno != right.lineno or left.end_col_offset is None or type(op) not in SWAPPED:
        return
    between = lines[right.lineno - 1][left.end_col_offset : right.col_offset]
    words = between.strip(" ()")
    if words:
        start = left.end_col_offset + between.index(words)
        yield right.lineno, start, start + len(words), SWAPPED[type(op)]

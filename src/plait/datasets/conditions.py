"""Reads `--where`: a condition over columns in a small, safe part of Python's expressions, made into a function.

Known are columns, texts, numbers, True, False, None, lists of these, comparisons (`==`, `!=`, `<`, `<=`, `>`, `>=`,
`in`, `not in`, chained too), `column ~ "regular expression"`, `len(column)`, `and`, `or`, `not` and parentheses. A
column whose name is no identifier stands in backticks. Nothing else is evaluated, nothing is called.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from plait.errors import InputError

__all__ = ["Condition", "parse_condition"]

Lookup = Callable[[Mapping[str, object]], object]

# Texts stay as they are, so that what looks like an operator inside them is none.
_TOKENS = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|`([^`]+)`|(~)|(@)""", re.DOTALL)
_COLUMN = "column_in_backticks_{}"
_CONSTANTS = {"true": True, "false": False, "null": None}
_MAX_LENGTH = 10_000


@dataclass(frozen=True, slots=True)
class Condition:
    """`holds(columns)` says whether a row is taken; a column that the row lacks counts as None."""

    text: str
    columns: frozenset[str]
    holds: Callable[[Mapping[str, object]], bool]


def parse_condition(text: str) -> Condition:
    """The condition that the text spells. Raises InputError naming the part that is not understood."""
    quoted: list[str] = []

    def spelled(match: re.Match[str]) -> str:
        constant, column, matches, _ = match.groups()
        if constant is not None:
            return str(constant)
        if column is not None:
            quoted.append(column)
            return _COLUMN.format(len(quoted) - 1)
        if matches is not None:
            # Binds tighter than comparisons and `not`, as a test of one column should.
            return "@"
        raise _refused(text, "'@' has no meaning here")

    if len(text) > _MAX_LENGTH:
        raise _refused(text[:60] + "...", f"it has {len(text):,} characters, more than {_MAX_LENGTH:,}")
    source = _TOKENS.sub(spelled, text.strip())
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(text, _syntax_hint(source, error)) from None
    reader = _Reader(text, {_COLUMN.format(index): name for index, name in enumerate(quoted)})
    try:
        value = reader.read(tree.body)
    except RecursionError:
        raise _refused(text, "it is nested too deeply") from None
    return Condition(text, frozenset(reader.columns), lambda row: _true(value(row)))


def _refused(text: str, reason: str) -> InputError:
    return InputError(
        f"where: expected a condition such as 'lang == \"en\" and len(text) > 20', found {text!r}: {reason}"
    )


def _syntax_hint(source: str, error: BaseException) -> str:
    if re.search(r"(?<![=!<>])=(?!=)", _TOKENS.sub("", source)):
        return "write == to compare"
    if isinstance(error, SyntaxError) and error.offset:
        return f"{error.msg} at character {error.offset} (a column's name that is no plain word goes in backticks)"
    return str(error) or "it is nested too deeply"


class _Reader:
    """Makes functions of the nodes that are allowed; `columns` collects the names that are read."""

    def __init__(self, text: str, quoted: Mapping[str, str]) -> None:
        self._text = text
        self._quoted = quoted
        self.columns: set[str] = set()

    def read(self, node: ast.expr) -> Lookup:
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.read(value) for value in values]
                if isinstance(op, ast.And):
                    return lambda row: all(_true(part(row)) for part in parts)
                return lambda row: any(_true(part(row)) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.read(operand)
                return lambda row: not _true(inner(row))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda row: -number
            case ast.Constant(value=str() | int() | float() | None as value):
                return lambda row: value
            case ast.Name(id=name):
                return self._name(name)
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
                items = [self.read(part) for part in parts]
                return lambda row: [item(row) for item in items]
            case ast.BinOp(op=ast.MatMult(), left=left, right=ast.Constant(value=str() as pattern)):
                return self._matches(left, pattern)
            case ast.Call(func=ast.Name(id="len"), args=[ast.expr() as argument], keywords=[]):
                measured = self.read(argument)
                return lambda row: _length(measured(row))
            case ast.Compare():
                return self._compare(node)
        raise _refused(self._text, f"{ast.unparse(node)!r} is not allowed in a condition")

    def _name(self, name: str) -> Lookup:
        if name in _CONSTANTS:
            value = _CONSTANTS[name]
            return lambda row: value
        column = self._quoted.get(name, name)
        self.columns.add(column)
        return lambda row: row.get(column)

    def _matches(self, left: ast.expr, pattern: str) -> Lookup:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise _refused(self._text, f"{pattern!r} is no regular expression: {error}") from None
        value = self.read(left)

        def search(row: Mapping[str, object]) -> bool:
            found = value(row)
            return found is not None and expression.search(str(found)) is not None

        return search

    def _compare(self, node: ast.Compare) -> Lookup:
        if not all(type(op) in _COMPARISONS for op in node.ops):
            raise _refused(self._text, f"{ast.unparse(node)!r}: write == or != to compare")
        operands = [self.read(part) for part in (node.left, *node.comparators)]
        tests = [_COMPARISONS[type(op)] for op in node.ops]
        if len(tests) == 1:
            test, left, right = tests[0], operands[0], operands[1]
            return lambda row: test(left(row), right(row))

        def chained(row: Mapping[str, object]) -> bool:
            values = [operand(row) for operand in operands]
            return all(test(values[index], values[index + 1]) for index, test in enumerate(tests))

        return chained


def _true(value: object) -> bool:
    # Texts of CSV files: what spells false is false.
    return bool(value) and not (isinstance(value, str) and value.strip().lower() in {"false", "no", "0"})


def _length(value: object) -> int | None:
    return len(value) if isinstance(value, str | list | dict | tuple) else None


def _alike(left: object, right: object) -> tuple[object, object]:
    """Both as numbers where one is a number and the other, read from a CSV file, spells one."""
    if isinstance(left, str) and isinstance(right, int | float):
        return _number(left, right), right
    if isinstance(right, str) and isinstance(left, int | float):
        return left, _number(right, left)
    return left, right


def _number(text: str, other: object) -> object:
    if isinstance(other, bool):
        return {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower(), text)
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def _equal(left: object, right: object) -> bool:
    left, right = _alike(left, right)
    return left == right


def _ordered(test: Callable[[Any, Any], object]) -> Callable[[object, object], bool]:
    def compare(left: object, right: object) -> bool:
        left, right = _alike(left, right)
        try:
            return bool(test(left, right))
        except TypeError:
            # An empty field is neither above nor below a number.
            return False

    return compare


def _within(left: object, right: object) -> bool:
    if isinstance(right, str):
        return isinstance(left, str) and left in right
    if isinstance(right, list | tuple):
        return any(_equal(left, value) for value in right)
    return isinstance(right, Mapping) and isinstance(left, str) and left in right


_COMPARISONS: dict[type[ast.cmpop], Callable[[object, object], bool]] = {
    ast.Eq: _equal,
    ast.NotEq: lambda left, right: not _equal(left, right),
    ast.Lt: _ordered(operator.lt),
    ast.LtE: _ordered(operator.le),
    ast.Gt: _ordered(operator.gt),
    ast.GtE: _ordered(operator.ge),
    ast.In: _within,
    ast.NotIn: lambda left, right: not _within(left, right),
    ast.Is: _equal,
    ast.IsNot: lambda left, right: not _equal(left, right),
}

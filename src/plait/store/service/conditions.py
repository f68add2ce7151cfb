"""What a query lets through, as SQL: owners, metadata filters, and JSON that holds other JSON.

Keys and values are always bound parameters. Keys are compared by json_each rather than put into JSON paths, which
cannot name every key; in PostgreSQL a function of ours does the same (store.postgres.functions). A JSON value holds
another as PostgreSQL's `@>` has it: equal scalars, objects with at least the wanted keys, lists with at least the
wanted elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from plait.store.service.faults import FilterRefused
from plait.store.service.records import SYSTEM, Access, Json

__all__ = ["ALWAYS", "Condition", "contains", "equal", "every", "holds", "listed", "owned", "page", "passes", "visible"]

_DEPTH = 8
_CONDITIONS = 100
_LARGEST = 2**63 - 1
# What JSON never escapes: such a pair stands in the text as it is, which is faster to find than to parse for.
_PLAIN = re.compile(r"[A-Za-z0-9_.:@ +-]*")
_OPERATORS = frozenset({"$eq", "$contains"})


class Condition(NamedTuple):
    """A boolean SQL expression and what is bound in it, in order."""

    sql: str
    parameters: tuple[object, ...] = ()


ALWAYS = Condition("1 = 1")
_NEVER = Condition("1 = 0")


def every(*conditions: Condition) -> Condition:
    """All of them hold."""
    kept = [condition for condition in conditions if condition is not ALWAYS]
    if not kept:
        return ALWAYS
    return Condition(" AND ".join(one.sql for one in kept), tuple(each for one in kept for each in one.parameters))


def equal(column: str, value: object) -> Condition:
    """The column has this value; None asks for nothing."""
    if value is None:
        return ALWAYS
    return _NEVER if isinstance(value, str) and not _bindable(value) else Condition(f"{column} = ?", (value,))


def contains(column: str, text: str | None) -> Condition:
    """The column has this text in it, in upper or lower case; None asks for nothing."""
    if text is None:
        return ALWAYS
    return Condition(f"instr(lower({column}), lower(?)) > 0", (text,)) if _bindable(text) else _NEVER


def listed(column: str, values: str | None) -> Condition:
    """The column's text is in this JSON list; None asks for nothing."""
    return ALWAYS if values is None else Condition(f"{column} IN (SELECT value FROM json_each(?) AS listed)", (values,))  # noqa: S608


def page(limit: int, offset: int) -> tuple[int, int]:
    """Both as the database can bind them."""
    return min(max(limit, 0), _LARGEST), min(max(offset, 0), _LARGEST)


def visible(access: Access, table: str, *, or_system: bool = False) -> Condition:
    """The table's rows that a caller may see, by its columns owner and metadata."""
    return every(owned(access, table, or_system=or_system), passes(access, table))


def owned(access: Access, table: str, *, or_system: bool = False) -> Condition:
    """The table's rows of the caller's owner."""
    if access.owner is None:
        return ALWAYS
    if or_system and access.owner != SYSTEM:
        return Condition(f"{table}.owner IN (?, ?)", (access.owner, SYSTEM))
    return Condition(f"{table}.owner = ?", (access.owner,))


def passes(access: Access, table: str) -> Condition:
    """The table's rows whose metadata the caller's filters let through."""
    if not access.filters:
        return ALWAYS
    column = f"{table}.metadata"
    budget = iter(range(_CONDITIONS))
    parts = [_keyed(column, key, _operated(value), 0, budget) for key, value in access.filters.items()]
    return every(_without_nul(column), *(part for keyed in parts for part in keyed))


def holds(column: str, wanted: Json | None) -> Condition:
    """The column's JSON object holds the wanted one; FilterRefused when that is too large to ask for."""
    if not wanted:
        return ALWAYS
    budget = iter(range(_CONDITIONS))
    parts = (part for key, value in wanted.items() for part in _keyed(column, key, [value], 0, budget))
    return every(_without_nul(column), *parts)


def _without_nul(column: str) -> Condition:
    # SQLite ends keys and texts at a NUL: "alice\0" would pass for "alice".
    return Condition(f"instr({column}, ?) = 0", ("\\u0000",))


def _operated(value: object) -> list[object]:
    """What the key's value must hold, one after the other."""
    if not isinstance(value, dict) or not value or not _OPERATORS.issuperset(value):
        return [value]
    wanted: list[object] = []
    if "$eq" in value:
        wanted.append(value["$eq"])
    if "$contains" in value:
        element = value["$contains"]
        wanted.append(element if isinstance(element, list) else [element])
    return wanted


def _keyed(column: str, key: str, wanted: list[object], depth: int, budget: Iterator[int]) -> Iterator[Condition]:
    for value in wanted:
        alias = f"j{depth}"
        inner = _matches(alias, value, depth, budget)
        if not _bindable(key):
            yield _NEVER
            continue
        if depth == 0 and isinstance(value, str) and _PLAIN.fullmatch(key) and _PLAIN.fullmatch(value):
            yield Condition(f"instr({column}, ?) > 0", (f'"{key}":"{value}"',))
        sql = f"EXISTS (SELECT 1 FROM json_each({column}) AS {alias} WHERE {alias}.key = ? AND {inner.sql})"  # noqa: S608
        yield Condition(sql, (key, *inner.parameters))


def _matches(alias: str, value: object, depth: int, budget: Iterator[int]) -> Condition:
    """The value of a row of json_each holds this one."""
    if depth >= _DEPTH or next(budget, None) is None:
        raise FilterRefused(f"a filter has at most {_CONDITIONS} values, nested at most {_DEPTH} levels: ask for less")
    if isinstance(value, bool) or value is None:
        return Condition(f"{alias}.type = ?", ({True: "true", False: "false", None: "null"}[value],))
    if isinstance(value, int | float):
        # What is stored of larger numbers is a float, too.
        number = value if isinstance(value, float) or -_LARGEST <= value <= _LARGEST else _as_float(value)
        bound = "/*pg plait_number(*/?/*pg )*/" if isinstance(number, float) else "?"
        return Condition(f"{alias}.type IN ('integer', 'real') AND {alias}.atom/*pg _number*/ = {bound}", (number,))
    if isinstance(value, str):
        return Condition(f"{alias}.type = 'text' AND {alias}.atom = ?", (value,)) if _bindable(value) else _NEVER
    if isinstance(value, dict):
        parts = (
            part for key, inner in value.items() for part in _keyed(f"{alias}.value", key, [inner], depth + 1, budget)
        )
        return every(Condition(f"{alias}.type = 'object'"), *parts)
    if isinstance(value, list | tuple):
        elements = (_element(f"{alias}.value", element, depth + 1, budget) for element in value)
        return every(Condition(f"{alias}.type = 'array'"), *elements)
    raise FilterRefused(f"a filter's values are JSON, not {type(value).__name__}")


def _element(column: str, value: object, depth: int, budget: Iterator[int]) -> Condition:
    alias = f"j{depth}"
    inner = _matches(alias, value, depth, budget)
    return Condition(f"EXISTS (SELECT 1 FROM json_each({column}) AS {alias} WHERE {inner.sql})", inner.parameters)  # noqa: S608


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _bindable(text: str) -> bool:
    """False for what json_each never gives back, or no text of the database holds; U+FFFE stands for that there."""
    if "\0" in text or "\ufffe" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

"""The tables of the long-term store, and its operations on them: functions of a connection.

A namespace is a row, its path the labels joined by dots (no label has one); an item is a row that points to it, its
value as JSON. Both keep the order in which they came, so that a search without an index has one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from langgraph.store.base import GetOp, Item, ListNamespacesOp, MatchCondition, PutOp, SearchItem, SearchOp

from plait.errors import StoreError
from plait.store.connections import Connection, add_tables

__all__ = [
    "Touched",
    "find_item",
    "list_namespaces",
    "prepare_items",
    "refresh",
    "search",
    "sweep",
    "write_item",
    "written",
]

Namespace = tuple[str, ...]

_TABLES = """
CREATE TABLE IF NOT EXISTS item_namespaces (
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, path TEXT NOT NULL, UNIQUE (owner, path)
);
CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY AUTOINCREMENT, namespace_id INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL, ttl_minutes REAL, expires_at REAL, UNIQUE (namespace_id, key)
);
CREATE INDEX IF NOT EXISTS items_by_expiry ON items (expires_at) WHERE expires_at IS NOT NULL;
"""
_ITEMS = (
    "SELECT items.id, path, key, value, created_at, updated_at, ttl_minutes, namespace_id FROM items "
    "JOIN item_namespaces AS spaces ON spaces.id = namespace_id "
    "WHERE (expires_at IS NULL OR expires_at > ?) AND owner=? "
)
_PAGE = 200  # items read at once
_SWEPT = 1000  # expired items that one write takes along at most


def prepare_items(connection: Connection) -> None:
    """Make the long-term store's tables where they are missing; runs inside the caller's transaction."""
    add_tables(connection, "items", _TABLES)


@dataclass(slots=True)
class Touched:
    """Who reads, when (seconds since the epoch), and the ids of the items whose time to live begins anew."""

    owner: str
    now: float
    item_ids: list[int]


def find_item(connection: Connection, op: GetOp, touched: Touched) -> Item | None:
    """The item, or None where there is none or its time is over."""
    row = connection.execute(
        f"{_ITEMS} AND path=? AND key=?", (touched.now, touched.owner, ".".join(op.namespace), op.key)
    ).fetchone()
    if row is None:
        return None
    _touch(row, op.refresh_ttl, touched)
    _, path, key, value, created_at, updated_at, *_ = row
    return Item(
        value=_parsed(value),
        key=key,
        namespace=_labels(path),
        created_at=_time(created_at),
        updated_at=_time(updated_at),
    )


def search(connection: Connection, op: SearchOp, touched: Touched) -> list[SearchItem]:
    """Items below the namespace whose values match the filter, the oldest first; a query ranks nothing."""
    found: list[SearchItem] = []
    skipped = 0
    for row in _all_below(connection, ".".join(op.namespace_prefix), touched):
        if len(found) >= op.limit:
            break
        _, path, key, content, created_at, updated_at, *_ = row
        value = _parsed(content)
        if op.filter and not all(_agrees(value.get(name), wanted) for name, wanted in op.filter.items()):
            continue
        skipped += 1
        if skipped <= op.offset:
            continue
        _touch(row, op.refresh_ttl, touched)
        found.append(SearchItem(_labels(path), key, value, _time(created_at), _time(updated_at)))
    return found


def _all_below(connection: Connection, path: str, touched: Touched) -> Iterator[Sequence[Any]]:
    # By pages: not all that there is at once.
    below, parameters = _below(path)
    sql = f"{_ITEMS} AND {below} AND (namespace_id, items.id) > (?, ?) ORDER BY namespace_id, items.id LIMIT {_PAGE}"
    last: tuple[int, int] = (-1, -1)
    while True:
        rows = connection.execute(sql, (touched.now, touched.owner, *parameters, *last)).fetchall()
        yield from rows
        if len(rows) < _PAGE:
            return
        last = (rows[-1][7], rows[-1][0])


def list_namespaces(connection: Connection, op: ListNamespacesOp, touched: Touched) -> list[Namespace]:
    """The namespaces that have items and meet all conditions, cut to `max_depth`, in the order of their labels."""
    rows = connection.execute(
        "SELECT path FROM item_namespaces AS spaces WHERE owner=? AND EXISTS (SELECT 1 FROM items "
        "WHERE namespace_id = spaces.id AND (expires_at IS NULL OR expires_at > ?))",
        (touched.owner, touched.now),
    )
    all_of_them = (_labels(path) for (path,) in rows)
    matching = [space for space in all_of_them if all(_meets(space, one) for one in op.match_conditions or ())]
    if op.max_depth is not None:
        matching = list({space[: op.max_depth] for space in matching})
    return sorted(matching)[op.offset : op.offset + op.limit]


def write_item(connection: Connection, op: PutOp, value: bytes | None, touched: Touched) -> None:
    """Make, change or (without a value) delete an item; its creation time and place in the order stay."""
    path, owner, now = ".".join(op.namespace), touched.owner, touched.now
    if value is None:
        _delete_item(connection, owner, path, op.key)
        return
    connection.execute("INSERT INTO item_namespaces (owner, path) VALUES (?, ?) ON CONFLICT DO NOTHING", (owner, path))
    expires_at = None if op.ttl is None else now + op.ttl * 60
    connection.execute(
        "INSERT INTO items (namespace_id, key, value, created_at, updated_at, ttl_minutes, expires_at) "
        "SELECT id, ?, ?, ?, ?, ?, ? FROM item_namespaces WHERE owner=? AND path=? "
        "ON CONFLICT (namespace_id, key) DO UPDATE SET value=excluded.value, updated_at=excluded.updated_at, "
        "ttl_minutes=excluded.ttl_minutes, expires_at=excluded.expires_at",
        (op.key, value, now, now, op.ttl, expires_at, owner, path),
    )


def _delete_item(connection: Connection, owner: str, path: str, key: str) -> None:
    space = connection.execute("SELECT id FROM item_namespaces WHERE owner=? AND path=?", (owner, path)).fetchone()
    if space is not None:
        connection.execute("DELETE FROM items WHERE namespace_id=? AND key=?", (space[0], key))
        _drop_if_empty(connection, space[0])


def sweep(connection: Connection, now: float) -> None:
    """Delete some of the items whose time is over, of every owner."""
    rows = connection.execute(
        "SELECT id, namespace_id FROM items WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", (now, _SWEPT)
    ).fetchall()
    connection.executemany("DELETE FROM items WHERE id=?", [(row[0],) for row in rows])
    for namespace_id in {row[1] for row in rows}:
        _drop_if_empty(connection, namespace_id)


def _drop_if_empty(connection: Connection, namespace_id: int) -> None:
    connection.execute(
        "DELETE FROM item_namespaces WHERE id=? AND NOT EXISTS (SELECT 1 FROM items WHERE namespace_id=?)",
        (namespace_id, namespace_id),
    )


def refresh(connection: Connection, touched: Touched) -> None:
    """Let the time to live of what was read begin anew."""
    connection.executemany(
        "UPDATE items SET expires_at = ? + ttl_minutes * 60 WHERE id=?",
        [(touched.now, item_id) for item_id in touched.item_ids],
    )


def _touch(row: Sequence[Any], wanted: bool, touched: Touched) -> None:
    if wanted and row[6] is not None:
        touched.item_ids.append(row[0])


def _below(path: str) -> tuple[str, tuple[str, ...]]:
    # "/" is the character after ".": between the two lies all that begins with the path and a dot.
    return ("(path = ? OR (path > ? AND path < ?))", (path, path + ".", path + "/")) if path else ("1 = 1", ())


def _labels(path: str) -> Namespace:
    return tuple(path.split(".")) if path else ()


def _meets(space: Namespace, condition: MatchCondition) -> bool:
    wanted = condition.path
    if condition.match_type not in ("prefix", "suffix"):
        raise ValueError(f"expected match_type 'prefix' or 'suffix', found {condition.match_type!r}")
    if len(space) < len(wanted):
        return False
    part = space[: len(wanted)] if condition.match_type == "prefix" else space[len(space) - len(wanted) :]
    return all(label in ("*", mine) for mine, label in zip(part, wanted, strict=True))


def _agrees(value: object, wanted: object) -> bool:
    """Whether a value is what a filter asks for: equal, part by part, or as its operators say."""
    if isinstance(wanted, Mapping):
        if any(str(key).startswith("$") for key in wanted):
            return all(_compares(value, operator, operand) for operator, operand in wanted.items())
        return isinstance(value, Mapping) and all(_agrees(value.get(key), inner) for key, inner in wanted.items())
    if isinstance(wanted, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(wanted):
            return False
        return all(_agrees(mine, inner) for mine, inner in zip(value, wanted, strict=True))
    return value == wanted


def _compares(value: Any, operator: str, operand: Any) -> bool:
    if operator == "$eq":
        return bool(value == operand)
    if operator == "$ne":
        return bool(value != operand)
    if operator not in ("$gt", "$gte", "$lt", "$lte"):
        raise ValueError(f"expected one of $eq, $ne, $gt, $gte, $lt and $lte in a filter, found {operator!r}")
    try:
        mine, theirs = float(value), float(operand)
    except (TypeError, ValueError):
        # An item without that number does not match; it must not fail the search for the others.
        return False
    if operator[1] == "g":
        return mine > theirs or (operator == "$gte" and mine == theirs)
    return mine < theirs or (operator == "$lte" and mine == theirs)


def written(op: PutOp) -> bytes | None:
    """The value as it is stored; None deletes. Raises StoreError when it is no JSON."""
    if op.value is None:
        return None
    try:
        # Text from models may have half a character (a lone surrogate), which is no UTF-8.
        return json.dumps(dict(op.value), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError) as error:
        place = "/".join((*op.namespace, op.key))
        raise StoreError(
            f"expected JSON (objects, lists, texts, numbers, true, false, null) as the value of {place}, found what "
            f"is none: {error}; convert it before you put it, e.g. with model_dump(mode='json')"
        ) from error


def _parsed(content: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(content.decode("utf-8", "surrogatepass"))
    return parsed


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

"""How records become rows and rows records: one column for each field, JSON as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Generic, TypeVar

import orjson

from plait.store.connections import Connection
from plait.store.service.conditions import Condition
from plait.store.service.records import (
    AssistantRecord,
    CronRecord,
    KeyRecord,
    RunRecord,
    ThreadRecord,
)

__all__ = ["ASSISTANTS", "CRONS", "KEYS", "RUNS", "THREADS", "VERSIONS", "Table", "dumped", "loaded"]

R = TypeVar("R", bound=AssistantRecord | ThreadRecord | RunRecord | KeyRecord | CronRecord)


def dumped(value: object) -> str | None:
    """JSON text, None for None; ValueError or TypeError for what is no JSON."""
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # Half a surrogate pair or a number over 64 bits: valid JSON, if only Python's own reads it.
        return json.dumps(value, allow_nan=False, separators=(",", ":"))


def loaded(text: str | None) -> object:
    """What `dumped` was given."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


class Table(Generic[R]):
    """A table whose columns are named like the fields of a record."""

    def __init__(self, name: str, record: type[R], *, json_fields: Sequence[str], flags: Sequence[str] = ()) -> None:
        self.name = name
        self.fields = tuple(field.name for field in fields(record))
        self._record: Callable[..., R] = record
        self._json = tuple(self.fields.index(field) for field in json_fields)
        self._flags = tuple(self.fields.index(field) for field in flags)
        # Quoted: "values" is also a word of SQL.
        self.columns = ", ".join(f'{name}."{field}"' for field in self.fields)
        names = ", ".join(f'"{field}"' for field in self.fields)
        self.insert = f"INSERT INTO {name} ({names}) VALUES ({', '.join('?' * len(self.fields))})"  # noqa: S608
        self.returning = f"RETURNING {names}"
        self._key = self.fields[0]
        changes = ", ".join(f'"{field}" = ?' for field in self.fields)
        self._update = f"UPDATE {name} SET {changes} WHERE {self._key} = ?"  # noqa: S608

    def encoded(self, record: R) -> tuple[object, ...]:
        """A row of `columns`."""
        row = [getattr(record, field) for field in self.fields]
        for index in self._json:
            row[index] = dumped(row[index])
        return tuple(row)

    def decoded(self, row: Sequence[object]) -> R:
        """The record of a row of `columns`."""
        found = list(row)
        for index in self._json:
            text = found[index]
            if text is not None:
                # What most rows hold in most of their JSON columns.
                found[index] = {} if text == "{}" else loaded(str(text))
        for index in self._flags:
            found[index] = bool(found[index])
        return self._record(*found)

    def one(self, connection: Connection, where: Condition) -> R | None:
        """The row that the condition lets through."""
        sql = f"SELECT {self.columns} FROM {self.name} WHERE {where.sql}"  # noqa: S608
        row = connection.execute(sql, where.parameters).fetchone()
        return None if row is None else self.decoded(row)

    def all(
        self, connection: Connection, where: Condition, order: str, limits: tuple[int, int] | None = None
    ) -> list[R]:
        """The rows that the condition lets through, in this order; `limits` are how many, and how many to skip."""
        sql = f"SELECT {self.columns} FROM {self.name} WHERE {where.sql} ORDER BY {order}"  # noqa: S608
        parameters = where.parameters
        if limits is not None:
            sql += " LIMIT ? OFFSET ?"
            parameters += limits
        return [self.decoded(row) for row in connection.execute(sql, parameters)]

    def count(self, connection: Connection, where: Condition) -> int:
        """How many rows the condition lets through."""
        sql = f"SELECT count(*) FROM {self.name} WHERE {where.sql}"  # noqa: S608
        return int(connection.execute(sql, where.parameters).fetchone()[0])

    def add(self, connection: Connection, record: R) -> None:
        """A new row."""
        connection.execute(self.insert, self.encoded(record))

    def put(self, connection: Connection, record: R) -> None:
        """The row of the record's id becomes this one."""
        row = self.encoded(record)
        connection.execute(self._update, (*row, row[0]))


_OF_ASSISTANTS = ("config", "context", "metadata")
ASSISTANTS = Table("assistants", AssistantRecord, json_fields=_OF_ASSISTANTS)
VERSIONS = Table("assistant_versions", AssistantRecord, json_fields=_OF_ASSISTANTS)
THREADS = Table(
    "threads", ThreadRecord, json_fields=("metadata", "config", "values", "interrupts", "error"), flags=("temporary",)
)
RUNS = Table("runs", RunRecord, json_fields=("metadata", "kwargs", "usage", "timings", "error"), flags=("interactive",))
KEYS = Table("keys", KeyRecord, json_fields=())
CRONS = Table("crons", CronRecord, json_fields=("payload", "metadata"), flags=("enabled",))

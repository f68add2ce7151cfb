"""Looks up paid answers, in files and databases, on a thread of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from plait.flow.recorders import Answer
from plait.flow.usage import Tokens
from plait.store.answers import Answers
from plait.store.connections import Connection
from plait.store.media import Medium

__all__ = ["AnswerSources", "Found"]

_READ = (
    "key, hash, branch, status, headers, body, streamed, model, input_tokens, cached_tokens, output_tokens, estimated"
)


@dataclass(frozen=True, slots=True)
class Found:
    key: int
    hash: int
    branch: str
    answer: Answer


class AnswerSources:
    """Reads answers on a thread of its own, over one connection for each file or database."""

    def __init__(self, places: Iterable[Answers]) -> None:
        self._places = [place for place in places if _holds_any(place)]
        self._connections: dict[Answers, tuple[Medium, Connection]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def __bool__(self) -> bool:
        return bool(self._places)

    async def look_up(self, scope: int, *more: Answers) -> list[Found]:
        places = [*self._places, *(place for place in more if place not in self._places)]
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="plait-journal")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, scope, places)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.submit(self._disconnect)
            self._thread.shutdown(wait=False)

    def _read(self, scope: int, places: Sequence[Answers]) -> list[Found]:
        found = []
        for place in places:
            lines = self._select(place, scope)
            for key, digest, branch, status, headers, body, streamed, model, *tokens, estimated in lines:
                kept = tuple((str(name), str(value)) for name, value in json.loads(headers))
                answer = Answer(status, kept, body, bool(streamed), model, Tokens(*tokens), bool(estimated))
                found.append(Found(key, digest, branch, answer))
        return found

    def _select(self, place: Answers, scope: int) -> list[tuple[Any, ...]]:
        known = self._connections.get(place)
        if known is None:
            medium = place.medium()
            try:
                connection = place.connect(medium)
            except Exception as error:
                raise medium.explained(error, "read") from error
            if connection is None:
                return []  # a worker that has written nothing yet
            known = self._connections[place] = medium, connection
        medium, connection = known
        # In the order they were drawn.
        order = "rowid" if place.file is not None else "number"
        where = place.tables.where("scope = ? AND voided = 0")
        sql, values = f"SELECT {_READ} FROM calls {where} ORDER BY {order}", (*place.tables.key, scope)  # noqa: S608
        try:
            return medium.read(connection, lambda found: found.execute(sql, values).fetchall())
        except Exception as error:
            raise medium.explained(error, "read") from error

    def _disconnect(self) -> None:
        for medium, connection in self._connections.values():
            medium.close(connection, whole=False)


def _holds_any(place: Answers) -> bool:
    with place.reading() as read:
        return read is not None

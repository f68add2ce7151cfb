"""The paid answers of a batch, so that none is paid for twice.

An answer is known by its row (the scope), the branch it was asked in, and its request. Equal requests of one branch are
separate draws: each takes one of the answers there are, in the order they came. See docs/design/journal.md.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from plait.errors import CallUnrecorded
from plait.flow.calls import Call
from plait.flow.recorders import Answer
from plait.flow.usage import Tokens
from plait.store.files import explained
from plait.store.writers import Writer

_INSERT = (
    "INSERT INTO calls (key, scope, hash, branch, model, input_tokens, cached_tokens, output_tokens, estimated, "
    "status, headers, body, streamed, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SELECT = (
    "SELECT key, hash, branch, status, headers, body, streamed, model, input_tokens, cached_tokens, output_tokens, "
    "estimated FROM calls WHERE scope = ? AND NOT voided ORDER BY rowid"
)


class Journal:
    """The answers of one batch: written through `writer`, looked up in the files that held some before.

    `earlier` are the batch's own files (this writer's included) and `reused` those of another batch, whose
    deterministic answers are taken where a row's inputs and requests are the same; with `same_draws` the others, too,
    where they were asked in the same branch. With `recorded_only` every call must have an answer in one of them:
    another one raises CallUnrecorded.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        earlier: Iterable[Path] = (),
        reused: Iterable[Path] = (),
        same_draws: bool = False,
        recorded_only: bool = False,
    ) -> None:
        self._writer = writer
        self._earlier = _Files(earlier)
        self._reused = _Files(reused)
        self._same_draws = same_draws
        self._recorded_only = recorded_only
        self._declined: dict[int, set[str]] = {}
        self._begun: dict[int, tuple[Path, ...]] = {}
        """Rows that were begun, here or by a worker that died, with the files that hold answers for them."""

    async def open_row(self, row: str, branch: Callable[[], str]) -> RowJournal:
        """The journal of one row, with what was paid for it before; `branch` finds the branch of the running code."""
        scope = _number(row.encode())
        found: dict[int, deque[Answer]] = {}
        free: dict[int, Answer] = {}
        begun = self._begun.get(scope, ())
        if self._reused:
            declined = tuple(f"{branch}/" for branch in self._declined.get(scope, ()))
            for line in await self._reused.look_up(scope):
                if declined and f"{line.branch}/".startswith(declined):
                    continue
                answer = replace(line.answer, free=True)
                free[line.hash] = answer
                if self._same_draws:
                    # Before the row's own: those were paid for because these were used up.
                    found.setdefault(line.key, deque()).append(answer)
        if self._earlier or begun:
            for line in await self._earlier.look_up(scope, *begun):
                found.setdefault(line.key, deque()).append(line.answer)
        return RowJournal(self._writer, scope, branch, found, free, recorded_only=self._recorded_only)

    def expect_again(self, row: str, *files: Path) -> None:
        """The row will be run again; it was begun in this process, or in those that wrote `files`."""
        scope, more = _number(row.encode()), files or (self._writer.file,)
        self._begun[scope] = tuple(dict.fromkeys((*self._begun.get(scope, ()), *more)))

    async def void(self, row: str, branch: str) -> None:
        """Forget the answers that a branch of a row got, because its node could make nothing of them.

        Answers in the files of other processes stay.
        """
        self.decline([(row, branch)])
        await self._writer.do(lambda connection: _void(connection, [(row, branch)]))

    def forget(self, row: str) -> None:
        """Drop the row's answers, when nobody will ask for them again; does not wait for it."""
        scope = _number(row.encode())
        self._begun.pop(scope, None)
        self._writer.add("DELETE FROM calls WHERE scope = ?", (scope,))

    def decline(self, branches: Iterable[tuple[str, str]]) -> None:
        """Take no reused answers in these branches of rows: their nodes could make nothing of them."""
        for row, branch in branches:
            self._declined.setdefault(_number(row.encode()), set()).add(branch)

    def close(self) -> None:
        """Close what is read; the writer is its owner's."""
        self._earlier.close()
        self._reused.close()


def void(files: Iterable[Path], branches: Sequence[tuple[str, str]]) -> None:
    """Forget what these branches of rows were answered, in files that nobody writes now. Blocks.

    The answers stay in the files, as what was paid for.
    """
    for file in files:
        if branches and _holds_calls(file):
            with closing(sqlite3.connect(file, timeout=10.0)) as connection, connection:
                _void(connection, branches)


def _void(connection: sqlite3.Connection, branches: Sequence[tuple[str, str]]) -> None:
    connection.executemany(
        "UPDATE calls SET voided = 1 WHERE scope = ?1 AND (branch = ?2 OR substr(branch, 1, length(?3)) = ?3)",
        [(_number(row.encode()), branch, f"{branch}/") for row, branch in branches],
    )


class RowJournal:
    """A flow.Recorder for one execution of one row."""

    def __init__(
        self,
        writer: Writer,
        scope: int,
        branch: Callable[[], str],
        found: dict[int, deque[Answer]],
        free: dict[int, Answer],
        *,
        recorded_only: bool = False,
    ) -> None:
        self._writer = writer
        self._scope = scope
        self._branch = branch
        self._found = found
        self._free = free
        self._recorded_only = recorded_only

    def slot(self, call: Call) -> CallSlot | None:
        """The place of a call that begins here; equal calls of a branch take the answers there are, one each.

        None where it cannot be told from others. Raises CallUnrecorded where there is no answer and there must be.
        """
        if not call.digest and not self._recorded_only:
            return None
        branch = self._branch()
        key, digest = _number(branch.encode(), call.digest, scope=self._scope), _number(call.digest)
        answer = None
        with suppress(KeyError, IndexError):  # threads may ask at once: one of them gets it
            answer = self._found[key].popleft()
        if answer is None and call.deterministic:
            answer = self._free.get(digest)
        if answer is None and self._recorded_only:
            raise CallUnrecorded(
                f"no recorded answer fits this call of {call.model} (in {branch or 'no node'}): "
                "the prompt, the model or the graph has changed since; record it anew"
            )
        return CallSlot(self._writer, (key, self._scope, digest, branch), answer)


@dataclass(frozen=True, slots=True)
class CallSlot:
    """A flow.Slot."""

    _writer: Writer
    _place: tuple[int, int, int, str]
    answer: Answer | None

    async def record(self, answer: Answer) -> None:
        """Keep an answer; returns once it is durable. Cancelled, it is kept all the same. Raises StoreError."""
        await self._writer.added(_INSERT, self._line(answer))

    def record_blocking(self, answer: Answer) -> None:
        """The same on a thread that may wait."""
        self._writer.add_blocking(_INSERT, self._line(answer))

    def record_soon(self, answer: Answer) -> None:
        """Keep an answer without waiting for it."""
        self._writer.add(_INSERT, self._line(answer))

    def _line(self, answer: Answer) -> tuple[object, ...]:
        tokens = answer.tokens
        return (
            *self._place,
            answer.model,
            tokens.input,
            tokens.cached,
            tokens.output,
            answer.estimated,
            answer.status,
            json.dumps(answer.headers),
            answer.body,
            answer.streamed,
            time.time(),
        )


@dataclass(frozen=True, slots=True)
class _Line:
    key: int
    hash: int
    branch: str
    answer: Answer


class _Files:
    """Reads journals on a thread of its own, each file over one connection."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = [file for file in files if _holds_calls(file)]
        self._connections: dict[Path, sqlite3.Connection] = {}
        self._thread: ThreadPoolExecutor | None = None

    def __bool__(self) -> bool:
        return bool(self._files)

    async def look_up(self, scope: int, *more: Path) -> list[_Line]:
        files = [*self._files, *(file for file in more if file not in self._files)]
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="plait-journal")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, scope, files)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.submit(self._disconnect)
            self._thread.shutdown(wait=False)

    def _read(self, scope: int, files: Sequence[Path]) -> list[_Line]:
        found = []
        for file in files:
            lines = self._select(file, scope)
            for key, digest, branch, status, headers, body, streamed, model, *tokens, estimated in lines:
                kept = tuple((str(name), str(value)) for name, value in json.loads(headers))
                answer = Answer(status, kept, body, bool(streamed), model, Tokens(*tokens), bool(estimated))
                found.append(_Line(key, digest, branch, answer))
        return found

    def _select(self, file: Path, scope: int) -> list[tuple[Any, ...]]:
        try:
            connection = self._connections.get(file)
            if connection is None:
                if not _holds_calls(file):
                    return []  # a worker that has written nothing yet
                connection = self._connections[file] = _connect(file)
            return connection.execute(_SELECT, (scope,)).fetchall()
        except sqlite3.Error as error:
            raise explained(file, error, "read") from error

    def _disconnect(self) -> None:
        for connection in self._connections.values():
            connection.close()


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=10.0)


def _holds_calls(file: Path) -> bool:
    if not file.is_file():
        return False
    try:
        with closing(_connect(file)) as connection:
            # A process that was killed as it made its journal left a file without tables.
            made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone()
            return made is not None and connection.execute("SELECT 1 FROM calls LIMIT 1").fetchone() is not None
    except sqlite3.Error as error:
        raise explained(file, error, "read") from error


def _number(*parts: bytes, scope: int = 0) -> int:
    """A 64-bit number for these bytes: SQLite indexes it faster than text."""
    digest = blake2b(digest_size=8, key=scope.to_bytes(8, signed=True) if scope else b"")
    for part in parts:
        digest.update(len(part).to_bytes(4))
        digest.update(part)
    return int.from_bytes(digest.digest(), signed=True)

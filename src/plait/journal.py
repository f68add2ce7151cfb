"""The paid answers of a batch, so that none is paid for twice.

An answer is known by its row (the scope), the branch it was asked in, and its request. Equal requests of one branch are
separate draws: each takes one of the answers there are, in the order they came. See docs/design/journal.md.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b

from plait.answer_sources import AnswerSources
from plait.errors import CallUnrecorded
from plait.flow.calls import Call
from plait.flow.recorders import Answer
from plait.store.answers import Answers
from plait.store.connections import Connection
from plait.store.tables import Tables
from plait.store.writers import Writer

_COLUMNS = (
    "key, scope, hash, branch, model, input_tokens, cached_tokens, output_tokens, estimated, status, headers, body, "
    "streamed, at"
)


class Journal:
    """The answers of one batch: written through `writer` to `own`, looked up where some were kept before.

    `earlier` are the batch's own (this writer's included) and `reused` those of another batch, whose
    deterministic answers are taken where a row's inputs and requests are the same; with `same_draws` the others, too,
    where they were asked in the same branch. With `recorded_only` every call must have an answer in one of them:
    another one raises CallUnrecorded.
    """

    def __init__(
        self,
        writer: Writer,
        own: Answers,
        *,
        earlier: Iterable[Answers] = (),
        reused: Iterable[Answers] = (),
        same_draws: bool = False,
        recorded_only: bool = False,
    ) -> None:
        self._writer = writer
        self._own = own
        self._insert = own.tables.add("calls", _COLUMNS)
        self._earlier = AnswerSources(earlier)
        self._reused = AnswerSources(reused)
        self._same_draws = same_draws
        self._recorded_only = recorded_only
        self._declined: dict[int, set[str]] = {}
        self._begun: dict[int, tuple[Answers, ...]] = {}
        """Rows that were begun, here or by a worker that died, and where answers for them are."""

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
        keeper = Keeper(self._writer, self._insert, (*self._own.tables.key,))
        return RowJournal(keeper, scope, branch, found, free, recorded_only=self._recorded_only)

    def expect_again(self, row: str, *places: Answers) -> None:
        """The row will be run again; it was begun in this process, or in those that wrote to `places`."""
        scope, more = _number(row.encode()), places or (self._own,)
        self._begun[scope] = tuple(dict.fromkeys((*self._begun.get(scope, ()), *more)))

    async def void(self, row: str, branch: str) -> None:
        """Forget the answers that a branch of a row got, because its node could make nothing of them.

        Answers in the files of other processes stay.
        """
        self.decline([(row, branch)])
        await self._writer.do(lambda connection: _void(connection, self._own.tables, [(row, branch)]))

    def forget(self, row: str) -> None:
        """Drop the row's answers, when nobody will ask for them again; does not wait for it."""
        scope = _number(row.encode())
        self._begun.pop(scope, None)
        tables = self._own.tables
        self._writer.add(f"DELETE FROM calls {tables.where('scope = ?')}", (*tables.key, scope))  # noqa: S608

    def decline(self, branches: Iterable[tuple[str, str]]) -> None:
        """Take no reused answers in these branches of rows: their nodes could make nothing of them."""
        for row, branch in branches:
            self._declined.setdefault(_number(row.encode()), set()).add(branch)

    def close(self) -> None:
        """Close what is read; the writer is its owner's."""
        self._earlier.close()
        self._reused.close()


def void(places: Iterable[Answers], branches: Sequence[tuple[str, str]]) -> None:
    """Forget what these branches of rows were answered, where nobody writes now. Blocks.

    The answers stay there, as what was paid for.
    """
    for answers in places:
        medium = answers.medium()
        with answers.reading() as read:
            if not branches or read is None:
                continue
        try:
            connection = medium.open_to_write()
            try:
                medium.transact(connection, lambda known: _void(known, answers.tables, branches), alone=True)  # noqa: B023
            finally:
                medium.close(connection, whole=False)
        except Exception as error:
            raise medium.explained(error) from error


def _void(connection: Connection, tables: Tables, branches: Sequence[tuple[str, str]]) -> None:
    where = tables.where("scope = ? AND (branch = ? OR substr(branch, 1, ?) = ?)")
    connection.executemany(
        f"UPDATE calls SET voided = 1 {where}",  # noqa: S608
        [(*tables.key, _number(row.encode()), branch, len(inside := f"{branch}/"), inside) for row, branch in branches],
    )


@dataclass(frozen=True, slots=True)
class Keeper:
    """How an answer is written."""

    writer: Writer
    insert: str
    key: tuple[str, ...]


class RowJournal:
    """A flow.Recorder for one execution of one row."""

    def __init__(
        self,
        keeper: Keeper,
        scope: int,
        branch: Callable[[], str],
        found: dict[int, deque[Answer]],
        free: dict[int, Answer],
        *,
        recorded_only: bool = False,
    ) -> None:
        self._keeper = keeper
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
        return CallSlot(self._keeper, (key, self._scope, digest, branch), answer)


@dataclass(frozen=True, slots=True)
class CallSlot:
    """A flow.Slot."""

    _keeper: Keeper
    _place: tuple[int, int, int, str]
    answer: Answer | None

    async def record(self, answer: Answer) -> None:
        """Keep an answer; returns once it is durable. Cancelled, it is kept all the same. Raises StoreError."""
        await self._keeper.writer.added(self._keeper.insert, self._line(answer))

    def record_blocking(self, answer: Answer) -> None:
        """The same on a thread that may wait."""
        self._keeper.writer.add_blocking(self._keeper.insert, self._line(answer))

    def record_soon(self, answer: Answer) -> None:
        """Keep an answer without waiting for it."""
        self._keeper.writer.add(self._keeper.insert, self._line(answer))

    def _line(self, answer: Answer) -> tuple[object, ...]:
        tokens = answer.tokens
        return (
            *self._keeper.key,
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


def _number(*parts: bytes, scope: int = 0) -> int:
    """A 64-bit number for these bytes: SQLite indexes it faster than text."""
    digest = blake2b(digest_size=8, key=scope.to_bytes(8, signed=True) if scope else b"")
    for part in parts:
        digest.update(len(part).to_bytes(4))
        digest.update(part)
    return int.from_bytes(digest.digest(), signed=True)

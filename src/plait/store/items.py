"""The long-term store: what nodes remember across threads, by namespace and key, apart for every owner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from langgraph.store.base import (
    BaseStore,
    GetOp,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchOp,
    TTLConfig,
    validate_op_namespace,
)

from plait.errors import StoreError
from plait.store.addresses import Address, medium_of
from plait.store.connections import Connection
from plait.store.item_rows import (
    Touched,
    find_item,
    list_namespaces,
    prepare_items,
    refresh,
    search,
    sweep,
    write_item,
    written,
)
from plait.store.saver_reads import Read, blocking
from plait.store.service.readers import Readers
from plait.store.writers import Writer

__all__ = ["Items", "prepare_items"]


class Items(BaseStore):
    """LangGraph's store over a Writer of ours, prepared with `prepare_items`, and a `read` of the same file.

    Values are JSON objects. A search has no index: a query ranks nothing, as in LangGraph's InMemoryStore without
    one, and items come in the order in which they were made. Items with a time to live (minutes) are gone when it is
    over, for readers at once, on the disk with a later write; reading begins it anew (`ttl`, `refresh_ttl`).

    `abatch` reads before it writes, writes all or nothing, and returns when that is committed. The synchronous
    methods are for threads without an event loop (sync nodes); elsewhere they raise BlockingCall. A cancelled call
    does not undo what it wrote. Raises InvalidNamespaceError, ValueError for an unknown operator of a filter, and
    StoreError for values that are no JSON or a file that cannot be used.
    """

    supports_ttl = True
    __slots__ = ("_clock", "_owner", "_read", "_writer", "ttl_config")

    def __init__(
        self,
        writer: Writer,
        read: Read,
        *,
        owner: str = "",
        ttl: TTLConfig | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._writer = writer
        self._read = read
        self._owner = owner
        self._clock = clock
        self.ttl_config = ttl

    @classmethod
    @asynccontextmanager
    async def open(cls, address: Address, *, ttl: TTLConfig | None = None) -> AsyncIterator[Items]:
        """A store of its own, on a file (made with mode 0600) or a DSN, within `async with Items.open(...)`."""
        writer = Writer(medium_of(address, prepare=prepare_items, durability="kill"), gather_s=0)
        readers = Readers(writer.medium)
        try:
            await writer.do(lambda connection: None)  # the file and its tables are there from now on
            yield cls(writer, readers.read, ttl=ttl)
        finally:
            await asyncio.to_thread(readers.close)
            await asyncio.to_thread(writer.close)

    def of(self, owner: str) -> Items:
        """The items of one owner: it sees nobody else's, and nobody else sees its own."""
        return Items(self._writer, self._read, owner=owner, ttl=self.ttl_config, clock=self._clock)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The results of the operations, in their order; all reads see what was there before the writes."""
        asked = [*ops]
        for op in asked:
            if not isinstance(op, GetOp | SearchOp | ListNamespacesOp | PutOp):
                raise StoreError(f"expected a GetOp, SearchOp, ListNamespacesOp or PutOp, found {type(op).__name__}")
            validate_op_namespace(op)
        # Of several writes to one item, the last counts.
        writes = {(op.namespace, op.key): (op, written(op)) for op in asked if isinstance(op, PutOp)}
        results: list[Result] = [None] * len(asked)
        touched = Touched(self._owner, self._clock(), [])
        reads = [(index, op) for index, op in enumerate(asked) if not isinstance(op, PutOp)]
        if reads:
            found = await self._read(lambda connection: [_answer(connection, op, touched) for _, op in reads])
            for (index, _), result in zip(reads, found, strict=True):
                results[index] = result
        if writes or touched.item_ids:

            def write(connection: Connection) -> None:
                refresh(connection, touched)
                sweep(connection, touched.now)
                for op, value in writes.values():
                    write_item(connection, op, value, touched)

            await self._writer.do(write)
        return results

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """`abatch` for a thread without an event loop."""
        return blocking(self.abatch(ops), "abatch")


def _answer(connection: Connection, op: GetOp | SearchOp | ListNamespacesOp, touched: Touched) -> Result:
    if isinstance(op, GetOp):
        return find_item(connection, op, touched)
    if isinstance(op, SearchOp):
        return search(connection, op, touched)
    return list_namespaces(connection, op, touched)

"""The checkpointer: what a thread's runs did, in the store's own SQLite file, step by step."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from plait.errors import StoreError
from plait.store.addresses import Address, medium_of
from plait.store.checkpoints import StrictSerializer, schema_types
from plait.store.connections import Connection
from plait.store.saver_reads import Pages, Read, blocking, place_of
from plait.store.saver_removals import copy_thread, delete_runs, delete_thread, keep_latest
from plait.store.saver_rows import (
    INSERT_CHECKPOINT,
    INSERT_OWN_CHECKPOINT,
    INSERT_VALUE,
    INSERT_WRITES,
    delta_history,
    find,
    fitting,
    is_short,
    pack_writes,
    prepare_checkpoints,
)
from plait.store.saver_writes import Clean, finished
from plait.store.service.readers import Readers
from plait.store.writers import Writer

__all__ = ["Saver", "prepare_checkpoints"]

_CLONES = 500  # kept for that many different sets of types


class Saver(BaseCheckpointSaver[str]):
    """LangGraph's checkpointer over a Writer of ours; any number share one file, also from several processes.

    `aput` and `aput_writes` return when the record is committed. The file is `writer`'s, prepared with
    `prepare_checkpoints`; give the writer `gather_s=0`, since a run waits for each of its checkpoints before it
    writes the next. `read` reads the same file.

    Stored types are loaded strictly (`StrictSerializer`): plain values and messages always, a workflow's own types
    through `allowing(graph)`, which LangGraph's `compile` does by itself only with LANGGRAPH_STRICT_MSGPACK=true.
    The synchronous methods are for threads without an event loop (sync nodes); elsewhere they raise BlockingCall.
    A cancelled call does not undo what it wrote. All raise StoreError when the file cannot be used.
    With `server`, a checkpoint of a run that another server of the same store has taken over is left out.
    """

    def __init__(
        self,
        writer: Writer,
        read: Read,
        *,
        serde: SerializerProtocol | None = None,
        clean: Clean = str,
        server: str | None = None,
    ):
        super().__init__(serde=serde or StrictSerializer())
        self._writer, self._read, self._clean, self._server = writer, read, clean, server
        self._allowed: frozenset[object] = frozenset()
        self._clones: dict[frozenset[object], Saver] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, address: Address, *, serde: SerializerProtocol | None = None) -> AsyncIterator[Saver]:
        """A checkpointer of its own, on a file (made with mode 0600) or a DSN, within `async with Saver.open(...)`."""
        writer = Writer(medium_of(address, prepare=prepare_checkpoints, durability="kill"), gather_s=0)
        readers = Readers(writer.medium)
        try:
            await writer.do(lambda connection: None)  # the file and its tables are there from now on
            yield cls(writer, readers.read, serde=serde)
        finally:
            await asyncio.to_thread(readers.close)
            await asyncio.to_thread(writer.close)

    def allowing(self, *graphs: object, types: Collection[type] = ()) -> Saver:
        """This checkpointer for these graphs: it also loads the types that their schemas name, and `types`."""
        return self.with_allowlist([*types, *(kind for graph in graphs for kind in schema_types(graph))])

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...] | type]) -> Saver:
        """A checkpointer that loads these types, too, and shares everything else; LangGraph asks at every run."""
        extra = frozenset(extra_allowlist)
        if extra <= self._allowed:
            return self
        clone = self._clones.get(extra)
        if clone is None:
            clone = copy.copy(self)
            serde = self.serde
            if isinstance(serde, StrictSerializer):
                clone.serde = serde.with_msgpack_allowlist(extra)
            else:
                names = [(kind.__module__, kind.__name__) if isinstance(kind, type) else kind for kind in extra]
                clone.serde = super().with_allowlist(names).serde
            clone._allowed = self._allowed | extra  # noqa: SLF001 - of the same class
            clone._clones = {}  # noqa: SLF001
            if len(self._clones) >= _CLONES:
                self._clones.clear()
            self._clones[extra] = clone
        return clone

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the newest of its thread and namespace; None where there is none."""
        place, loads = place_of(config), self.serde.loads_typed
        return await self._read(lambda connection: find(connection, place, loads))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first; `filter` are values that the metadata must have."""
        pages = Pages(config, filter, before, limit, self.serde.loads_typed)
        while pages.left:
            for found in await self._page(pages):
                yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, with the values of `new_versions`; the older values it holds are stored already."""
        place = place_of(config)
        dumps = self.serde.dumps_typed
        short: dict[str, object] = {}
        long: list[tuple[object, ...]] = []
        for channel, value in checkpoint["channel_values"].items():
            if is_short(value):
                short[channel] = value
            elif channel in new_versions:
                form, content = dumps(value)
                long.append((place.thread_id, place.ns, channel, str(new_versions[channel]), form, fitting(content)))
        form, content = dumps({**checkpoint, "channel_values": short})
        described = get_serializable_checkpoint_metadata(config, metadata)
        row = (
            place.thread_id,
            place.ns,
            checkpoint["id"],
            place.checkpoint_id,
            described.get("run_id"),
            form,
            fitting(content),
            json.dumps(described, default=str),
        )
        # The values come first: a checkpoint that can be seen has all of them.
        for value_row in long:
            self._writer.add(INSERT_VALUE, value_row)
        if self._server is None:
            await self._writer.added(INSERT_CHECKPOINT, row)
        else:
            # One that slept has been taken for dead: its newer ids would hide what its successor did since.
            await self._writer.added(INSERT_OWN_CHECKPOINT, (*row, described.get("run_id"), self._server, self._server))
        return {
            "configurable": {
                "thread_id": place.thread_id,
                "checkpoint_ns": place.ns,
                "checkpoint_id": checkpoint["id"],
            }
        }

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a node's execution wrote at a checkpoint; of the same write twice the first counts."""
        place = place_of(config)
        packed = pack_writes(
            [
                (WRITES_IDX_MAP.get(channel, index), channel, self.serde.dumps_typed(value))
                for index, (channel, value) in enumerate(finished(writes, self._clean))
            ]
        )
        await self._writer.added(INSERT_WRITES, (*place, task_id, task_path, fitting(packed)))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete everything of a thread."""
        await self._writer.do(lambda connection: delete_thread(connection, str(thread_id)))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of these runs (`run_id` of their metadata) and their writes.

        A delta channel of a later checkpoint that was built on them loses what they wrote: delete the newest runs.
        """
        ids, loads = [str(run_id) for run_id in run_ids], self.serde.loads_typed
        await self._remove(lambda connection: delete_runs(connection, ids, loads))

    async def last_write(self, thread_id: str) -> int:
        """What `undo_writes` takes, to forget what is written on the thread from now on."""
        sql = "SELECT coalesce(max(id), 0) FROM checkpoint_writes WHERE thread_id = ?"
        return int(await self._read(lambda connection: connection.execute(sql, (str(thread_id),)).fetchone()[0]))

    async def undo_writes(self, thread_id: str, last: int) -> None:
        """Delete a thread's writes behind this one: those of a run that is rolled back, at checkpoints of others."""
        await self._writer.added("DELETE FROM checkpoint_writes WHERE thread_id = ? AND id > ?", (thread_id, last))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints, values and writes of a thread to another."""
        source, target = str(source_thread_id), str(target_thread_id)
        if source != target:
            await self._writer.do(lambda connection: copy_thread(connection, source, target))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Per thread, "delete" everything, or "keep_latest" of each namespace (and what its delta channels need)."""
        loads = self.serde.loads_typed
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"expected strategy 'keep_latest' or 'delete', found {strategy!r}")

        def prune(connection: Connection) -> None:
            for thread_id in map(str, thread_ids):
                if strategy == "delete":
                    delete_thread(connection, thread_id)
                else:
                    keep_latest(connection, thread_id, loads)

        await self._remove(prune)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """By channel, what was written since it was last stored whole, oldest first, and that whole value."""
        place, loads = place_of(config), self.serde.loads_typed
        return await self._read(lambda connection: delta_history(connection, place, channels, loads))

    def get_next_version(self, current: str | int | None, channel: None) -> str:
        """Growing as text; the end is random, since two branches of a thread may come to the same number."""
        number = 0 if current is None else int(str(current).partition(".")[0])
        return f"{number + 1:010}.{random.getrandbits(32):08x}"

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`aget_tuple` for a thread without an event loop."""
        return blocking(self.aget_tuple(config), "aget_tuple")

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """`alist` for a thread without an event loop."""
        pages = Pages(config, filter, before, limit, self.serde.loads_typed)
        while pages.left:
            yield from blocking(self._page(pages), "alist")

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`aput` for a thread without an event loop."""
        return blocking(self.aput(config, checkpoint, metadata, new_versions), "aput")

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """`aput_writes` for a thread without an event loop."""
        blocking(self.aput_writes(config, writes, task_id, task_path), "aput_writes")

    def delete_thread(self, thread_id: str) -> None:
        """`adelete_thread` for a thread without an event loop."""
        blocking(self.adelete_thread(thread_id), "adelete_thread")

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """`aget_delta_channel_history` for a thread without an event loop."""
        call = self.aget_delta_channel_history(config=config, channels=channels)
        return blocking(call, "aget_delta_channel_history")

    async def _remove(self, work: Callable[[Connection], None]) -> None:
        def refusing(connection: Connection) -> None:
            try:
                work(connection)
            except StoreError as error:
                # A StoreError would say to the writer that its file is lost; here one checkpoint is refused.
                raise _Refused(*error.args) from error

        try:
            await self._writer.do(refusing)
        except _Refused as error:
            raise StoreError(*error.args) from error

    async def _page(self, pages: Pages) -> Sequence[CheckpointTuple]:
        return pages.turn(await self._read(pages.read))


class _Refused(ValueError):
    """A checkpoint that must be read to delete others is refused by the serializer."""

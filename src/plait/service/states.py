"""What graphs have kept of a thread: read, listed, and changed by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot, StateUpdate

from plait.errors import PlaitError
from plait.service.assistants import check_graph
from plait.service.graphs import Graph
from plait.service.json_texts import plain
from plait.service.problems import problem
from plait.service.snapshots import iso, no_state, thread_state, waiting
from plait.store.service.faults import ThreadBusy, ThreadNotFound
from plait.store.service.records import Access, ThreadRecord
from plait.store.service.threads import ThreadOutcome

if TYPE_CHECKING:
    from plait.service.routes.asks import Ask

Places = Mapping[str, object]
"""`checkpoint_id`, `checkpoint_ns` and `checkpoint_map` of a checkpoint, each if it is known."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which states of a history."""

    limit: int
    before: Places | None = None
    metadata: Mapping[str, object] | None = None


def thread_json(record: ThreadRecord) -> dict[str, object]:
    """The thread as the API shows it."""
    return {
        "thread_id": record.thread_id,
        "created_at": iso(record.created_at),
        "updated_at": iso(record.updated_at),
        "state_updated_at": iso(record.state_updated_at),
        "metadata": dict(record.metadata),
        "status": record.status,
        "config": dict(record.config),
        "values": record.values,
        "error": record.error,
        "interrupts": dict(record.interrupts),
    }


async def found_thread(asked: Ask, thread_id: str, access: Access) -> ThreadRecord:
    """The thread. Raises ThreadNotFound where the caller may see none of that id."""
    found = await asked.service.store.threads.get(thread_id, access)
    if found is None or found.temporary:
        raise not_found(thread_id)
    return found


def not_found(thread_id: str) -> ThreadNotFound:
    """The error that there is no such thread."""
    return ThreadNotFound(f"Thread with ID {thread_id} not found")


async def state_of(asked: Ask, thread: ThreadRecord, place: Places, *, subgraphs: bool = False) -> dict[str, object]:
    """The state at a place as a ThreadState; an empty one where nothing is kept there."""
    async with _graph(asked, thread) as graph:
        if graph is None:
            return no_state()
        try:
            found = await graph.aget_state(_config(thread, place), subgraphs=subgraphs)
        except ValueError as error:
            return _nothing(place, error)
        return thread_state(found)


async def history_of(asked: Ask, thread: ThreadRecord, place: Places, page: Page) -> list[dict[str, object]]:
    """States of the thread, the latest first."""
    async with _graph(asked, thread) as graph:
        if graph is None:
            return []
        before = None if page.before is None else _config(thread, page.before)
        wanted = dict(page.metadata) if page.metadata else None
        states = graph.aget_state_history(_config(thread, place), filter=wanted, before=before, limit=page.limit)
        try:
            return [thread_state(state) async for state in states]
        except ValueError as error:
            _nothing(place, error)
            return []


async def write_state(
    asked: Ask, thread: ThreadRecord, place: Places, values: object, as_node: str | None
) -> Mapping[str, object]:
    """Write into a state by hand; the place of the new one.

    Raises HTTPException (400) where the thread has no graph or the graph refuses, ThreadBusy while it has runs.
    """
    _check_idle(thread)
    async with _graph(asked, thread) as graph:
        if graph is None:
            raise _no_graph(thread)
        async with _refusals():
            given = cast("dict[str, object] | None", values)
            written = await graph.aupdate_state(_config(thread, place), given, as_node)
        await _keep(asked, thread, graph)
        return written.get("configurable", {})


async def write_supersteps(asked: Ask, thread: ThreadRecord, supersteps: Sequence[Sequence[StateUpdate]]) -> None:
    """Write several steps, as if they had been run. Raises as `write_state`."""
    async with _graph(asked, thread) as graph:
        if graph is None:
            raise _no_graph(thread)
        async with _refusals():
            await graph.abulk_update_state(_config(thread, {}), supersteps)
        await _keep(asked, thread, graph)


@asynccontextmanager
async def _graph(asked: Ask, thread: ThreadRecord) -> AsyncIterator[Graph | None]:
    graph_id = thread.metadata.get("graph_id")
    if not isinstance(graph_id, str):
        yield None
        return
    check_graph(asked, graph_id)
    config: RunnableConfig = {"configurable": {"thread_id": thread.thread_id}}
    async with asked.service.graphs.opened(graph_id, owner=thread.owner, config=config) as graph:
        yield graph


@asynccontextmanager
async def _refusals() -> AsyncIterator[None]:
    try:
        yield
    except PlaitError:
        raise
    except Exception as error:  # reducers and edges are the workflow's: they raise what they like of such values
        raise problem(400, str(error) or type(error).__name__) from error


async def _keep(asked: Ask, thread: ThreadRecord, graph: Graph) -> None:
    latest = await graph.aget_state(_config(thread, {}))
    await asked.service.store.threads.set_state(thread.thread_id, outcome_of(latest))


def outcome_of(snapshot: StateSnapshot) -> ThreadOutcome:
    """What a state leaves of its thread where no run is going on."""
    return ThreadOutcome(
        "interrupted" if snapshot.next else "idle", values=plain(snapshot.values), interrupts=waiting(snapshot)
    )


def _config(thread: ThreadRecord, place: Places) -> RunnableConfig:
    known = {key: value for key, value in place.items() if value}
    return {
        "configurable": {"checkpoint_ns": "", **known, "thread_id": thread.thread_id},
        "metadata": {"graph_id": thread.metadata.get("graph_id")},
    }


def _nothing(place: Places, error: ValueError) -> dict[str, object]:
    # A namespace that the graph has no subgraph for: nothing is kept there.
    if not place.get("checkpoint_ns"):
        raise problem(400, str(error)) from error
    return no_state()


def _check_idle(thread: ThreadRecord) -> None:
    if thread.status == "busy":
        raise ThreadBusy(
            f"Thread {thread.thread_id} has runs that are not over: wait for them (join) or cancel them first"
        )


def _no_graph(thread: ThreadRecord) -> Exception:
    return problem(
        400,
        f"Thread {thread.thread_id!r} has no assigned graph ID, since no run has been made on it: run a workflow on "
        "it, or set graph_id in its metadata to the name of one",
    )

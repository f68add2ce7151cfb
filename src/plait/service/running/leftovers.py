"""What a run leaves when it is over: its values, its interrupts, the state its thread is in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

from plait.errors import PlaitError
from plait.service.graphs import Graph
from plait.service.json_texts import plain
from plait.store.service.records import Json, RunRecord, RunStatus, ThreadStatus


@dataclass(frozen=True, slots=True)
class Ended:
    """What a run came to, as JSON-ready values."""

    status: RunStatus
    values: Any = None
    error: Json | None = None
    failure: PlaitError | None = None
    interrupts: tuple[Json, ...] = ()
    thread_status: ThreadStatus = "idle"
    thread_interrupts: Json = field(default_factory=dict)
    parked: bool = False
    """The server goes down; the run goes on when it, or another one, is there again."""
    begun: bool = True
    """Whether its graph was; else the thread is what it was."""


async def left_by(run: RunRecord, graph: Graph, values: Any, status: RunStatus, *, temporary: bool) -> Ended:
    """How a run left its thread: from the `values` it streamed where they say it, else from its last checkpoint."""
    if status == "success" and not _stopped(values) and not _may_stop(graph, run.kwargs):
        return Ended(status, plain(values))
    thread_status: ThreadStatus = "error" if status in ("error", "timeout") else "interrupted"
    try:
        state = await graph.aget_state(cast("RunnableConfig", {"configurable": {"thread_id": run.thread_id}}))
    except Exception:  # noqa: BLE001 - what a reducer refused is refused again where its writes are read
        return Ended(status, None if temporary else plain(values), thread_status=thread_status)
    if status == "success" and not state.next:
        thread_status = "idle"
    interrupts = _interrupts(state.tasks)
    waiting: tuple[Json, ...] = ()
    if status == "success":
        state_values = _without_interrupts(values)
        waiting = tuple(plain(values["__interrupt__"])) if _stopped(values) else ()
    else:
        state_values = state.values
    return Ended(
        status,
        plain(state_values),
        interrupts=waiting,
        thread_status=thread_status,
        thread_interrupts=interrupts,
    )


def with_error(looked: Ended, failed: Ended) -> Ended:
    """What a run that failed left, with why it did."""
    return Ended(
        failed.status,
        looked.values,
        error=failed.error,
        failure=failed.failure,
        thread_status="error",
        thread_interrupts=looked.thread_interrupts,
    )


def _stopped(values: Any) -> bool:
    return isinstance(values, Mapping) and "__interrupt__" in values


def _without_interrupts(values: Any) -> Any:
    return {key: value for key, value in values.items() if key != "__interrupt__"} if _stopped(values) else values


def _may_stop(graph: Graph, kwargs: Json) -> bool:
    named = kwargs.get("interrupt_before") or kwargs.get("interrupt_after")
    graphs = (graph, *(cast("Graph", inner) for _, inner in graph.get_subgraphs(recurse=True)))
    return bool(named) or any(one.interrupt_before_nodes or one.interrupt_after_nodes for one in graphs)


def _interrupts(tasks: Iterable[Any]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for task in tasks:
        items = [{"id": item.id, "value": plain(item.value)} for item in task.interrupts]
        if items:
            found[str(task.id)] = cast("list[Json]", items)
        if isinstance(task.state, StateSnapshot):
            found |= _interrupts(task.state.tasks)
    return found

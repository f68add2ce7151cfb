"""A state of a graph, as the JSON that clients of the Agent Server API know as a ThreadState."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from langchain_core.runnables import RunnableConfig
from langgraph.types import Interrupt, PregelTask, StateSnapshot

from plait.service.json_texts import plain

_PLACE = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")


def thread_state(snapshot: StateSnapshot) -> dict[str, object]:
    """The snapshot as a ThreadState, ready for JSON; `checkpoint` is None where nothing is kept."""
    checkpoint = _place(snapshot.config, "checkpoint_id")
    parent = _place(snapshot.parent_config, "checkpoint_id")
    return {
        "values": plain(snapshot.values),
        "next": list(snapshot.next),
        "tasks": [_task(task) for task in snapshot.tasks],
        "metadata": None if snapshot.metadata is None else plain(snapshot.metadata),
        "created_at": snapshot.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent,
        "interrupts": interrupts_of(snapshot.interrupts),
        "checkpoint_id": checkpoint["checkpoint_id"] if checkpoint else None,
        "parent_checkpoint_id": parent["checkpoint_id"] if parent else None,
    }


def no_state() -> dict[str, object]:
    """The ThreadState of a thread that no graph has written to."""
    return thread_state(StateSnapshot({}, (), {}, None, None, None, (), ()))


def interrupts_of(interrupts: Iterable[Interrupt]) -> list[dict[str, object]]:
    """What waits for an answer, each as `{"id": ..., "value": ...}`."""
    return [{"id": one.id, "value": plain(one.value)} for one in interrupts]


def waiting(snapshot: StateSnapshot) -> dict[str, object]:
    """By task id, what waits for an answer: the `interrupts` of a thread."""
    return {task.id: interrupts_of(task.interrupts) for task in snapshot.tasks if task.interrupts}


def iso(seconds: float) -> str:
    """A time since the epoch as the API writes times: ISO 8601 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _task(task: PregelTask) -> dict[str, object]:
    state = task.state
    return {
        "id": task.id,
        "name": task.name,
        "path": plain(list(task.path)),
        "error": _error(task.error),
        "interrupts": interrupts_of(task.interrupts),
        "checkpoint": None if isinstance(state, StateSnapshot) else _place(state, "checkpoint_ns"),
        "state": thread_state(state) if isinstance(state, StateSnapshot) else None,
        "result": plain(task.result),
    }


def _error(error: object) -> str | None:
    if error is None:
        return None
    return error if isinstance(error, str) else repr(error)


def _place(config: RunnableConfig | None, needed: str) -> dict[str, object] | None:
    configurable: Mapping[str, object] = (config or {}).get("configurable", {})
    if not configurable.get(needed):
        return None
    found = {key: configurable[key] for key in _PLACE if key in configurable}
    return {"checkpoint_ns": "", **found}

"""What a graph streams, as the events that clients of the Agent Server API read.

The names and shapes are those of the reference server: `values`, `updates`, ... with `|node:id` behind them for what
comes from a subgraph; `messages` holds one chunk and its metadata (mode `messages-tuple`), `messages/partial` the
message so far (mode `messages`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import BaseMessage, BaseMessageChunk, message_chunk_to_message
from langgraph.types import StreamMode

from plait.branches import EventReader
from plait.json_events import event_fields
from plait.service.running.requests import PLAIT_MODE

_MODES = ("values", "updates", "messages", "custom", "tasks", "checkpoints", "debug")
_FOR_PLAIT = ("tasks", "custom", "values", "messages")

Said = tuple[str, object]
"""The name of an event, and its data."""


class Translation:
    """Turns the parts of one run (`astream(..., stream_mode=[...], subgraphs=True)`) into events.

    `modes` are those that were asked for; `graph_modes` what the graph has to stream for them.
    """

    def __init__(
        self,
        modes: Sequence[str],
        *,
        subgraphs: bool,
        output_keys: str | Sequence[str],
        clean: Callable[[str], str] = str,
    ) -> None:
        """`clean` takes out of the texts of errors what no client may see."""
        self._clean = clean
        self._modes = frozenset(modes)
        self._subgraphs = subgraphs
        self._output_keys = output_keys
        self._messages: dict[str, BaseMessageChunk | None] = {}
        self._reader = EventReader() if PLAIT_MODE in self._modes else None
        self.values: Any = None
        """What the root graph's state holds, with `__interrupt__` where it stopped at some."""

    @property
    def graph_modes(self) -> list[StreamMode]:
        """LangGraph's modes; `values` always, since they say how the run ends."""
        wanted = {"messages" if mode == "messages-tuple" else mode for mode in self._modes}
        if self._reader is not None:
            wanted |= set(_FOR_PLAIT)
        return [cast("StreamMode", mode) for mode in _MODES if mode in wanted or mode == "values"]

    def events(self, namespace: tuple[str, ...], mode: str, data: Any) -> Iterator[Said]:
        """The events of one part; most have one or none."""
        if mode == "values" and not namespace:
            self.values = data
        if self._reader is not None:
            yield from self._own(namespace, mode, data)
        if namespace and not self._subgraphs:
            return
        if mode == "messages":
            yield from self._said(namespace, *data)
        elif mode in self._modes:
            shown = _public(data) if mode in ("checkpoints", "debug") else data
            shown = _told(shown, self._clean) if mode in ("tasks", "checkpoints", "debug") else shown
            yield _named(mode, namespace), shown

    @property
    def outputs(self) -> Any:
        """The output that the graph's schema names."""
        values = self.values
        if not isinstance(values, Mapping):
            return values
        if isinstance(self._output_keys, str):
            return values.get(self._output_keys)
        return {key: values[key] for key in self._output_keys if key in values}

    def _said(self, namespace: tuple[str, ...], message: BaseMessage, metadata: Mapping[str, Any]) -> Iterator[Said]:
        if "messages-tuple" in self._modes:
            yield _named("messages", namespace), [message, metadata]
        elif "messages" in self._modes:
            key = message.id or ""
            if key not in self._messages:
                self._messages[key] = None
                yield _named("messages/metadata", namespace), {key: {"metadata": metadata}}
            if isinstance(message, BaseMessageChunk):
                earlier = self._messages[key]
                whole = message if earlier is None else earlier + message
                self._messages[key] = whole
                yield _named("messages/partial", namespace), [message_chunk_to_message(whole)]
            else:
                yield _named("messages/complete", namespace), [message]

    def _own(self, namespace: tuple[str, ...], mode: str, data: Any) -> Iterator[Said]:
        assert self._reader is not None
        if mode not in _FOR_PLAIT:
            return
        part: dict[str, Any] = {"type": mode, "ns": namespace, "data": data}
        found = [(PLAIT_MODE, event_fields(event)) for event in self._reader.read(part)]
        if mode == "tasks":
            yield PLAIT_MODE, self._progress(data)
        yield from found

    def _progress(self, task: Mapping[str, Any]) -> dict[str, object]:
        assert self._reader is not None
        branch = self._reader.branch_of_task(str(task["id"]))
        state = "started"
        if "result" in task:
            state = "failed" if task["error"] else "interrupted" if task["interrupts"] else "finished"
        return {"type": "node", "node": task["name"], "branch": branch, "label": branch, "state": state}


def _named(mode: str, namespace: tuple[str, ...]) -> str:
    return "|".join((mode, *namespace))


def _public(data: Any) -> Any:
    """Without what the server put into the configs of checkpoints: who asked, and LangGraph's own objects."""
    if not isinstance(data, Mapping):
        return data
    shown = dict(data)
    for key in ("config", "parent_config"):
        config = shown.get(key)
        if isinstance(config, Mapping):
            configurable = config.get("configurable") or {}
            kept = {k: v for k, v in configurable.items() if not k.startswith(("__", "langgraph_"))}
            shown[key] = {"configurable": kept}
    if isinstance(shown.get("payload"), Mapping):
        shown["payload"] = payload = _public(shown["payload"])
        if shown.get("type") == "checkpoint":
            payload["checkpoint"] = _place(payload.get("config"))
            payload["parent_checkpoint"] = _place(payload.get("parent_config"))
    return shown


def _told(data: Any, clean: Callable[[str], str]) -> Any:
    """With the errors of tasks as they may be shown."""
    if not isinstance(data, Mapping):
        return data
    shown = dict(data)
    error = shown.get("error")
    if isinstance(error, BaseException):
        shown["error"] = {"error": type(error).__name__, "message": clean(str(error))}
    elif isinstance(error, str):
        shown["error"] = clean(error)
    if "payload" in shown:
        shown["payload"] = _told(shown["payload"], clean)
    if isinstance(shown.get("tasks"), list | tuple):
        shown["tasks"] = [_told(one, clean) for one in shown["tasks"]]
    return shown


def _place(config: Any) -> dict[str, object] | None:
    found = (config or {}).get("configurable") or {}
    keys = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")
    return {key: found[key] for key in keys if key in found} if found.get("checkpoint_id") else None

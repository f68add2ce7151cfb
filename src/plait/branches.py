"""Turns LangGraph's stream parts into events, each labelled with the branch it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables.config import var_child_runnable_config

from plait.events import CustomEvent, TokenEvent, UpdateEvent

_SEND = "__pregel_push"


def current_node() -> str:
    """The node around this code, with the nodes around its graph: `research/search`; empty outside any."""
    config = var_child_runnable_config.get()
    metadata = (config or {}).get("metadata") or {}
    # Models are called with the second of these, other code of a node with the first.
    namespace = metadata.get("langgraph_checkpoint_ns") or metadata.get("checkpoint_ns")
    if not isinstance(namespace, str) or not namespace:
        return str(metadata.get("langgraph_node") or "")
    return node_in(namespace)


def node_in(namespace: str) -> str:
    """The nodes that LangGraph's namespace of a task names: `research/search`."""
    # Numbers count the graphs that a node has begun.
    return "/".join(part.partition(":")[0] for part in namespace.split("|") if not part.isdigit())


def current_namespace() -> str:
    """LangGraph's namespace of the task around this code, unlike a path its own; empty outside any."""
    return str(_metadata().get("langgraph_checkpoint_ns") or "")


class BranchPaths:
    """Knows the nodes of one run by names that are the same when it is run again: `plan@1/search@2[3]`.

    A node is its name, its step and its index among the siblings that were sent; a nested graph's nodes follow the node
    they run in. LangGraph's own task ids differ from run to run, and a nested node's metadata does not say in which of
    several siblings it runs: so `note` is to be called in a node before it begins another graph.
    """

    def __init__(self) -> None:
        self._segments: dict[str, str] = {}
        self._asked: dict[str, str] = {}
        """By LangGraph's task id, the paths of the nodes that made calls."""

    def note(self, metadata: Mapping[str, Any] | None = None) -> None:
        """Remember the node around this code, or the one whose metadata this is."""
        metadata = _metadata() if metadata is None else metadata
        namespace = metadata.get("langgraph_checkpoint_ns")
        if namespace:
            task = namespace.rpartition("|")[2]
            if task not in self._segments:
                self._segments[task] = _segment(metadata)

    def current(self) -> str:
        """The path of the node around this code; empty outside any."""
        return self.of(_metadata())

    def of(self, metadata: Mapping[str, Any]) -> str:
        """The path of the node whose metadata this is; empty where it is of none."""
        namespace = metadata.get("langgraph_checkpoint_ns")
        if not namespace:
            return ""
        # Numbers count the graphs that a node has begun, in an order that may differ the next time.
        *outer, task = [part for part in namespace.split("|") if not part.isdigit()]
        found = [self._segments.get(part) or part.partition(":")[0] for part in outer]
        if found and _is_called(metadata):
            # A task of the functional API begins no graph: its caller is known by its name alone.
            found[-1] = outer[-1].partition(":")[0]
        path = "/".join([*found, _segment(metadata)])
        self._asked[task.partition(":")[2]] = path
        return path

    def of_task(self, task_id: str) -> str:
        """The path of a node by LangGraph's id of it; empty where it made no call."""
        return self._asked.get(task_id, "")


_YES = property(lambda _: True)


class NodeWatch(BaseCallbackHandler):
    """Notes every node that begins, for processes in which graphs do not tell by themselves (`bound_all_graphs`)."""

    run_inline = True
    ignore_llm = ignore_chat_model = ignore_retriever = _YES  # pyright: ignore[reportIncompatibleMethodOverride]
    ignore_agent = ignore_retry = ignore_custom_event = _YES  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, paths: BranchPaths) -> None:
        self._paths = paths

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        metadata: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Remember the node that begins."""
        self._paths.note(metadata or {})


def _metadata() -> Mapping[str, Any]:
    config = var_child_runnable_config.get() or {}
    metadata: Mapping[str, Any] = config.get("metadata") or {}
    if "langgraph_checkpoint_ns" in metadata:
        return metadata
    # Within a chain of a node LangGraph's part stands with the callbacks alone.
    return getattr(config.get("callbacks"), "metadata", None) or {}


def _is_called(metadata: Mapping[str, Any]) -> bool:
    path: tuple[Any, ...] = metadata.get("langgraph_path") or ()
    return len(path) > 1 and isinstance(path[1], tuple)


def _segment(metadata: Mapping[str, Any]) -> str:
    name = f"{metadata.get('langgraph_node')}@{metadata.get('langgraph_step')}"
    path: tuple[Any, ...] = metadata.get("langgraph_path") or ()
    if len(path) > 1 and path[0] == _SEND and isinstance(path[1], int):
        # A task of the functional API has the path of its caller there, and a number in the order of calls.
        name += f"[{path[1]}]"
    return name


class EventReader:
    """Reads the parts of one run (`astream(..., version="v2", subgraphs=True)`) in the order they come.

    A branch is known by the task that LangGraph announced for it: task ids stand in every namespace below, so a token
    from a nested graph finds its way back to the sibling it belongs to.
    """

    def __init__(self) -> None:
        self.outputs: Any = None
        """The latest output of the root graph."""
        self.interrupts: tuple[Any, ...] = ()
        self._branches: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._siblings: Counter[tuple[str, str]] = Counter()
        self._streamed: set[str] = set()

    def read(self, part: Any) -> Iterator[TokenEvent | UpdateEvent | CustomEvent]:
        """The events of one part; most have one or none."""
        data, namespace = part["data"], part["ns"]
        match part["type"]:
            case "messages":
                yield from self._tokens(*data)
            case "tasks" if "result" in data:
                yield from self._update(data)
            case "tasks":
                self._announce(data, namespace)
            case "custom":
                branch = self._branch_of(namespace)
                label = data.get("label") if isinstance(data, Mapping) else None
                yield CustomEvent(data, branch, label if isinstance(label, str) else self._label(branch))
            case "values" if not namespace:
                self.outputs = data
                self.interrupts = tuple(item.value for item in part.get("interrupts") or ())

    def branch_of_task(self, task_id: str) -> str:
        """The branch of a task that LangGraph announced, by its id; empty where it is unknown."""
        return self._branches.get(task_id, "")

    def _announce(self, task: Mapping[str, Any], namespace: tuple[str, ...]) -> None:
        parent = self._branch_of(namespace)
        name = task["name"]
        if _SEND in task["triggers"]:
            index = self._siblings[parent, name]
            self._siblings[parent, name] += 1
            name = f"{name}[{index}]"
        self._branches[str(task["id"])] = f"{parent}/{name}" if parent else str(name)

    def _update(self, task: Mapping[str, Any]) -> Iterator[UpdateEvent]:
        branch = self._branches.get(str(task["id"]), str(task["name"]))
        if task["error"] is None and not task["interrupts"]:
            yield UpdateEvent(task["name"], task["result"], branch, self._label(branch))

    def _tokens(self, message: Any, metadata: Mapping[str, Any]) -> Iterator[TokenEvent]:
        # Nodes that return whole messages are reported here too; only what a model says is a token.
        if not isinstance(message, AIMessage) or not (text := str(message.text)):
            return
        message_id = message.id or ""
        if isinstance(message, AIMessageChunk):
            self._streamed.add(message_id)
        elif message_id in self._streamed:
            return
        branch = self._branch_of(tuple(str(metadata.get("langgraph_checkpoint_ns", "")).split("|")))
        label = metadata.get("label")
        if isinstance(label, str):
            self._labels[branch] = label
        yield TokenEvent(text, branch, self._label(branch), message_id)

    def _branch_of(self, namespace: tuple[str, ...]) -> str:
        if not namespace:
            return ""
        name, _, task_id = namespace[-1].partition(":")
        return self._branches.get(task_id, name)

    def _label(self, branch: str) -> str:
        return self._labels.get(branch, branch)

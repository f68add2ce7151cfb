"""Follows one run: which nodes ran when, the model calls in them, the tools, and what nodes returned."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langgraph.types import Command

from plait.batches.scorings import CostOf
from plait.branches import BranchPaths, current_namespace, node_in
from plait.experiments.records import CallTrace, NodeTrace, ToolTrace
from plait.flow.calls import Call, Meter
from plait.flow.recorders import Answer
from plait.flow.timings import Timing
from plait.flow.usage import Tokens

_NODE = "graph:step:"
"""LangGraph's tag of a run that is a node's."""
_YES = property(lambda _: True)


@dataclass(slots=True)
class _Node:
    name: str
    branch: str
    began_s: float
    ended_s: float | None = None
    error: str | None = None
    outputs: object = None
    calls: list[CallTrace] = field(default_factory=list)


@dataclass(slots=True)
class _Tool:
    name: str
    args: Mapping[str, object]
    began_s: float
    ended_s: float | None = None
    error: str | None = None


class RunTrace(BaseCallbackHandler):
    """A callback handler of a run, and the flow.Observer of its calls."""

    run_inline = True
    ignore_llm = ignore_chat_model = ignore_retriever = _YES  # pyright: ignore[reportIncompatibleMethodOverride]
    ignore_retry = ignore_custom_event = _YES  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, paths: BranchPaths, cost_of: CostOf, now: Callable[[], float] = time.monotonic) -> None:
        self._paths = paths
        self._cost_of = cost_of
        self._now = now
        self._began = now()
        self._nodes: dict[UUID, _Node] = {}
        self._by_namespace: dict[str, _Node] = {}
        """By LangGraph's namespace: siblings that one node begins in several graphs share a branch."""
        self._outside = _Node("", "", 0.0)
        self._tools: dict[UUID, _Tool] = {}

    def nodes(self) -> tuple[NodeTrace, ...]:
        """Every execution of a node, in the order they began; one that was cut off ends now."""
        found = list(self._nodes.values())
        if self._outside.calls:
            found.append(self._outside)
        return tuple(
            NodeTrace(
                name=node.name,
                branch=node.branch,
                began_s=node.began_s,
                duration_s=(self._passed() if node.ended_s is None else node.ended_s) - node.began_s,
                calls=tuple(node.calls),
                error=node.error,
            )
            for node in sorted(found, key=lambda node: node.began_s)
        )

    def tools(self) -> tuple[ToolTrace, ...]:
        """The tools, in the order they began."""
        return tuple(
            ToolTrace(
                name=tool.name,
                args=tool.args,
                began_s=tool.began_s,
                duration_s=(self._passed() if tool.ended_s is None else tool.ended_s) - tool.began_s,
                error=tool.error,
            )
            for tool in self._tools.values()
        )

    def outputs_of(self, name: str) -> list[object]:
        """What the executions of a node wrote, those that ended well, in the order they began."""
        return [
            _written(node.outputs)
            for node in self._nodes.values()
            if node.name == name and node.ended_s is not None and node.error is None
        ]

    # --- callbacks of the graph ----------------------------------------------------------------------------

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **_: Any,
    ) -> None:
        """A node or a task of the functional API begins, or something else that is left alone."""
        metadata = metadata or {}
        namespace = str(metadata.get("langgraph_checkpoint_ns", ""))
        if any(tag.startswith(_NODE) for tag in tags or ()):
            self._paths.note(metadata)
        elif name != metadata.get("langgraph_node") or not self._is_task(namespace, metadata):
            return
        branch = self._paths.of(metadata)
        self._nodes[run_id] = self._by_namespace[namespace] = _Node(node_in(namespace), branch, self._passed())

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """A node ended."""
        if (node := self._nodes.get(run_id)) is not None:
            node.ended_s, node.outputs = self._passed(), outputs

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A node failed."""
        if (node := self._nodes.get(run_id)) is not None:
            node.ended_s, node.error = self._passed(), type(error).__name__

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        inputs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """A tool begins."""
        name = str((serialized or {}).get("name") or "")
        self._tools[run_id] = _Tool(name, dict(inputs or {}), self._passed())

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """A tool ended."""
        if (tool := self._tools.get(run_id)) is not None:
            tool.ended_s = self._passed()

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A tool failed."""
        if (tool := self._tools.get(run_id)) is not None:
            tool.ended_s, tool.error = self._passed(), type(error).__name__

    # --- flow.Observer -------------------------------------------------------------------------------------

    def replays(self, call: Call, answer: Answer) -> None:
        """The journal answered a call."""
        self._note(call.model, self._passed(), answer.tokens, Timing(), replayed=True, reused=answer.free)

    def begins(self, call: Call) -> Callable[[Meter | None, Timing], None]:
        """A call begins in the node around this code."""
        began_s, node = self._passed(), self._execution()

        def ends(meter: Meter | None, timing: Timing) -> None:
            tokens = meter.tokens if meter is not None else Tokens()
            self._note(call.model, began_s, tokens, timing, node=node, failed=meter is None)

        return ends

    def _note(
        self,
        model: str,
        began_s: float,
        tokens: Tokens,
        timing: Timing,
        *,
        node: _Node | None = None,
        replayed: bool = False,
        reused: bool = False,
        failed: bool = False,
    ) -> None:
        (node or self._execution()).calls.append(
            CallTrace(
                model=model,
                began_s=began_s,
                duration_s=self._passed() - began_s,
                waits=dict(timing.waits),
                first_token_s=timing.first_token_s,
                generation_s=timing.generation_s,
                input_tokens=tokens.input,
                cached_tokens=tokens.cached,
                output_tokens=tokens.output,
                replayed=replayed,
                reused=reused,
                failed=failed,
                cost_usd=self._cost_of({model: tokens}),
            )
        )

    def _execution(self) -> _Node:
        """The one around this code; where there is none, what holds the calls outside any."""
        return self._by_namespace.get(current_namespace(), self._outside)

    def _is_task(self, namespace: str, metadata: Mapping[str, Any]) -> bool:
        """Whether a task of the functional API begins: LangGraph tags it as no node, and gives it its caller's path."""
        path: tuple[Any, ...] = metadata.get("langgraph_path") or ()
        if len(path) < 2 or not isinstance(path[1], tuple):
            return False
        # What begins while the task runs is something within it.
        before = self._by_namespace.get(namespace)
        return before is None or before.ended_s is not None

    def _passed(self) -> float:
        return self._now() - self._began


def _written(outputs: object) -> object:
    """What a node wrote to the state: of a Command its update."""
    if isinstance(outputs, Command):
        return outputs.update
    if isinstance(outputs, list | tuple) and any(isinstance(each, Command) for each in outputs):
        merged: dict[str, object] = {}
        for each in outputs:
            update = each.update if isinstance(each, Command) else each
            merged |= dict(update) if isinstance(update, Mapping) else {}
        return merged
    return outputs

"""The app's workflows as the service runs them: with its checkpointer, and with the items of whoever asks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID, uuid5

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import Pregel

from plait.app import App, open_workflow
from plait.store.checkpoints import StrictSerializer, checkpoint_serializer
from plait.store.items import Items
from plait.store.savers import Saver
from plait.store.service.records import AssistantRecord

Graph = Pregel[Any, Any, Any, Any]

_NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
"""What clients of the Agent Server API make the id of a graph's own assistant with: `uuid5(_NAMESPACE, graph_id)`."""

_MOST_KEPT = 256


class Graphs:
    """Opens workflows; what they are opened with is kept, so that a run costs no more than LangGraph's own copy."""

    def __init__(self, app: App, saver: Saver, items: Items) -> None:
        self._app = app
        self._saver = saver
        self._items = items
        self._savers: dict[int, tuple[Graph, BaseCheckpointSaver[Any], StrictSerializer]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The workflows' names, as in langgraph.json: an assistant's `graph_id` is one of them."""
        return tuple(self._app.workflows)

    def assistants(self) -> list[AssistantRecord]:
        """One for each workflow, with an id made of its name, which every server of the app computes alike."""
        now = time.time()
        return [
            AssistantRecord(
                assistant_id=assistant_id(name),
                graph_id=name,
                name=name,
                description=entry.description or None,
                metadata={"created_by": "system"},
                created_at=now,
                updated_at=now,
            )
            for name, entry in self._app.workflows.items()
        ]

    @asynccontextmanager
    async def opened(
        self, graph_id: str, *, owner: str = "", config: RunnableConfig | None = None, temporary: bool = False
    ) -> AsyncIterator[Graph]:
        """The graph with the service's checkpointer and the owner's items; factories get `config`.

        A `temporary` one keeps its checkpoints in memory, until the block ends.
        Raises WorkflowNotFound and WorkflowBroken.
        """
        async with open_workflow(self._app, graph_id, config=cast("dict[str, object]", config or {})) as graph:
            saver, serializer = self._saver_of(graph)
            if temporary:
                saver = InMemorySaver(serde=serializer)
            yield graph.copy({"checkpointer": saver, "store": self._items.of(owner)})

    def _saver_of(self, graph: Graph) -> tuple[BaseCheckpointSaver[Any], StrictSerializer]:
        found = self._savers.get(id(graph))
        if found is None:
            found = (graph, self._saver.allowing(graph), checkpoint_serializer(graph))
            if len(self._savers) >= _MOST_KEPT:  # factories make a new graph for each run
                self._savers.clear()
            self._savers[id(graph)] = found
        return found[1], found[2]


def assistant_id(graph_id: str) -> str:
    """The id of the assistant that every graph has by itself."""
    return str(uuid5(_NAMESPACE, graph_id))

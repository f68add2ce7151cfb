"""One run from its first step to its last: what goes into the graph, what comes out of it, and how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Durability

from plait.bounds import bounds_for
from plait.branches import BranchPaths, NodeWatch
from plait.errors import PlaitError, QuotaReached, RunFailed, RunTimeout
from plait.failures import explain
from plait.flow.scopes import bounded, entered
from plait.journal import Journal
from plait.masking import masked, redacted
from plait.process import is_ours
from plait.service.callers import Caller
from plait.service.graphs import Graph, Graphs
from plait.service.running.beginnings import command_of, config_of, context_of, events_of, scope_of
from plait.service.running.leftovers import Ended, left_by, with_error
from plait.service.running.requests import PLAIT_MODE
from plait.service.running.translations import Said, Translation
from plait.settings import Settings
from plait.store.savers import Saver
from plait.store.service.faults import ServerDied
from plait.store.service.records import Json, RunRecord, RunStatus

logger = logging.getLogger("plait.service")

Publish = Callable[[Sequence[Said]], Awaitable[None]]


class Execution:
    """Executes a run that was claimed. `stop` ends it early, `drain` after the step it is in, `park` at once.

    `caller` is who asked for it, where that is known. A `resumed` run was begun before, by a server that
    ended: it goes on at its last checkpoint, and what its model calls answered after that is replayed. One that is
    `given_up` does not: it fails with ServerDied, and leaves the state that it got to.
    """

    def __init__(
        self,
        run: RunRecord,
        *,
        graphs: Graphs,
        settings: Settings,
        journal: Journal,
        keys: frozenset[str],
        caller: Caller | None = None,
        resumed: bool = False,
        given_up: bool = False,
    ) -> None:
        self.run = run
        self._resumed = resumed
        self.given_up = given_up
        self._graphs = graphs
        self._settings = settings
        self._journal = journal
        self._keys = keys
        self._caller = caller
        self._control = RunControl()
        self._task: asyncio.Task[Any] | None = None
        self._action: str | None = None
        self.began = time.monotonic()
        self.began_at = time.time()
        self._parked = False
        self.scope = scope_of(run, settings)
        self.last_write: int | None = None
        """On its thread, before it went on at a checkpoint of another run; None where it does not."""

    def stop(self, action: str) -> None:
        """End it now: no further model call begins, those in flight are closed."""
        self._action = action
        self.scope.cancel()
        if self._task is not None:
            self._task.cancel()

    def park(self) -> None:
        """End it now, to go on later; one that was stopped before does not."""
        self._parked = self._parked or self._action is None
        self.stop(self._action or "park")

    def drain(self) -> None:
        """Let it stop after the step that it is in."""
        self._control.request_drain()

    async def execute(self, publish: Publish, *, timeout_s: float, temporary: bool) -> Ended:
        """Run to the end. Raises nothing but what cancels it from elsewhere, and what `publish` raises."""
        self._task = asyncio.current_task()
        ended: Ended | None = None
        try:
            if self._action is not None:
                raise asyncio.CancelledError
            config = config_of(self.run, self._caller)
            async with self._graphs.opened(
                self.run.graph_id, owner=self.run.owner, config=config, temporary=temporary
            ) as graph:
                ended = await self._guarded(graph, config, publish, timeout_s, temporary)
        except asyncio.CancelledError as error:
            if self._action is None:
                if self._task is not None and self._task.cancelling():
                    raise
                return await self._failed(self._explained(error, None), publish)  # the workflow's own doing
            self._forget_cancel()
            return Ended("pending", parked=True) if self._parked else Ended("interrupted", begun=False)
        except Exception as error:
            if ended is None:  # the graph could not be opened, or its state not be told
                return await self._failed(self._explained(error, None), publish)
            logger.exception("run %s: its workflow failed as it was closed", self.run.run_id)
        finally:
            self._task = None
        return ended

    async def _guarded(
        self, graph: Graph, config: RunnableConfig, publish: Publish, timeout_s: float, temporary: bool
    ) -> Ended:
        kwargs = self.run.kwargs
        modes = cast("list[str]", kwargs.get("stream_mode") or ["values"])
        subgraphs = bool(kwargs.get("subgraphs"))
        translation = Translation(modes, subgraphs=subgraphs, output_keys=graph.output_channels, clean=self._clean)
        timer = asyncio.timeout(timeout_s)
        try:
            await self._open_journal(config)
            with entered(self.scope), bounded(bounds_for(graph.config, config)):
                try:
                    async with timer:
                        await self._stream(graph, config, translation, publish)
                finally:
                    # It is over: a cancellation that comes now would only lose how it ended.
                    self._task = None
        except GraphDrained:
            if self._action is None or self._parked:
                return Ended("pending", parked=True)
            ended = await left_by(self.run, graph, translation.values, "interrupted", temporary=temporary)
        except asyncio.CancelledError:
            if self._action is None:
                raise
            self._forget_cancel()
            if self._parked:
                return Ended("pending", parked=True)
            ended = await left_by(self.run, graph, translation.values, "interrupted", temporary=temporary)
        except Exception as error:  # noqa: BLE001 - whatever a workflow raises is how its run ended
            self.scope.cancel()
            failure = self._explained(error, timeout_s if timer.expired() else None)
            status: RunStatus = "timeout" if isinstance(failure, RunTimeout) else "error"
            ended = await self._failed(failure, publish, status=status)
            looked = await left_by(self.run, graph, translation.values, status, temporary=temporary)
            ended = with_error(looked, ended)
        else:
            ended = await left_by(self.run, graph, translation.values, "success", temporary=temporary)
        finally:
            if self.scope.cancelled:
                self.scope.close_calls()
        if PLAIT_MODE in modes:
            await publish([(PLAIT_MODE, self._end(ended, translation))])
        return ended

    async def _stream(self, graph: Graph, config: RunnableConfig, translation: Translation, publish: Publish) -> None:
        if self.given_up:
            raise ServerDied(self.run.attempt - 1)
        kwargs = self.run.kwargs
        context = context_of(graph, kwargs)
        options: dict[str, Any] = {
            "context": context,
            "stream_mode": translation.graph_modes,
            "interrupt_before": kwargs.get("interrupt_before"),
            "interrupt_after": kwargs.get("interrupt_after"),
            "durability": _durability(kwargs),
            "subgraphs": True,
            "control": self._control,
        }
        first = await self._input(graph, config)
        modes = cast("list[str]", kwargs.get("stream_mode") or [])
        if "events" in modes:
            parts: AsyncIterator[Any] = events_of(graph, first, config, options)
        else:
            parts = graph.astream(first, config, **options)
        async with aclosing(cast("Any", parts)):
            async for part in parts:
                if isinstance(part, dict):
                    await publish([("events", part)])
                    continue
                namespace, mode, data = part
                said = list(translation.events(namespace, mode, data))
                if said:
                    await publish(said)

    async def _input(self, graph: Graph, config: RunnableConfig) -> Any:
        """The input, or the command; None where an earlier attempt got as far as a checkpoint, which goes on."""
        kwargs = self.run.kwargs
        if self._resumed and graph.checkpointer:
            state = await graph.aget_state(cast("RunnableConfig", {"configurable": {"thread_id": self.run.thread_id}}))
            if (state.metadata or {}).get("run_id") == self.run.run_id:
                # Not once more from the checkpoint that it was to begin with.
                for place in ("checkpoint_id", "checkpoint_ns", "checkpoint_map"):
                    config.get("configurable", {}).pop(place, None)
                return None
        command = kwargs.get("command")
        if (command or kwargs.get("input") is None) and isinstance(graph.checkpointer, Saver) and not self._resumed:
            self.last_write = await graph.checkpointer.last_write(self.run.thread_id)
        return command_of(cast("Json", command)) if command else kwargs.get("input")

    async def _open_journal(self, config: RunnableConfig) -> None:
        paths = BranchPaths()
        if is_ours():
            self.scope.note_graph = paths.note
        else:
            config.update(merge_configs(config, {"callbacks": [NodeWatch(paths)]}))
        if self._resumed:
            self._journal.expect_again(self.run.run_id)
        self.scope.recorder = await self._journal.open_row(self.run.run_id, paths.current)

    def _explained(self, error: BaseException, expired_s: float | None) -> PlaitError:
        if expired_s is not None:
            return RunTimeout(
                f"{self.run.graph_id} did not finish within {expired_s:g} s; model calls begun: "
                f"{self.scope.usage.calls}"
            )
        try:
            return explain(error, self._settings)
        except Exception:  # noqa: BLE001 - a workflow's exception may fail at its own text
            failed = RunFailed(type(error).__name__)
            failed.__cause__ = error
            return failed

    async def _failed(self, failure: PlaitError, publish: Publish, *, status: RunStatus = "error") -> Ended:
        cause = failure.__cause__ if isinstance(failure, RunFailed) else None
        told = cause or failure
        text = self._clean(_words(told))
        if isinstance(failure, RunFailed):
            logger.warning("run %s failed at %s", self.run.run_id, _place(told))
        # The lines of code alone tell nothing of what was asked; the message may.
        logger.debug("run %s failed", self.run.run_id, exc_info=told)
        error: dict[str, object] = {"error": type(told).__name__, "message": text}
        if isinstance(told, QuotaReached):
            error["resets_at"] = told.resets_at
        said: list[Said] = [("error", error)]
        if PLAIT_MODE in cast("list[str]", self.run.kwargs.get("stream_mode") or []):
            said.insert(0, (PLAIT_MODE, {"type": "error", "branch": "", "label": "", **error}))
        await publish(said)
        return Ended(status, error=error, failure=failure, thread_status="error")

    def _clean(self, text: str) -> str:
        return redacted(masked(text), self._keys)

    def _end(self, ended: Ended, translation: Translation) -> Json:
        scope = self.scope
        return {
            "type": "end",
            "branch": "",
            "label": "",
            "run_id": self.run.run_id,
            "workflow": self.run.graph_id,
            "status": "interrupted" if ended.interrupts and ended.status == "success" else ended.status,
            "outputs": translation.outputs if ended.status == "success" else None,
            "usage": scope.usage.copy(),
            "timings": {node: timing.copy() for node, timing in scope.timings.items()},
            "duration_s": time.monotonic() - self.began,
            "interrupts": list(ended.interrupts),
        }

    def _forget_cancel(self) -> None:
        # The cancellation was ours and has done its work; what follows must be awaited as usual.
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or list(frames)
    return f"{own[-1].filename}:{own[-1].lineno}, in {own[-1].name}" if own else "an unknown place"


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - likewise
        return "its message cannot be read"


def _durability(kwargs: Json) -> Durability | None:
    # Nobody asks for the steps of a stateless run, unless it streams them.
    if kwargs.get("temporary") and not {"checkpoints", "debug"} & set(cast("list[str]", kwargs.get("stream_mode"))):
        return "exit"
    return cast("Durability | None", kwargs.get("durability"))

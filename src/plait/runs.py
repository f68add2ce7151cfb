"""Runs one workflow: a scope for its calls, typed events while it goes, a result at the end."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel
from langgraph.types import Command, StreamMode

from plait.afterwards import Afterwards, do_put_off
from plait.app import App, find_app, load_workflow, open_workflow, settings_of
from plait.bounds import bound, bounds_for
from plait.branches import EventReader, current_node
from plait.errors import PlaitError, RunTimeout
from plait.events import EndEvent, ErrorEvent, Event, Result, Status, UsageEvent
from plait.failures import explain
from plait.flow.registry import gate_for
from plait.flow.scopes import Scope, bounded, current_scope, entered
from plait.inputs import check_context, check_inputs
from plait.schemas import read_schema
from plait.settings import Settings, from_env

Graph = Pregel[Any, Any, Any, Any]
Inputs = Mapping[str, object] | Command[Any] | Sequence[object] | str | None
"""By name; or what resumes a run; or what a functional graph takes."""

_EVENTS_AHEAD = 1000
"""Events a run may be ahead of a slow reader before it waits."""


async def stream(
    workflow: str | Graph,
    inputs: Inputs,
    *,
    context: Mapping[str, object] | None = None,
    config: RunnableConfig | None = None,
    app: App | Path | str | None = None,
    settings: Settings | None = None,
    timeout_s: float | None = None,
    tokens: bool = True,
) -> AsyncGenerator[Event]:
    """Run a workflow (a name in langgraph.json, or a compiled graph) and yield its events, the last an EndEvent.

    `inputs` are checked against the graph's input schema. An interrupted run goes on with LangGraph's
    `Command(resume=...)`, a failed one with None, where the graph has a checkpointer.
    `config` is LangGraph's: callbacks, tags, `configurable` and `max_concurrency` are honoured. A run that fails yields
    an ErrorEvent and ends with status `error` or `timeout`; nothing is raised for it. Without `tokens` no answer is
    streamed for the events' sake, and a stream that breaks off may be repeated.

    Closing the iterator or cancelling its reader cancels the run: no further call begins, those in flight are closed.
    After the EndEvent the iterator ends when the work is done that nodes put off with `after_answer`; closing it then
    waits for that work.
    Raises PlaitError before the first event for what is wrong with the input, the app or the settings.
    """
    async with _opened(workflow, inputs, context, config, app, settings) as run:
        run.scope.watched = tokens
        events: asyncio.Queue[Event | None] = asyncio.Queue(_EVENTS_AHEAD)
        ended = False
        # A task of its own: a generator would run the graph in its reader's context, and a timeout cannot span a yield.
        driver = asyncio.create_task(_drive(run, events, timeout_s, tokens), name=f"plait run {run.scope.run_id}")
        # However the driver ends, its reader must not wait for another event.
        driver.add_done_callback(lambda _: events.put_nowait(None) if events.empty() else None)
        try:
            while not (driver.done() and events.empty()) and (event := await events.get()) is not None:
                ended = isinstance(event, EndEvent)
                yield event
            await driver
        finally:
            if not driver.done():
                if not ended:
                    run.scope.cancel()
                    driver.cancel()
                await asyncio.wait([driver])
            if run.scope.cancelled:
                run.scope.close_calls()


async def run(
    workflow: str | Graph,
    inputs: Inputs,
    *,
    context: Mapping[str, object] | None = None,
    config: RunnableConfig | None = None,
    app: App | Path | str | None = None,
    settings: Settings | None = None,
    timeout_s: float | None = None,
    afterwards: Afterwards | None = None,
) -> Result:
    """Run a workflow to its end and return its result. Arguments as in `stream`.

    What its nodes put off with `after_answer` is done before this returns, or handed to `afterwards`.
    Raises PlaitError: RunFailed with the workflow's exception as its cause, RunTimeout, CallRefused,
    EndpointUnreachable, or what is wrong with the input. Cancelling the caller cancels the run.
    """
    async with _opened(workflow, inputs, context, config, app, settings) as opened:
        opened.scope.watched = False
        return await complete(opened, timeout_s=timeout_s, afterwards=afterwards)


async def complete(opened: OpenRun, *, timeout_s: float | None = None, afterwards: Afterwards | None = None) -> Result:
    """Run what is open to its end; raises and cancels as `run` does."""
    opened.timer = timer = asyncio.timeout(timeout_s)
    try:
        with entered(opened.scope), bounded(bounds_for(opened.graph.config, opened.config)):
            async with timer:
                output = await opened.graph.ainvoke(opened.inputs, opened.config, context=opened.context, version="v2")
    except Exception as error:
        opened.scope.cancel()
        opened.scope.close_calls()
        await _finish(opened.scope, afterwards)
        raise _failure(error, opened, timeout_s if timer.expired() else None) from error
    except BaseException:
        opened.scope.cancel()
        opened.scope.close_calls()
        raise
    result = opened.result(output.value, tuple(item.value for item in output.interrupts))
    await _finish(opened.scope, afterwards)
    return result


def load(name: str, *, app: App | Path | str | None = None) -> Graph:
    """The compiled graph of a workflow, for LangGraph's own calls (ainvoke, astream, ...), `max_concurrency` kept true.

    Raises WorkflowNotFound, and WorkflowBroken where it cannot be loaded or only `open` can (asynchronous factories).
    """
    return bound(load_workflow(_app(app), name))


@asynccontextmanager
async def open(name: str, *, app: App | Path | str | None = None) -> AsyncIterator[Graph]:  # noqa: A001 - plait.open
    """The same for workflows whose factory is asynchronous or a context manager, closed at the end of the block."""
    async with open_workflow(await asyncio.to_thread(_app, app), name) as graph:
        yield bound(graph)


@dataclass(slots=True)
class OpenRun:
    """A run with everything checked, about to begin."""

    name: str
    graph: Graph
    inputs: Any
    context: Any
    config: RunnableConfig
    scope: Scope
    started: float
    unscoped_before: int
    timer: asyncio.Timeout | None = None
    """What ends it, while `complete` runs it."""

    def result(
        self,
        outputs: Any,
        interrupts: tuple[Any, ...] = (),
        *,
        status: Status = "success",
        error: PlaitError | None = None,
    ) -> Result:
        self.scope.usage.unscoped_calls = self.scope.gate.unscoped_calls - self.unscoped_before
        return Result(
            run_id=self.scope.run_id,
            workflow=self.name,
            status="interrupted" if interrupts else status,
            outputs=outputs,
            usage=self.scope.usage.copy(),
            duration_s=time.monotonic() - self.started,
            timings={node: timing.copy() for node, timing in self.scope.timings.items()},
            interrupts=interrupts,
            error=error,
        )


@asynccontextmanager
async def _opened(
    workflow: str | Graph,
    inputs: Inputs,
    context: Mapping[str, object] | None,
    config: RunnableConfig | None,
    app: App | Path | str | None,
    settings: Settings | None,
) -> AsyncIterator[OpenRun]:
    """Everything that can be wrong before the first call, checked; the graph open."""
    if isinstance(workflow, str):
        found, settings = await asyncio.to_thread(_app_and_settings, app, settings or _settings_around())
        opening: AbstractAsyncContextManager[Graph] = open_workflow(found, workflow)
        name = workflow
    else:
        opening, name = nullcontext(workflow), workflow.get_name()
    settings = settings or _settings_around() or from_env()
    async with opening as graph:
        values = check_inputs(graph, inputs, workflow=name) if isinstance(inputs, Mapping) else inputs
        checked = check_context(graph, context) if context else default_context(graph.context_schema)
        gate = gate_for(settings)
        scope = Scope(
            str(uuid.uuid4()), gate=gate, settings=settings, group=name, node=current_node, parent=current_scope()
        )
        yield OpenRun(name, graph, values, checked, config or {}, scope, time.monotonic(), gate.unscoped_calls)


async def _drive(run: OpenRun, events: asyncio.Queue[Event | None], timeout_s: float | None, tokens: bool) -> None:
    reader = EventReader()
    modes: list[StreamMode] = ["tasks", "custom", "values"]
    if tokens:
        modes.append("messages")
    failure: PlaitError | None = None
    status: Status = "success"
    timer = asyncio.timeout(timeout_s)
    try:
        with entered(run.scope), bounded(bounds_for(run.graph.config, run.config)):
            async with timer:
                parts = run.graph.astream(
                    run.inputs,
                    run.config,
                    context=run.context,
                    stream_mode=modes,
                    output_keys=run.graph.output_channels,
                    subgraphs=True,
                    version="v2",
                )
                async with aclosing(cast("AsyncGenerator[Any]", parts)):
                    async for part in parts:
                        for event in reader.read(part):
                            await _put(events, event, timer)
    except Exception as error:  # noqa: BLE001 - whatever a workflow raises becomes its ErrorEvent
        run.scope.cancel()
        failure = _failure(error, run, timeout_s if timer.expired() else None)
        status = "timeout" if isinstance(failure, RunTimeout) else "error"
        await events.put(ErrorEvent(failure))
    outputs = None if failure else reader.outputs
    result = run.result(outputs, reader.interrupts if not failure else (), status=status, error=failure)
    await events.put(UsageEvent(result.usage))
    await events.put(EndEvent(result))
    await do_put_off(run.scope)


async def _put(events: asyncio.Queue[Event | None], event: Event, timer: asyncio.Timeout) -> None:
    if not events.full():
        events.put_nowait(event)
        return
    # The time that a slow reader takes is not the run's.
    loop = asyncio.get_running_loop()
    end, began = timer.when(), loop.time()
    timer.reschedule(None)
    await events.put(event)
    timer.reschedule(end and end + loop.time() - began)


async def _finish(scope: Scope, afterwards: Afterwards | None) -> None:
    if afterwards is not None:
        afterwards.take(scope)
    else:
        await do_put_off(scope)


def _failure(error: Exception, run: OpenRun, expired_s: float | None) -> PlaitError:
    if expired_s is not None:
        failure: PlaitError = RunTimeout(
            f"{run.name} did not finish within {expired_s:g} s; model calls begun: {run.scope.usage.calls}"
        )
        failure.__cause__ = error
        return failure
    return explain(error, run.scope.settings)


def _settings_around() -> Settings | None:
    """Those of the run that this one is begun in."""
    scope = current_scope()
    return scope.settings if scope else None


def _app_and_settings(app: App | Path | str | None, settings: Settings | None) -> tuple[App, Settings]:
    found = _app(app)
    return found, settings or settings_of(found)


def default_context(schema: type | None) -> dict[str, object] | None:
    """An empty context where the schema has a default for every field, so that `runtime.context.x` works."""
    return {} if schema is not None and _has_defaults(schema) else None


@lru_cache(maxsize=256)
def _has_defaults(schema: type) -> bool:
    return not any(field.required for field in read_schema(schema, strict=True).fields.values())


def _app(app: App | Path | str | None) -> App:
    return app if isinstance(app, App) else find_app(Path(app) if app is not None else None)

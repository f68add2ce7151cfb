"""A run that one request asks for and waits for: how `/generate` and the chat completions begin it and see it end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from uuid import UUID

from fastapi import HTTPException, Request

from plait.errors import PlaitError
from plait.inputs import check_context
from plait.service.assistants import check_steps, resolve
from plait.service.clients import ClientGone, unless_gone
from plait.service.graphs import Graph
from plait.service.json_texts import loads, plain
from plait.service.problems import problem
from plait.service.routes.asks import Ask
from plait.service.running.courses import Course
from plait.service.running.requests import PLAIT_MODE, Outcome, Part, RunRequest
from plait.store.service.records import AssistantRecord

ReadInputs = Callable[[Graph], Mapping[str, object]]
"""Makes the checked inputs for a graph, as JSON-ready values. Raises InputError."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What a request asks for, besides the inputs."""

    workflow: str
    context: Mapping[str, object] | None = None
    streamed: bool = False
    thread_id: UUID | None = None
    config: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SingleRun:
    """A run that was begun."""

    run_id: str
    course: Course | None
    """What this server knows of it."""
    inputs: Mapping[str, object]
    output_names: str | tuple[str, ...]
    """What of the state is the output: one channel, or several by name."""
    speakers: frozenset[str]
    """The nodes that the graph can end with."""
    parts: AsyncGenerator[list[Part]] | None = None
    """The run's events, where it is streamed."""
    first: asyncio.Future[list[Part] | None] | None = None
    """The first of them."""

    def outputs(self, values: object) -> object:
        """The output in the values of a finished run's state."""
        if not isinstance(values, Mapping) or isinstance(self.output_names, str):
            return values
        return {name: values[name] for name in self.output_names if name in values}

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None before, and where another server had it."""
        return self.course.outcome if self.course else None

    @property
    def failure(self) -> PlaitError | None:
        """What made it fail."""
        return self.course.failure if self.course else None


async def find_workflow(asked: Ask, name: str) -> AssistantRecord:
    """The assistant of that name or id. Raises HTTPException (404) where the caller sees none."""
    try:
        return await resolve(asked, name)
    except HTTPException as error:
        if error.status_code != 422:
            raise
        names = ", ".join(asked.service.graphs.names)
        raise problem(404, f"expected a workflow, found {name!r}: workflows: {names}") from error


async def begin(asked: Ask, asking: Asking, read_inputs: ReadInputs) -> SingleRun:
    """Check everything that is asked for and begin the run.

    Raises InputError, HTTPException (404 for the workflow or thread, 429 for a full queue, 409 for a busy thread).
    """
    assistant = await find_workflow(asked, asking.workflow)
    async with asked.service.graphs.opened(assistant.graph_id, owner=asked.caller.identity) as graph:
        inputs = read_inputs(graph)
        context: Mapping[str, object] = plain(check_context(graph, asking.context or {}))
        names = graph.output_channels
        output_names = names if isinstance(names, str) else tuple(names)
        speakers = ending_nodes(graph) if asking.streamed else frozenset[str]()
    config = {**assistant.config, **asking.config}
    check_steps(asked, config)
    kwargs: dict[str, object] = {
        "input": dict(inputs),
        "config": config,
        "context": {**assistant.context, **context},
        # An assistant's own context may hold what is for other readers.
        "context_given": bool(context) and not assistant.context,
        "stream_mode": [PLAIT_MODE] if asking.streamed else ["values"],
        "temporary": asking.thread_id is None,
    }
    wanted: dict[str, object] = {
        "assistant_id": UUID(assistant.assistant_id),
        "thread_id": asking.thread_id,
        "metadata": {},
        "kwargs": kwargs,
        "if_not_exists": "create",
    }
    access = await asked.access("threads", "create_run", wanted)
    metadata = wanted["metadata"]  # an Auth handler may have put something into it
    runner = asked.service.runner
    run = await runner.start(
        RunRequest(
            assistant,
            asked.caller,
            access,
            thread_id=str(asking.thread_id) if asking.thread_id else None,
            kwargs=kwargs,
            metadata=metadata if isinstance(metadata, dict) else {},
            thread_metadata=metadata if isinstance(metadata, dict) else {},
            create_thread=True,
            streamed=asking.streamed,
            cancel_on_disconnect=True,
        )
    )
    # Read from here on: what happens before somebody listens is lost.
    parts = runner.follow(run.run_id) if asking.streamed else None
    first = asyncio.ensure_future(anext(parts, None)) if parts is not None else None
    return SingleRun(run.run_id, runner.course(run.run_id), inputs, output_names, speakers, parts, first)


def ending_nodes(graph: Graph) -> frozenset[str]:
    """The nodes that the graph can end with."""
    return frozenset(edge.source for edge in graph.get_graph().edges if edge.target == "__end__")


async def wait(asked: Ask, request: Request, run_id: str, *, timeout_s: float | None = None) -> Outcome | None:
    """How the run ended, None where it was deleted; it is cancelled when its client goes away or the time is over.

    Raises HTTPException: 504 for the time, 499 for the client, which nobody reads.
    """
    runner = asked.service.runner
    try:
        return await unless_gone(request, runner.outcome(run_id), timeout_s=timeout_s)
    except TimeoutError as error:
        await runner.cancel(run_id, reason="timeout_s is over")
        raise problem(504, f"the run did not finish within {timeout_s:g} s and was cancelled") from error
    except ClientGone as error:
        await runner.cancel(run_id, reason="its client went away")
        raise problem(499, "the client went away") from error
    except asyncio.CancelledError:
        await asyncio.shield(runner.cancel(run_id, reason="its request was cancelled"))
        raise


async def parts_of(asked: Ask, single: SingleRun) -> AsyncIterator[Part]:
    """The run's events of our own, and an `error` where the client reads too slowly: the run is cancelled then."""
    if single.parts is None or single.first is None:
        return
    async with aclosing(single.parts):
        try:
            found = await single.first
        finally:
            single.first.cancel()
        while found is not None:
            for part in found:
                if part.event == PLAIT_MODE:
                    yield part
                elif part.event == "error" and loads(part.data).get("error") == "ReaderTooSlow":
                    await asked.service.runner.cancel(single.run_id, reason="its client read too slowly")
                    yield part
            found = await anext(single.parts, None)


async def leave(asked: Ask, single: SingleRun) -> None:
    """The client is gone: nobody else waits for the run."""
    await asked.service.runner.cancel(single.run_id, reason="its client went away")

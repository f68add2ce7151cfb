"""Work that goes on after a run's answer is out: logging, billing, storing. Owned by somebody, awaited at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ParamSpec, Self

from plait.flow.scopes import Scope, current_scope, entered

logger = logging.getLogger("plait")

_P = ParamSpec("_P")


async def after_answer(work: Callable[_P, Awaitable[object]], *args: _P.args, **kwargs: _P.kwargs) -> None:
    """Put work off until the run around this node has given its answer; outside a run, do it now.

    It is done once, in the order it was put off, when the run succeeded or failed; a cancelled run drops it. What it
    raises is logged: the answer is out.
    """
    scope = current_scope()
    if scope is None:
        await work(*args, **kwargs)
    else:
        scope.put_off.append(lambda: work(*args, **kwargs))


class Afterwards:
    """Takes over what runs put off, so that `plait.run` returns at once; the end of the block waits for it.

        async with plait.Afterwards() as afterwards:   # the lifespan of a service
            result = await plait.run("story", inputs, afterwards=afterwards)

    Leaving the block waits for all of it; a cancellation meanwhile cancels what is left.
    """

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        """What the work raised so far."""
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An exception out of the block must not cancel the work, as a TaskGroup would: it belongs to finished runs.
        await self._group.__aexit__(None, None, None)

    def take(self, scope: Scope) -> None:
        """Begin what the run put off."""
        if scope.put_off:
            self._group.create_task(self._do(scope), name=f"plait afterwards {scope.run_id}")

    async def _do(self, scope: Scope) -> None:
        self.failures += await do_put_off(scope)


async def do_put_off(scope: Scope) -> list[Exception]:
    """Do what a run put off, one after the other; returns what went wrong, having logged it."""
    failures: list[Exception] = []
    if not scope.put_off:
        return failures
    # A scope of its own: the run may have failed and stopped its calls, and its result is counted.
    later = Scope(
        scope.run_id, gate=scope.gate, settings=scope.settings, watched=False, group=scope.group, node=scope.node
    )
    later.put_off, scope.put_off = scope.put_off, later.put_off
    with entered(later):
        while later.put_off:
            work = later.put_off.pop(0)
            try:
                await work()
            except Exception as error:
                logger.error("work after the answer of run %s failed", scope.run_id, exc_info=error)
                failures.append(error)
    return failures

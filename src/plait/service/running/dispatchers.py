"""Begins runs in their turn, as many at once as there may be, and keeps hold of the tasks that run them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from plait.service.running.courses import Course
from plait.service.running.queues import FairQueue, Waiting

logger = logging.getLogger("plait.service")

_TRY_AGAIN_S = 0.2

Begin = Callable[[Course], Coroutine[Any, Any, bool]]
"""Runs a course; False where its turn has not come, because another server runs something on its thread."""


class Dispatcher:
    """The queue of one server. `most` runs at once; `most_of` says how many of those one API key may have.

    `clock` is the store's, which gave the runs the times that they wait for: this host's may go wrong by itself.
    """

    def __init__(
        self, begin: Begin, *, most: int, most_of: Callable[[str], int | None], clock: Callable[[], float]
    ) -> None:
        self._begin = begin
        self._most = most
        self._most_of = most_of
        self._clock = clock
        self._queue = FairQueue()
        self._courses: dict[str, Course] = {}
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._context = contextvars.copy_context()

    @property
    def queued(self) -> int:
        """Runs that wait for their turn."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Runs that have begun."""
        return self._running.total()

    def has_room(self, client: str, most: int, *, coming: int) -> bool:
        """Whether a client may have another run wait, where `most` may and `coming` are about to be lined up."""
        # Those that begin at once do not wait.
        return self._queue.has_room(client, most, coming=max(0, coming - max(0, self._most - self.running)))

    def line_up(self, course: Course, *, not_before: float = 0.0) -> None:
        """Let a run wait for its turn."""
        run = course.run
        self._courses[run.run_id] = course
        self._queue.put(Waiting(run.run_id, run.thread_id, run.client, run.interactive, not_before or run.start_after))
        self.look()

    def withdraw(self, run_id: str) -> bool:
        """Whether the run was waiting; it is not any more."""
        found = self._queue.remove(run_id)
        if found:
            self._courses.pop(run_id, None)
            self.look()
        return found

    def look(self) -> None:
        """Begin whatever may begin now."""
        if self._stopped:
            return
        now = self._clock()
        while self.running < self._most and (found := self._queue.take(now, may=self._may)):
            course = self._courses.pop(found.run_id)
            self._running[course.run.key_id] += 1
            self.spawn(self._run(course), f"plait run {found.run_id}")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := self._queue.next_due()) is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self.look)

    def stop(self) -> None:
        """Begin no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    async def ended(self, within_s: float, *, unless: asyncio.Event) -> None:
        """Return when all that was begun or spawned has ended, after so many seconds, or when `unless` is set."""
        if not self._tasks:
            return
        sooner = asyncio.create_task(unless.wait())
        every = asyncio.create_task(self._all_ended())
        await asyncio.wait({sooner, every}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        sooner.cancel()
        every.cancel()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do something besides; what it raises is logged."""
        # In the context that this began in: not in that of whoever asks, nor of the run before it.
        found = asyncio.get_running_loop().create_task(work, name=name, context=self._context.copy())
        self._tasks.add(found)
        found.add_done_callback(self._forget)

    async def _all_ended(self) -> None:
        while self._tasks:  # those that end spawn what follows them
            await asyncio.wait(self._tasks)

    def _may(self, waiting: Waiting) -> bool:
        key_id = self._courses[waiting.run_id].run.key_id
        most = self._most_of(key_id) if key_id else None
        return most is None or self._running[key_id] < most

    async def _run(self, course: Course) -> None:
        run, begun = course.run, True
        try:
            begun = await self._begin(course)
        finally:
            self._running[run.key_id] -= 1
            self._queue.free(run.thread_id)
            if begun:
                self.look()
            else:
                self.line_up(course, not_before=self._clock() + _TRY_AGAIN_S)

    def _forget(self, found: asyncio.Task[None]) -> None:
        self._tasks.discard(found)
        if not found.cancelled() and (error := found.exception()) is not None:
            logger.error("%s failed", found.get_name(), exc_info=error)

"""How a server ends: it begins no more, lets its runs end, and leaves the others where the next server finds them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from plait.service.running.admissions import ENDS_WITH_CLIENT
from plait.service.running.courses import Course
from plait.service.running.dispatchers import Dispatcher
from plait.service.running.executions import Execution

_PARKING_S = 10.0


class Drain:
    """The end of the runs that a dispatcher begins, from `begun` to `over`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.begun = False
        self.over = False
        self._stepping = False
        self._parking = False
        self._hurried = asyncio.Event()
        self.parked = 0
        """Runs that go on at the next start."""

    async def run(self, courses: Mapping[str, Course], grace_s: float) -> None:
        """Begin no more, and let running runs end; those that do not within `grace_s` are parked.

        In the last fifth of that time they stop after the step they are in, at its end at once. Runs that are parked or
        were waiting are pending in the store and go on where they were; one that ends with its client is cancelled.
        """
        self.begun = True
        self._dispatcher.stop()
        await self._dispatcher.ended(0.8 * grace_s, unless=self._hurried)
        self._stepping = True
        self._fit_all(courses)
        await self._dispatcher.ended(0.2 * grace_s, unless=self._hurried)
        self._parking = True
        self._fit_all(courses)
        self._hurried.clear()
        await self._dispatcher.ended(_PARKING_S, unless=self._hurried)
        self.over = True

    def hurry(self) -> None:
        """Park what runs without waiting any longer."""
        self._hurried.set()

    def fit(self, course: Course, execution: Execution) -> None:
        """Let a run that begins meanwhile do as the others do."""
        if course.run.kwargs.get(ENDS_WITH_CLIENT):
            if self._parking and course.cancel is None:
                course.cancel, course.cancel_reason = "interrupt", "its server ended"
                execution.stop("interrupt")
            return
        if self._stepping:
            execution.drain()
        if self._parking:
            execution.park()

    def _fit_all(self, courses: Mapping[str, Course]) -> None:
        for course in courses.values():
            if course.execution is not None:
                self.fit(course, course.execution)

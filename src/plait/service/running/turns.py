"""Runs of one server from their place in line to their end, which is stored before anybody hears of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from plait.afterwards import Afterwards
from plait.batches.rows import known_keys
from plait.errors import StoreError
from plait.journal import Journal
from plait.service.running.admissions import ENDS_WITH_CLIENT
from plait.service.running.courses import Course
from plait.service.running.dispatchers import Dispatcher
from plait.service.running.drains import Drain
from plait.service.running.endings import Endings
from plait.service.running.equipment import Equipment
from plait.service.running.executions import Execution
from plait.service.running.logs import FirstToken, StreamLog
from plait.service.running.requests import Part

logger = logging.getLogger("plait.service")

_PARKED = Part(
    "error",
    b'{"error":"ServerStopped","message":"the server ends; the run goes on when it, or another one, is there again"}',
)
STORE_AWAY = (
    "the store does not answer, so that the end of the run cannot be told: "
    "it goes on when the store is back, or is cancelled if it was to end with its client"
)
_UNSTORED = Part("error", b'{"error":"StoreError","message":"%b"}' % STORE_AWAY.encode())
_AWAY_S = 1.0
"""Between attempts to begin a run, or to end one that has not begun, while the store is away."""


class Turns:
    """The runs that wait or run here, by their ids, and what becomes of them."""

    def __init__(self, equipment: Equipment, journal: Journal, afterwards: Afterwards) -> None:
        self.courses: dict[str, Course] = {}
        self._equipment = equipment
        self._server = equipment.server
        self._store = equipment.store
        self._options = options = equipment.options
        self._listener = equipment.listener
        self._journal = journal
        self._keys = known_keys(equipment.settings)
        self._endings = Endings(equipment, journal, afterwards)
        self.dispatcher = Dispatcher(
            self._begin,
            most=options.max_running,
            most_of=equipment.limits.max_running,
            clock=equipment.store.clock,
        )
        self.drain = Drain(self.dispatcher)

    def line_up(self, course: Course) -> None:
        """Let a run wait for its turn."""
        if self.drain.over:
            # It came too late, and is in the store for the next server.
            self.drain.parked += 1
            self.close(course)
            return
        self.courses[course.run.run_id] = course
        self._listener.on_queued(course.run)
        self.dispatcher.line_up(course)

    def withdraw(self, course: Course) -> bool:
        """Whether a run that was cancelled waited for its turn: then it has none, and ends so."""
        waited = self.dispatcher.withdraw(course.run.run_id)
        if waited:
            self.dispatcher.spawn(self._withdrawn(course), f"plait cancel {course.run.run_id}")
        return waited

    def let_go(self, course: Course) -> None:
        """Another server has the run."""
        course.lost = True
        if course.execution is not None:
            course.execution.stop("interrupt")
        elif self.dispatcher.withdraw(course.run.run_id):
            self.close(course)

    def goes_on(self, course: Course) -> bool:
        """Whether a run whose end could not be stored is worth waiting for, here and now."""
        return self._store.writer.medium.comes_back and not course.run.kwargs.get(ENDS_WITH_CLIENT)

    def close(self, course: Course) -> None:
        """Nothing more happens to the run here: whoever follows it hears that, once."""
        if course.topic.ended.is_set():
            return
        if self.courses.get(course.run.run_id) is course:
            del self.courses[course.run.run_id]
        unstored = course.outcome is None and course.failure is not None
        if course.outcome is None and not (course.lost or course.run.kwargs.get("resumable")):
            # Its stream ends, and it does not: whoever reads it is to know that.
            if self.drain.begun:
                course.topic.publish([_PARKED])
            elif unstored:
                course.topic.publish([_UNSTORED])
        course.topic.close(moved=course.lost)
        if course.lost or unstored:
            self._listener.on_moved(course.run)

    async def _begin(self, course: Course) -> bool:
        return await self._kept(course, self._in_turn(course))

    async def _withdrawn(self, course: Course) -> None:
        """End a run that was cancelled while it waited for its turn."""
        while not (await self._kept(course, self._unbegun(course)) or self.drain.over):
            pass  # the store is away

    async def _kept(self, course: Course, work: Coroutine[Any, Any, bool]) -> bool:
        """What `work` gives: False, and a moment later, for a run that still waits, also because its store is away.

        Else the run is over here, and closed.
        """
        begun = True
        try:
            begun = await work
        except Exception as error:
            if isinstance(error, StoreError) and course.execution is None and self._store.writer.medium.comes_back:
                begun = False
                await asyncio.sleep(_AWAY_S)
            else:
                logger.exception("run %s could not be kept track of", course.run.run_id)
                await self._lose_track(course)
        finally:
            if begun:  # whoever waits for it must not wait for ever
                self.close(course)
        return begun

    async def _in_turn(self, course: Course) -> bool:
        run = course.run
        claimed = (
            "busy"
            if self.drain.begun
            else await self._store.runs.claim(run.run_id, self._server, thread_id=run.thread_id)
        )
        if claimed == "claimed":
            course.run = replace(run, status="running", attempt=run.attempt + 1)
            await self._execute(course)
        elif claimed == "busy" and course.cancel is not None:
            await self._unbegun(course)
        else:
            course.lost = claimed != "busy"  # taken by an idle server, or deleted
            return course.lost
        return True

    async def _lose_track(self, course: Course) -> None:
        if course.lost:
            return
        try:
            await self._endings.lose_track(course)
        except Exception as error:  # noqa: BLE001 - it is logged, and the run goes on
            self._leave(course, error)
        if course.outcome is not None:
            self.dispatcher.spawn(
                self._endings.follow_up(course, course.execution), f"plait follow-up {course.run.run_id}"
            )

    def _leave(self, course: Course, error: Exception) -> None:
        """Its end is not in the store, so it is none: the keeper finds the run there and goes on with it."""
        logger.error("the end of run %s could not be stored, and it goes on later", course.run.run_id, exc_info=error)
        course.failure = StoreError(STORE_AWAY)

    async def _execute(self, course: Course) -> None:
        run = course.run
        # As it is begun once more only to be ended, a state that kills its server when it is read does so but once.
        given_up = run.attempt > self._options.max_attempts
        execution = Execution(
            run,
            graphs=self._equipment.graphs,
            settings=self._equipment.settings,
            journal=self._journal,
            keys=self._keys,
            caller=course.caller,
            resumed=course.resumed,
            given_up=given_up,
        )
        course.execution = execution
        execution.scope.observer = self._listener.on_started(run)
        if course.cancel is not None:
            execution.stop(course.cancel)
        self.drain.fit(course, execution)
        log = await self._log_of(course)
        publish = FirstToken(log.publish, lambda: self._listener.on_first_token(run, time.time() - course.queued_at))
        if given_up:
            logger.error("run %s was begun %d times and its server died each time", run.run_id, run.attempt - 1)
        else:
            await log.publish([("metadata", {"run_id": run.run_id, "attempt": run.attempt})])
        ended = await execution.execute(publish, timeout_s=self._options.timeout_s, temporary=course.temporary)
        await log.close()
        try:
            await self._endings.end(course, execution, ended)
        except StoreError as error:
            # It ended well, maybe: no other end is to be stored in place of this one.
            self._leave(course, error)
            return
        self.drain.parked += ended.parked
        self.close(course)
        if not (ended.parked or course.lost):
            self.dispatcher.spawn(self._endings.follow_up(course, execution), f"plait follow-up {run.run_id}")

    async def _log_of(self, course: Course) -> StreamLog:
        run = course.run
        if not run.kwargs.get("resumable"):
            return StreamLog(run.run_id, course.topic, None)
        last = await self._store.events.last_id(run.run_id) if course.resumed else None
        return StreamLog(run.run_id, course.topic, self._store.events, server=self._server, last_id=last)

    async def _unbegun(self, course: Course) -> bool:
        await self._endings.unbegun(course)
        if not course.lost:
            self.dispatcher.spawn(self._endings.follow_up(course, None), f"plait follow-up {course.run.run_id}")
        return True

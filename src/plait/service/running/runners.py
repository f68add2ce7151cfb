"""Runs what was asked for: in turn, once, to an end that is stored before anybody hears of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from plait.afterwards import Afterwards
from plait.batches.rows import known_keys
from plait.errors import StoreError
from plait.journal import Journal
from plait.service.callers import Caller
from plait.service.problems import problem, too_many
from plait.service.running.admissions import ENDS_WITH_CLIENT, records_of, thread_config
from plait.service.running.courses import Course
from plait.service.running.dispatchers import Dispatcher
from plait.service.running.drains import Drain
from plait.service.running.endings import Endings
from plait.service.running.equipment import Equipment
from plait.service.running.executions import Execution
from plait.service.running.followers import Follower, checked_id
from plait.service.running.logs import FirstToken, StreamLog
from plait.service.running.requests import Outcome, Part, RunRequest
from plait.service.running.topics import Topic
from plait.store.service.records import EVERYTHING, CancelAction, RunRecord

logger = logging.getLogger("plait.service")

_PARKED = Part(
    "error",
    b'{"error":"ServerStopped","message":"the server ends; the run goes on when it, or another one, is there again"}',
)
_STORE_AWAY = (
    "the store does not answer, so that the end of the run cannot be told: "
    "it goes on when the store is back, or is cancelled if it was to end with its client"
)
_UNSTORED = Part("error", b'{"error":"StoreError","message":"%b"}' % _STORE_AWAY.encode())
_AWAY_S = 1.0
"""Between attempts to begin a run, or to end one that has not begun, while the store is away."""


class Runner:
    """The runs of one server, each begun once; `server` is its name in the store."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        self.server = equipment.server
        self._store = equipment.store
        self._options = options = equipment.options
        self._limits = limits = equipment.limits
        self._listener = equipment.listener
        self._journal = Journal(equipment.store.writer, equipment.store.answers)
        self._keys = known_keys(equipment.settings)
        self._follower = Follower(equipment.store, equipment.listener)
        self._afterwards = Afterwards()
        self._endings = Endings(equipment, self._journal, self._afterwards)
        self._dispatcher = Dispatcher(
            self._begin, most=options.max_running, most_of=limits.max_running, clock=equipment.store.clock
        )
        self._courses: dict[str, Course] = {}
        self._coming: set[str] = set()
        self._drain = Drain(self._dispatcher)
        self._admitting = 0

    # --- for the routes ----------------------------------------------------------------------------------

    def check_room(self, client: str, count: int) -> None:
        """Raises HTTPException (429, 503) where a client may not have so many more runs wait."""
        self._refuse_more(client, count - 1)

    async def start(self, request: RunRequest) -> RunRecord:
        """Put a run in line. Raises HTTPException: 429, 503; ThreadNotFound, ThreadBusy, StoreError."""
        self._refuse_more(request.caller.client)
        self._admitting += 1
        try:
            return await self._admit(request)
        finally:
            self._admitting -= 1

    async def _admit(self, request: RunRequest) -> RunRecord:
        await self._limits.admit(request.caller)
        run, thread = records_of(request, self.server, self._store.clock)
        self._coming.add(run.run_id)
        try:
            admission = await self._store.runs.add(
                run,
                access=request.access,
                thread=thread,
                strategy=request.strategy,
                metadata={name: run.metadata[name] for name in ("graph_id", "assistant_id")},
                config=thread_config(request),
            )
        except asyncio.CancelledError:
            # It is stored all the same, and nobody would begin it.
            self._dispatcher.spawn(self._take_back(run), f"plait take back {run.run_id}")
            raise
        finally:
            self._coming.discard(run.run_id)
        if self._drain.over:
            await self._take_back(run)
            raise self._ending()
        run = admission.run
        temporary = request.thread_id is None and not request.keep_thread
        topic = Topic(awaited=request.streamed)
        self._line_up(Course(run, topic, temporary, request.caller, time.time()))
        if request.strategy in ("interrupt", "rollback"):
            reason = f"{request.strategy} by a newer run of the thread (multitask_strategy)"
            # The running one last: none of those behind it is to begin when it ends.
            for earlier in reversed(admission.inflight):
                await self.cancel(earlier.run_id, action=request.strategy, reason=reason)
            for earlier in admission.inflight:
                await self.cancel(earlier.run_id, action=request.strategy, reason=reason, wait=True)
        return run

    async def _take_back(self, run: RunRecord) -> None:
        await self._store.runs.delete(run.run_id, EVERYTHING)

    def follow(self, run_id: str, *, after: str | None = None) -> AsyncGenerator[list[Part]]:
        """The run's events from now on, as many at once as there are; of a resumable run those behind the id `after`.

        `-1` stands for all of them. Raises HTTPException (422) at once for an `after` that is no id.
        """
        return self._follow(run_id, checked_id(after))

    async def outcome(self, run_id: str) -> Outcome | None:
        """How the run ends, here or at another server; waits for it. None where it was deleted.

        Raises HTTPException (503) where it is parked because this server ends, and where the store cannot be read.
        """
        course = self._courses.get(run_id)
        if course is not None:
            await course.topic.ended.wait()
            if course.outcome is not None:
                return course.outcome
            if self._drain.begun:
                raise self._ending()
            if course.failure is not None and not self._goes_on(course):
                raise self._away()
        try:
            return await self._follower.outcome(run_id)
        except StoreError as error:
            raise self._away() from error

    def course(self, run_id: str) -> Course | None:
        """What this server knows of a run that is not over."""
        return self._courses.get(run_id)

    async def cancel(
        self, run_id: str, *, action: CancelAction = "interrupt", reason: str = "it was cancelled", wait: bool = False
    ) -> None:
        """End a run that is not over, wherever it runs; `wait` until it is."""
        course = self._courses.get(run_id)
        if course is None:
            await self._store.runs.request_cancel([run_id], action)
            if wait:
                await self.outcome(run_id)
            return
        if course.cancel is None:
            course.cancel, course.cancel_reason = action, reason
            if self._dispatcher.withdraw(run_id):
                self._dispatcher.spawn(self._withdrawn(course), f"plait cancel {run_id}")
            else:
                if course.execution is not None:
                    course.execution.stop(action)
                # Should this server end before the run does, the next one must not go on with it.
                await self._store.runs.request_cancel([run_id], action)
        if wait:
            await course.topic.ended.wait()

    async def forget_thread(self, thread_id: str) -> None:
        """End the runs of a thread that is about to be deleted, and wait for that."""
        for run in await self._store.runs.list(thread_id, EVERYTHING, limit=1000):
            if run.status in ("pending", "running"):
                await self.cancel(run.run_id, reason="its thread is deleted", wait=True)

    @property
    def draining(self) -> bool:
        """Whether this server ends: it begins nothing more."""
        return self._drain.begun

    @property
    def parked(self) -> int:
        """Runs that `drain` left for the next start."""
        return self._drain.parked

    @property
    def room(self) -> int:
        """How many more runs could begin here at once; none while others wait."""
        return 0 if self.queued or self._admitting else max(0, self._options.max_running - self.running)

    @property
    def queued(self) -> int:
        """Runs that wait for their turn here."""
        return self._dispatcher.queued

    @property
    def running(self) -> int:
        """Runs that are running here."""
        return self._dispatcher.running

    # --- for the lifespan --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._afterwards.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain(self._options.grace_s)
        await self._afterwards.__aexit__(kind, error, trace)
        self._journal.close()

    def take_over(self, run: RunRecord, *, temporary: bool, caller: Caller | None = None, resumed: bool = True) -> None:
        """Let a run of another server wait here; `resumed` says that it may have been begun there.

        Nothing changes for one that waits or runs here already.
        """
        if run.run_id not in self._courses:
            self._line_up(Course(run, Topic(), temporary, caller, time.time(), resumed))

    async def cancel_here(self, asked: Sequence[RunRecord]) -> None:
        """End runs of this server that somebody asked another one to end."""
        for run in asked:
            course = self._courses.get(run.run_id)
            if course is not None and course.cancel is None:
                await self.cancel(run.run_id, action=run.cancel or "interrupt")

    async def check_owned(self) -> None:
        """Stop what another server has taken over, because this one was silent for too long."""
        found = await self._store.runs.servers_of(known := list(self._courses))
        for run_id in known:
            course = self._courses.get(run_id)
            if course is not None and found.get(run_id) != self.server:
                self._let_go(course)

    async def let_go(self) -> None:
        """Let go of runs that waited here and that an idle server has taken."""
        waiting = [run_id for run_id, course in self._courses.items() if course.execution is None]
        if not waiting:
            return
        found = await self._store.runs.servers_of(waiting)
        for run_id in waiting:
            course = self._courses.get(run_id)
            if course is not None and course.execution is None and found.get(run_id, self.server) != self.server:
                self._let_go(course)

    async def forgotten(self) -> set[str]:
        """Runs that the store has in this server's hands and that it knows nothing of; some were only just stored."""
        held = await self._store.runs.held(self.server)
        return {run_id for run_id in held if run_id not in self._courses and run_id not in self._coming}

    def _let_go(self, course: Course) -> None:
        course.lost = True
        if course.execution is not None:
            course.execution.stop("interrupt")
        elif self._dispatcher.withdraw(course.run.run_id):
            self._close(course)

    async def drain(self, grace_s: float) -> None:
        """End this server's runs within `grace_s`, or leave them for the next one; see `Drain`."""
        await self._drain.run(self._courses, grace_s)
        self._follower.closing = True
        for course in list(self._courses.values()):
            self._drain.parked += 1
            self._close(course)

    def hurry(self) -> None:
        """Park what runs without waiting any longer."""
        self._drain.hurry()

    async def _follow(self, run_id: str, after: str | None) -> AsyncGenerator[list[Part]]:
        course = self._courses.get(run_id)
        run = course.run if course else await self._store.runs.get(run_id)
        if run is None:
            return
        async with aclosing(self._follower.follow(run, course.topic if course else None, after)) as found:
            async for parts in found:
                self._listener.on_sent(run, len(parts))
                yield parts

    # --- one run -----------------------------------------------------------------------------------------

    def _refuse_more(self, client: str, besides: int = 0) -> None:
        if self._drain.begun:
            raise self._ending()
        if not self._dispatcher.has_room(client, self._options.max_queued, coming=self._admitting + besides):
            raise too_many(f"{self.queued} runs wait already, which is the most: come back in a moment", 5.0)

    def _ending(self) -> Exception:
        return problem(503, "the server is shutting down: try again in a moment", headers={"Retry-After": "5"})

    def _away(self) -> Exception:
        return problem(503, _STORE_AWAY, headers={"Retry-After": "5"})

    def _line_up(self, course: Course) -> None:
        if self._drain.over:
            # It came too late, and is in the store for the next server.
            self._drain.parked += 1
            self._close(course)
            return
        self._courses[course.run.run_id] = course
        self._listener.on_queued(course.run)
        self._dispatcher.line_up(course)

    async def _begin(self, course: Course) -> bool:
        return await self._kept(course, self._in_turn(course))

    async def _withdrawn(self, course: Course) -> None:
        """End a run that was cancelled while it waited for its turn."""
        while not (await self._kept(course, self._unbegun(course)) or self._drain.over):
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
                self._close(course)
        return begun

    async def _in_turn(self, course: Course) -> bool:
        run = course.run
        claimed = (
            "busy"
            if self._drain.begun
            else await self._store.runs.claim(run.run_id, self.server, thread_id=run.thread_id)
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
            self._dispatcher.spawn(
                self._endings.follow_up(course, course.execution), f"plait follow-up {course.run.run_id}"
            )

    def _leave(self, course: Course, error: Exception) -> None:
        """Its end is not in the store, so it is none: the keeper finds the run there and goes on with it."""
        logger.error("the end of run %s could not be stored, and it goes on later", course.run.run_id, exc_info=error)
        course.failure = StoreError(_STORE_AWAY)

    def _goes_on(self, course: Course) -> bool:
        """Whether a run whose end could not be stored is worth waiting for, here and now."""
        return self._store.writer.medium.comes_back and not course.run.kwargs.get(ENDS_WITH_CLIENT)

    async def _execute(self, course: Course) -> None:
        run = course.run
        execution = Execution(
            run,
            graphs=self._equipment.graphs,
            settings=self._equipment.settings,
            journal=self._journal,
            keys=self._keys,
            caller=course.caller,
            resumed=course.resumed,
        )
        course.execution = execution
        execution.scope.observer = self._listener.on_started(run)
        if course.cancel is not None:
            execution.stop(course.cancel)
        self._drain.fit(course, execution)
        log = await self._log_of(course)
        publish = FirstToken(log.publish, lambda: self._listener.on_first_token(run, time.time() - course.queued_at))
        await log.publish([("metadata", {"run_id": run.run_id, "attempt": run.attempt})])
        ended = await execution.execute(publish, timeout_s=self._options.timeout_s, temporary=course.temporary)
        await log.close()
        try:
            await self._endings.end(course, execution, ended)
        except StoreError as error:
            # It ended well, maybe: no other end is to be stored in place of this one.
            self._leave(course, error)
            return
        self._drain.parked += ended.parked
        self._close(course)
        if not (ended.parked or course.lost):
            self._dispatcher.spawn(self._endings.follow_up(course, execution), f"plait follow-up {run.run_id}")

    async def _log_of(self, course: Course) -> StreamLog:
        run = course.run
        if not run.kwargs.get("resumable"):
            return StreamLog(run.run_id, course.topic, None)
        last = await self._store.events.last_id(run.run_id) if course.resumed else None
        return StreamLog(run.run_id, course.topic, self._store.events, server=self.server, last_id=last)

    async def _unbegun(self, course: Course) -> bool:
        await self._endings.unbegun(course)
        if not course.lost:
            self._dispatcher.spawn(self._endings.follow_up(course, None), f"plait follow-up {course.run.run_id}")
        return True

    def _close(self, course: Course) -> None:
        if self._courses.get(course.run.run_id) is course:
            del self._courses[course.run.run_id]
        unstored = course.outcome is None and course.failure is not None
        if course.outcome is None and not (course.lost or course.run.kwargs.get("resumable")):
            # Its stream ends, and it does not: whoever reads it is to know that.
            if self._drain.begun:
                course.topic.publish([_PARKED])
            elif unstored:
                course.topic.publish([_UNSTORED])
        course.topic.close(moved=course.lost)
        if course.lost or unstored:
            self._listener.on_moved(course.run)

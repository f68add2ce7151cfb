"""What the service asks of the runs of one server: start, follow, cancel, take over, drain."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

from plait.afterwards import Afterwards
from plait.errors import StoreError
from plait.journal import Journal
from plait.service.callers import Caller
from plait.service.problems import problem, too_many
from plait.service.running.admissions import records_of, thread_config
from plait.service.running.courses import Course
from plait.service.running.equipment import Equipment
from plait.service.running.followers import Follower, checked_id
from plait.service.running.requests import Outcome, Part, RunRequest
from plait.service.running.topics import Topic
from plait.service.running.turns import STORE_AWAY, Turns
from plait.store.service.records import EVERYTHING, CancelAction, RunRecord

logger = logging.getLogger("plait.service")


class Runner:
    """The runs of one server, each begun once; `server` is its name in the store."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        self.server = equipment.server
        self._store = equipment.store
        self._options = equipment.options
        self._limits = equipment.limits
        self._listener = equipment.listener
        self._journal = Journal(equipment.store.writer, equipment.store.answers)
        self._follower = Follower(equipment.store, equipment.listener)
        self._afterwards = Afterwards()
        self._turns = turns = Turns(equipment, self._journal, self._afterwards)
        self._courses = turns.courses
        self._dispatcher = turns.dispatcher
        self._drain = turns.drain
        self._coming: set[str] = set()
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
        self._turns.line_up(Course(run, topic, temporary, request.caller, time.time()))
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
            if course.failure is not None and not self._turns.goes_on(course):
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
            if not self._turns.withdraw(course):
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
            self._turns.line_up(Course(run, Topic(), temporary, caller, time.time(), resumed))

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
                self._turns.let_go(course)

    async def let_go(self) -> None:
        """Let go of runs that waited here and that an idle server has taken."""
        waiting = [run_id for run_id, course in self._courses.items() if course.execution is None]
        if not waiting:
            return
        found = await self._store.runs.servers_of(waiting)
        for run_id in waiting:
            course = self._courses.get(run_id)
            if course is not None and course.execution is None and found.get(run_id, self.server) != self.server:
                self._turns.let_go(course)

    async def forgotten(self) -> set[str]:
        """Runs that the store has in this server's hands and that it knows nothing of; some were only just stored."""
        held = await self._store.runs.held(self.server)
        return {run_id for run_id in held if run_id not in self._courses and run_id not in self._coming}

    async def drain(self, grace_s: float) -> None:
        """End this server's runs within `grace_s`, or leave them for the next one; see `Drain`."""
        await self._drain.run(self._courses, grace_s)
        self._follower.closing = True
        for course in list(self._courses.values()):
            self._drain.parked += 1
            self._turns.close(course)

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

    # --- what is refused ---------------------------------------------------------------------------------

    def _refuse_more(self, client: str, besides: int = 0) -> None:
        if self._drain.begun:
            raise self._ending()
        if not self._dispatcher.has_room(client, self._options.max_queued, coming=self._admitting + besides):
            raise too_many(f"{self.queued} runs wait already, which is the most: come back in a moment", 5.0)

    def _ending(self) -> Exception:
        return problem(503, "the server is shutting down: try again in a moment", headers={"Retry-After": "5"})

    def _away(self) -> Exception:
        return problem(503, STORE_AWAY, headers={"Retry-After": "5"})

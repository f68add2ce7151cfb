"""How a run ends: first in the store, then for whoever waits, last what may follow the answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import cast

from langchain_core.runnables import RunnableConfig

from plait.afterwards import Afterwards
from plait.batches.rows import usage_of
from plait.errors import StoreError
from plait.flow.usage import Tokens
from plait.journal import Journal
from plait.json_values import to_json
from plait.service.listeners import Figures, costs
from plait.service.running.courses import Course
from plait.service.running.equipment import Equipment
from plait.service.running.executions import Execution
from plait.service.running.leftovers import Ended
from plait.service.running.requests import Outcome
from plait.service.states import outcome_of
from plait.store.service.records import EVERYTHING, Json, RunRecord
from plait.store.service.runs import RunOutcome
from plait.store.service.threads import ThreadOutcome

logger = logging.getLogger("plait.service")


class Endings:
    """Ends the runs of one server."""

    def __init__(self, equipment: Equipment, journal: Journal, afterwards: Afterwards) -> None:
        self._server = equipment.server
        self._store = equipment.store
        self._saver = equipment.saver
        self._graphs = equipment.graphs
        self._prices = equipment.prices
        self._limits = equipment.limits
        self._listener = equipment.listener
        self._webhooks = equipment.webhooks
        self._journal = journal
        self._afterwards = afterwards

    async def end(self, course: Course, execution: Execution, ended: Ended) -> None:
        """Store how a run ended that had begun. Raises StoreError where it cannot be stored: it is not over then."""
        run, scope = course.run, execution.scope
        if course.lost:
            return
        if ended.parked:
            await self._store.runs.park(run.run_id, self._server)
            return
        usage = timings = None
        if not execution.given_up:  # its servers took with them what they had counted
            usage = cast("Json", to_json(usage_of(scope.usage, self._cost_of)))
            timings = cast("Json", to_json(scope.timings))
        stored = True
        if course.cancel == "rollback":
            await self._roll_back(course)
        else:
            left = _outcome_of(course, ended) if ended.begun else None
            stored = await self._finish(run, RunOutcome(ended.status, ended.error, usage, timings, left))
            if not stored and await self._store.runs.get(run.run_id) is not None:
                # Somebody else has it: how it ends there is how it ends, and its answers are still needed.
                course.lost = True
                return
        self._journal.forget(run.run_id)
        course.run = replace(run, status=ended.status, error=ended.error, usage=usage, timings=timings)
        if stored:  # else it was deleted
            course.failure = ended.failure
            values = ended.values
            course.outcome = Outcome(run.run_id, ended.status, values, ended.error, ended.interrupts, usage, timings)

    async def unbegun(self, course: Course) -> None:
        """Store the end of a run that was cancelled before its turn. Raises StoreError, as `end` does."""
        run = course.run
        if course.cancel == "rollback" and course.resumed:
            await self._roll_back(course)
        elif not await self._finish(run, RunOutcome("interrupted")):
            # An idle server took it a moment ago, which is to end it.
            course.lost = True
            await self._store.runs.request_cancel([run.run_id], course.cancel or "interrupt")
            return
        elif course.cancel == "rollback":
            await self._store.runs.delete(run.run_id, EVERYTHING)
        if course.resumed:
            self._journal.forget(run.run_id)
        course.run = replace(run, status="interrupted")
        course.outcome = Outcome(run.run_id, "interrupted")

    async def lose_track(self, course: Course) -> None:
        """Store that a run failed whose end could not be told. Raises StoreError, as `end` does."""
        run = course.run
        error: Json = {"error": "InternalError", "message": "the service could not keep track of the run: see its log"}
        if not await self._finish(run, RunOutcome("error", error, thread=ThreadOutcome("error", error=error))):
            course.lost = True
            return
        self._journal.forget(run.run_id)
        course.run = replace(run, status="error", error=error)
        course.outcome = Outcome(run.run_id, "error", None, error)

    async def follow_up(self, course: Course, execution: Execution | None) -> None:
        """What may wait until the answer is out: its webhook, metrics, accounts, the work that nodes put off."""
        run = course.run
        values = course.outcome.values if course.outcome else None
        self._webhooks.tell(run, values=values, started_at=execution.began_at if execution else None)
        if execution is None:
            self._listener.on_ended(run, Figures(waited_s=time.time() - course.queued_at))
            return
        scope = execution.scope
        self._listener.on_ended(
            run,
            Figures(
                scope.usage,
                scope.timings,
                duration_s=time.monotonic() - execution.began,
                waited_s=max(0.0, execution.began_at - max(course.queued_at, run.start_after)),
                costs_usd=costs(scope.usage, self._prices),
            ),
        )
        if run.status != "interrupted":
            self._afterwards.take(scope)
        await self._limits.charge(run.key_id, scope.usage)

    async def _finish(self, run: RunRecord, outcome: RunOutcome) -> bool:
        """Runs.finish, once more where the store failed: it may be there again, and nobody else knows this end."""
        finish = partial(self._store.runs.finish, run.run_id, self._server, outcome, thread_id=run.thread_id)
        try:
            return await finish()
        except StoreError as error:
            logger.warning("the end of run %s could not be stored, trying again: %s", run.run_id, error)
        if await finish():
            return True
        # The first one may have been stored, though its answer was lost.
        found = await self._store.runs.get(run.run_id)
        return found is not None and (found.server, found.status) == (self._server, outcome.status)

    async def _roll_back(self, course: Course) -> None:
        """As if the run had never been: it goes with its checkpoints, and the thread is what it was before."""
        run = course.run
        await self._saver.adelete_for_runs([run.run_id])
        if course.execution is not None and course.execution.last_write is not None:
            await self._saver.undo_writes(run.thread_id, course.execution.last_write)
        error = {"error": "UserRollback", "message": course.cancel_reason}
        thread_outcome = ThreadOutcome("idle", {}, {}, error)
        if not course.temporary:
            async with self._graphs.opened(run.graph_id, owner=run.owner) as graph:
                thread = cast("RunnableConfig", {"configurable": {"thread_id": run.thread_id}})
                found = outcome_of(await graph.aget_state(thread))
            thread_outcome = replace(found, values=found.values or {}, error=error)
        await self._store.runs.finish(run.run_id, self._server, RunOutcome("interrupted", thread=thread_outcome))
        await self._store.runs.delete(run.run_id, EVERYTHING)

    def _cost_of(self, tokens: Mapping[str, Tokens]) -> float | None:
        return self._prices.cost_usd(tokens)


def _outcome_of(course: Course, ended: Ended) -> ThreadOutcome:
    error = ended.error
    if ended.status == "interrupted":
        error = {"error": "UserInterrupt", "message": course.cancel_reason}
    values = ended.values if isinstance(ended.values, Mapping) or ended.values is None else {"value": ended.values}
    return ThreadOutcome(ended.thread_status, cast("Json | None", values), ended.thread_interrupts, error)

"""All evaluators of one run: the async ones at the same time, the synchronous ones in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from plait.errors import CallCancelled
from plait.experiments.evaluators.forms import Evaluator, failure_of
from plait.experiments.records import ExampleRun, Failure, Score
from plait.failures import is_fatal, is_outage

__all__ = ["Around", "Outcome", "score_all"]

Outcome = tuple[Score, ...] | Failure
Around = Callable[[Evaluator], AbstractContextManager[object]]

QUICK_S = 0.005
"""An evaluator that took less last time shares its thread with others: a thread costs 60 us of CPU time."""


def _nothing(evaluator: Evaluator) -> AbstractContextManager[object]:
    return nullcontext()


async def score_all(
    evaluators: Sequence[Evaluator],
    run: ExampleRun,
    *,
    around: Around = _nothing,
) -> list[tuple[Evaluator, Outcome]]:
    """What each evaluator says of the run, in their order: its scores, or why it gave none.

    `around(evaluator)` is entered where the evaluator executes: in the task of an async one, in the thread of a
    synchronous one, which has this task's context variables. For an evaluator with a `node`, `run.outputs` are that
    node's. An error that would meet every run alike (wrong key, spent quota, no connection, missing package) stops the
    others and is raised as it is. When cancelled, async evaluators are cancelled and no further one begins in a thread;
    one that is in a thread runs to its end, unheard.
    """
    work = _Round(evaluators, run, around)
    threads = work.threads()
    inline = [place for place, each in enumerate(evaluators) if each.way == "inline"]
    tasks = [place for place, each in enumerate(evaluators) if each.way == "async"]
    work.run_together(inline)
    try:
        if len(threads) == 1 and not tasks:
            await asyncio.to_thread(work.run_together, threads[0])
        elif threads or tasks:
            await _at_once(work, threads, tasks)
    finally:
        work.stopped = True
    return list(zip(evaluators, work.outcomes, strict=True))


async def _at_once(work: _Round, threads: Sequence[Sequence[int]], tasks: Sequence[int]) -> None:
    failed: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for place in tasks:
                group.create_task(work.run_async(place))
            for places in threads:
                group.create_task(asyncio.to_thread(work.run_together, places))
    except BaseExceptionGroup as several:
        failed = several.exceptions[0]
    if failed is not None:  # outside the block, so that the group does not become its context
        raise failed


class _Round:
    def __init__(self, evaluators: Sequence[Evaluator], run: ExampleRun, around: Around) -> None:
        self.evaluators = evaluators
        self.run = run
        self.around = around
        self.outcomes: list[Outcome] = [()] * len(evaluators)
        self.stopped = False

    def threads(self) -> list[list[int]]:
        """The synchronous evaluators by thread: those that were quick last time together, each other one alone."""
        mine = [place for place, each in enumerate(self.evaluators) if each.way == "thread"]
        quick = [place for place in mine if not self.evaluators[place].pace.slow]
        found = [[place] for place in mine if self.evaluators[place].pace.slow]
        return [*found, quick] if quick else found

    def run_together(self, places: Sequence[int]) -> None:
        """One evaluator after another, on this thread."""
        for place in places:
            if self.stopped:
                return
            evaluator, began = self.evaluators[place], time.perf_counter()
            try:
                with self.around(evaluator):
                    self.outcomes[place] = evaluator.score_here(self.run)
            except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001  (theirs; no thread is cancelled)
                self.outcomes[place] = self.failure(evaluator, error)
            evaluator.pace.slow = time.perf_counter() - began > QUICK_S

    async def run_async(self, place: int) -> None:
        """One evaluator, in this task."""
        evaluator = self.evaluators[place]
        try:
            with self.around(evaluator):
                self.outcomes[place] = await evaluator.score(self.run)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.outcomes[place] = self.failure(evaluator, error)  # it cancelled itself
        except (Exception, SystemExit) as error:  # noqa: BLE001  (an evaluator may raise anything)
            self.outcomes[place] = self.failure(evaluator, error)

    def failure(self, evaluator: Evaluator, error: BaseException) -> Failure:
        if is_fatal(error) or is_outage(error) or isinstance(error, CallCancelled):
            raise error
        return failure_of(evaluator, error, self.run)

"""All evaluators of one run: the async ones at the same time, the synchronous ones in threads."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from plait.experiments.evaluators.faults import failed_calls, stops_all
from plait.experiments.evaluators.forms import Evaluator, failure_of
from plait.experiments.records import ExampleRun, Failure, Score

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
    executor: Executor | None = None,
    timeout_s: float | None = None,
) -> list[tuple[Evaluator, Outcome]]:
    """What each evaluator says of the run, in their order: its scores, or why it gave none.

    `around(evaluator)` is entered where the evaluator executes: in the task of an async one, in the thread of a
    synchronous one, which has this task's context variables; threads are `executor`'s, else the loop's own. For an
    evaluator with a `node`, `run.outputs` are that node's.

    An error that would meet every run alike (wrong key, spent quota, no connection, missing package) stops the others
    and is raised as it is; one of another service than a model's is a Failure. So is an evaluator that takes longer
    than `timeout_s` seconds, in which it may wait for a free thread and its model calls for a permit. Such a one is
    cancelled if it is async; one in a thread runs on unheard, and it is for the caller to end the scope of its calls.
    When cancelled, async evaluators are cancelled and no further one begins in a thread; one that is in a thread runs
    to its end, unheard.
    """
    work = _Round(evaluators, run, around, executor, timeout_s)
    threads = work.threads()
    inline = [place for place, each in enumerate(evaluators) if each.way == "inline"]
    tasks = [place for place, each in enumerate(evaluators) if each.way == "async"]
    work.run_together(_Turn(inline, work.outcomes))
    try:
        if len(threads) == 1 and not tasks:
            await work.run_in_thread(threads[0])
        elif threads or tasks:
            await _at_once(work, threads, tasks)
    finally:
        work.stopped = True
    return [(each, work.outcomes[place]) for place, each in enumerate(evaluators)]


async def _at_once(work: _Round, threads: Sequence[Sequence[int]], tasks: Sequence[int]) -> None:
    failed: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for place in tasks:
                group.create_task(work.run_async(place))
            for places in threads:
                group.create_task(work.run_in_thread(places))
    except BaseExceptionGroup as several:
        failed = several.exceptions[0]
    if failed is not None:  # outside the block, so that the group does not become its context
        raise failed


@dataclass(slots=True)
class _Turn:
    """Evaluators that run one after another, and what came of them."""

    places: Sequence[int]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    left: bool = False
    """Nobody waits for it any more."""

    def leave(self, future: asyncio.Future[None]) -> None:
        """Wait no longer for `future`, its thread's end."""
        self.left = True
        future.cancel()


class _Round:
    def __init__(
        self,
        evaluators: Sequence[Evaluator],
        run: ExampleRun,
        around: Around,
        executor: Executor | None,
        timeout_s: float | None,
    ) -> None:
        self.evaluators = evaluators
        self.run = run
        self.around = around
        self.executor = executor
        self.timeout_s = timeout_s
        self.outcomes: dict[int, Outcome] = {}
        self.stopped = False

    def threads(self) -> list[list[int]]:
        """The synchronous evaluators by thread: those that were quick last time together, each other one alone."""
        mine = [place for place, each in enumerate(self.evaluators) if each.way == "thread"]
        quick = [place for place in mine if not self.evaluators[place].pace.slow]
        found = [[place] for place in mine if self.evaluators[place].pace.slow]
        return [*found, quick] if quick else found

    async def run_in_thread(self, places: Sequence[int]) -> None:
        """One evaluator after another, in one thread; the rest in another one where one of them takes too long."""
        loop = asyncio.get_running_loop()
        while places:
            turn, context = _Turn(places), contextvars.copy_context()
            work: partial[None] = partial(context.run, self.run_together, turn)
            future = loop.run_in_executor(self.executor, work)
            # Not asyncio.timeout, which costs a row several microseconds more.
            timer = None if self.timeout_s is None else loop.call_later(self.timeout_s, turn.leave, future)
            try:
                await future
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not turn.left or task is None or task.cancelling():
                    raise
            finally:
                if timer is not None:
                    timer.cancel()
            # A copy: the thread may go on in its turn.
            told = dict(turn.outcomes)
            places = [place for place in places if place not in told]
            self.outcomes |= told
            if places and turn.left:
                self.outcomes[places[0]] = self.too_long(places[0])
                self.evaluators[places[0]].pace.slow = True
                places = places[1:]

    def run_together(self, turn: _Turn) -> None:
        """One evaluator after another, on this thread."""
        for place in turn.places:
            if self.stopped or turn.left:
                return
            evaluator, began = self.evaluators[place], time.perf_counter()
            with self.around(evaluator):
                before = failed_calls()
                try:
                    turn.outcomes[place] = evaluator.score_here(self.run)
                except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001  (theirs; no thread is cancelled)
                    turn.outcomes[place] = self.failure(evaluator, error, before)
            evaluator.pace.slow = time.perf_counter() - began > QUICK_S

    async def run_async(self, place: int) -> None:
        """One evaluator, in this task."""
        evaluator, limit = self.evaluators[place], asyncio.timeout(self.timeout_s)
        with self.around(evaluator):
            before = failed_calls()
            try:
                async with limit:
                    self.outcomes[place] = await evaluator.score(self.run)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self.outcomes[place] = self.failure(evaluator, error, before)  # it cancelled itself
            except (Exception, SystemExit) as error:  # noqa: BLE001  (an evaluator may raise anything)
                late = limit.expired()
                self.outcomes[place] = self.too_long(place) if late else self.failure(evaluator, error, before)

    def too_long(self, place: int) -> Failure:
        message = f"took longer than {self.timeout_s:g} s; raise evaluator_timeout_s, or let it do less"
        return Failure(self.evaluators[place].name, "EvaluatorTimeout", message)

    def failure(self, evaluator: Evaluator, error: BaseException, before: int) -> Failure:
        if stops_all(error, before):
            raise error
        return failure_of(evaluator, error, self.run)

"""A run's evaluators at work: all at once, in threads of their own, each for so long and no longer."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

import plait
from plait.branches import BranchPaths
from plait.datasets import Example
from plait.errors import CallCancelled
from plait.experiments.evaluators import Evaluator, evaluator, score_all
from plait.experiments.records import ExampleRun, Failure, Score
from plait.experiments.scoring import ExperimentScoring
from plait.flow.registry import gate_for
from plait.flow.scopes import Scope
from plait.settings import from_env
from plait.simulator import Simulator
from plait.store.rows import RowRecord

around_whom: ContextVar[str] = ContextVar("around_whom", default="nobody")


def run_of(outputs: object = None, reference: dict[str, object] | None = None, **parts: Any) -> ExampleRun:
    example = Example(3, "a tide", {"question": "why?"}, reference, {"split": "test"})
    given = {"answer": "the moon"} if outputs is None else outputs
    return ExampleRun(position=3, example=example, outputs=given, **parts)


async def scored(target: object) -> tuple[Score, ...]:
    return await evaluator(target).score(run_of(reference={"answer": "the moon"}))


async def failed(target: object, **options: Any) -> Failure:
    [(_, outcome)] = await score_all([evaluator(target)], run_of(), **options)
    assert isinstance(outcome, Failure)
    return outcome


async def test_sync_functions_leave_the_loop_and_keep_its_context() -> None:
    loop_thread = threading.get_ident()
    around_whom.set("the row")

    def blocking(outputs: Any) -> Score:
        asyncio.run(asyncio.sleep(0))  # fails on a loop's own thread
        return Score(score=threading.get_ident() != loop_thread, comment=around_whom.get())

    assert await scored(blocking) == (Score("blocking", True, comment="the row"),)


async def test_async_evaluators_run_at_once() -> None:
    both = asyncio.Barrier(2)

    def waiting(name: str) -> Evaluator:
        async def wait(outputs: Any) -> bool:
            await both.wait()
            return True

        return evaluator(wait, name=name)

    async with asyncio.timeout(60):
        outcomes = await score_all([waiting("a"), waiting("b")], run_of())
    assert [outcome for _, outcome in outcomes] == [(Score("a", True),), (Score("b", True),)]


async def test_slow_sync_evaluators_run_at_once() -> None:
    both = threading.Barrier(2, timeout=60)

    def waits(outputs: Any) -> bool:
        both.wait()
        return True

    outcomes = await score_all([evaluator(waits, name="a"), evaluator(waits, name="b")], run_of())
    assert [outcome for _, outcome in outcomes] == [(Score("a", True),), (Score("b", True),)]


async def test_around_is_entered_where_each_evaluator_executes() -> None:
    @contextmanager
    def around(each: Evaluator) -> Iterator[None]:
        token = around_whom.set(each.name)
        try:
            yield
        finally:
            around_whom.reset(token)

    def sync(outputs: Any) -> str:
        return around_whom.get()

    async def later(outputs: Any) -> str:
        await asyncio.sleep(0)
        return around_whom.get()

    inline = Evaluator(name="inline", call=lambda run: around_whom.get(), way="inline")
    mixed = [
        evaluator(sync, name="a"),
        evaluator(later, name="b"),
        evaluator(sync, name="c"),
        evaluator(later, name="d"),
        inline,
    ]
    for _ in range(2):  # the quick ones share a thread the second time
        outcomes = await score_all(mixed, run_of(), around=around)
        assert [outcome for _, outcome in outcomes] == [(Score(each.name, value=each.name),) for each in mixed]
    assert around_whom.get() == "nobody"


async def test_cancelling_a_row_cancels_its_evaluators_and_begins_no_further_one() -> None:
    begun, go_on, ran = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def first(outputs: Any) -> bool:
        loop.call_soon_threadsafe(begun.set)
        return go_on.wait(60)

    def second(outputs: Any) -> bool:
        ran.append("second")
        return True

    both = [evaluator(first), evaluator(second)]
    for each in both:
        each.pace.slow = False  # together in one thread
    task = asyncio.create_task(score_all(both, run_of()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert ran == []


# in threads of their own


async def test_sync_evaluators_run_in_the_threads_they_are_given_and_keep_the_rows_context() -> None:
    around_whom.set("the row")

    def where(outputs: Any) -> str:
        return f"{threading.current_thread().name.partition('_')[0]}, {around_whom.get()}"

    with ThreadPoolExecutor(thread_name_prefix="mine") as threads:
        [(_, outcome)] = await score_all([evaluator(where)], run_of(), executor=threads)
    assert outcome == (Score("where", value="mine, the row"),)


async def test_more_sync_judges_wait_at_once_than_a_loops_own_threads_could() -> None:
    count = 48  # asyncio's own executor has 32 at most
    all_of_them = threading.Barrier(count, timeout=30)

    def waits(outputs: Any) -> bool:
        all_of_them.wait()
        return True

    async with ExperimentScoring((waits,)).opened(None) as scorer:
        told = await asyncio.gather(*(asked(scorer, position) for position in range(count)))
    assert [each["scores"] for each in told] == [told[0]["scores"]] * count
    assert not any(each.get("failures") for each in told)


async def asked(scorer: Any, position: int = 0, scope_of: Callable[[str], Scope] | None = None) -> Any:
    """What is stored of a row that succeeded."""
    settings = from_env({})

    async def scopes() -> Callable[[str], Scope]:
        return scope_of or (lambda name: Scope(name, gate=gate_for(settings), settings=settings))

    example = Example(position, str(position), {"question": "why?"})
    course = scorer.begin(example, BranchPaths(), lambda tokens: None)
    return await course.score(RowRecord(position, example.id, "success", {}), {"answer": "the moon"}, scopes)


# for so long and no longer


async def test_an_async_evaluator_that_takes_too_long_is_cancelled_and_fails_alone() -> None:
    ended: list[str] = []

    async def hangs(outputs: Any) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("hangs")
        return True

    async def fine(outputs: Any) -> bool:
        return True

    outcomes = await score_all([evaluator(hangs), evaluator(fine)], run_of(), timeout_s=2)
    message = "took longer than 2 s; raise evaluator_timeout_s, or let it do less"
    assert outcomes[0][1] == Failure("hangs", "EvaluatorTimeout", message)
    assert outcomes[1][1] == (Score("fine", True),)
    assert ended == ["hangs"]


async def test_what_an_evaluator_makes_of_its_cancellation_does_not_hide_that_it_took_too_long() -> None:
    async def hangs(outputs: Any) -> bool:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KeyError("closing") from None
        return True

    assert (await failed(hangs, timeout_s=0.1)).type == "EvaluatorTimeout"


async def test_an_evaluators_own_timeout_is_its_own() -> None:
    async def impatient(outputs: Any) -> bool:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
        return True

    def impatient_in_thread(outputs: Any) -> bool:
        raise TimeoutError("the page did not load")

    assert (await failed(impatient, timeout_s=60)).type == "TimeoutError"
    assert (await failed(impatient_in_thread, timeout_s=60)).message.startswith("the page did not load (")


async def test_a_thread_that_takes_too_long_is_left_and_the_others_that_shared_it_get_another() -> None:
    go_on, again, ran = threading.Event(), threading.Event(), []

    def first(outputs: Any) -> bool:
        ran.append("first")
        return True

    def hangs(outputs: Any) -> bool:
        return go_on.wait(30)

    def last(outputs: Any) -> bool:
        if "last" in ran:
            again.set()
        ran.append("last")
        go_on.set()
        return not again.wait(0.2)  # the thread that was left must not come here too

    three = [evaluator(each) for each in (first, hangs, last)]
    for each in three:
        each.pace.slow = False  # together in one thread
    with ThreadPoolExecutor() as threads:
        outcomes = await score_all(three, run_of(), executor=threads, timeout_s=3)
    assert [each if isinstance(each, tuple) else each.type for _, each in outcomes] == [
        (Score("first", True),),
        "EvaluatorTimeout",
        (Score("last", True),),
    ]
    assert ran == ["first", "last"]
    assert three[1].pace.slow


async def test_waiting_for_a_free_thread_counts() -> None:
    go_on, ran = threading.Event(), []

    def later(outputs: Any) -> bool:
        ran.append("later")
        return True

    with ThreadPoolExecutor(1) as threads:
        threads.submit(go_on.wait, 30)
        failure = await failed(later, executor=threads, timeout_s=0.1)
        go_on.set()
    assert failure.type == "EvaluatorTimeout"
    assert ran == []


async def test_an_experiments_evaluator_that_was_given_up_pays_no_further_call(provider: Simulator) -> None:
    go_on, refused = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    settings = from_env({"OPENAI_BASE_URL": provider.base_url}).override(model="openai:m")

    def hangs(outputs: Any) -> bool:
        go_on.wait(30)
        with pytest.raises(CallCancelled):
            plait.chat_model().invoke("judge")
        loop.call_soon_threadsafe(refused.set)
        return True

    def scope_of(name: str) -> Scope:
        return Scope(name, gate=gate_for(settings), settings=settings)

    async with ExperimentScoring((hangs,), evaluator_timeout_s=0.1).opened(None) as scorer:
        told = await asked(scorer, scope_of=scope_of)
    assert [failure["type"] for failure in told["failures"]] == ["EvaluatorTimeout"]
    go_on.set()
    async with asyncio.timeout(30):
        await refused.wait()
    assert provider.counters.received == 0


def test_worker_processes_get_the_same_time() -> None:
    scoring = ExperimentScoring(("exact",), evaluator_timeout_s=5.0)
    assert pickle.loads(pickle.dumps(scoring)) == scoring

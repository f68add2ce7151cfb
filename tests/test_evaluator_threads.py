"""The threads of synchronous evaluators."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import CancelledError

import pytest

from plait.experiments.evaluators.threads import EvaluatorThreads

HANGING = """
import asyncio, threading
from plait.datasets import Example
from plait.experiments.evaluators import evaluator, score_all
from plait.experiments.evaluators.threads import EvaluatorThreads
from plait.experiments.records import ExampleRun

def hangs(outputs):
    threading.Event().wait()

async def main():
    threads = EvaluatorThreads()
    run = ExampleRun(position=0, example=Example(0, "a", {}), outputs={})
    print((await score_all([evaluator(hangs)], run, executor=threads, timeout_s=0.1))[0][1].type)
    threads.shutdown()

asyncio.run(main())
"""


async def test_an_evaluator_that_hangs_for_ever_does_not_keep_the_process() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGING, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(50):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert (said.decode().strip(), process.returncode) == ("EvaluatorTimeout", 0)


def test_threads_are_begun_on_demand_and_used_again() -> None:
    threads, both = EvaluatorThreads(), threading.Barrier(2, timeout=30)

    def name() -> str:
        both.wait()
        return threading.current_thread().name

    names = {future.result(30) for future in (threads.submit(name), threads.submit(name))}
    assert names == {"plait-evaluator_1", "plait-evaluator_2"}
    done = threading.Event()
    threads.submit(done.set)
    assert done.wait(30)
    assert sum(each.name in names for each in threading.enumerate()) == 2
    threads.shutdown()


def test_an_error_belongs_to_whoever_waits() -> None:
    threads = EvaluatorThreads()
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(30)
    assert threads.submit(lambda: "and the thread goes on").result(30) == "and the thread goes on"
    threads.shutdown()


def test_what_has_not_begun_at_the_end_never_does() -> None:
    threads, begun, go_on = EvaluatorThreads(), threading.Semaphore(0), threading.Event()

    def waits() -> bool:
        begun.release()
        return go_on.wait(30)

    running = [threads.submit(waits) for _ in range(256)]
    for _ in running:
        assert begun.acquire(timeout=30)
    waiting = threads.submit(waits)
    threads.shutdown(cancel_futures=True)
    with pytest.raises(CancelledError):
        waiting.result(30)
    with pytest.raises(RuntimeError, match="closed"):
        threads.submit(waits)
    go_on.set()
    assert all(future.result(30) for future in running)

"""Threads for synchronous evaluators, which no process waits for at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

__all__ = ["EvaluatorThreads"]

_MOST = 256

_T = TypeVar("_T")
_Work = tuple[Future[Any], Callable[[], object]]


class EvaluatorThreads(Executor):
    """Up to 256 daemon threads, begun as they are needed.

    A ThreadPoolExecutor's would be joined when Python exits: one evaluator that hangs, though it was given up long
    ago, would keep the process for ever.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._count = 0
        self._closed = False

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """As `Executor.submit`. Raises RuntimeError after `shutdown`."""
        future: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the experiment's evaluators have been closed")
            self._work.put((future, partial(fn, *args, **kwargs)))
            if not self._idle.acquire(blocking=False) and self._count < _MOST:
                self._count += 1
                name = f"plait-evaluator_{self._count}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Take no further work. It never waits: `wait` is the base class's, and what runs goes on unheard."""
        with self._lock:
            self._closed = True
            while cancel_futures:
                try:
                    work = self._work.get_nowait()
                except Empty:
                    break
                if work is not None:
                    work[0].cancel()
            for _ in range(self._count):
                self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:  # noqa: BLE001  (it belongs to whoever waits for the future)
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del work, future, call  # nothing of a row is kept while this thread waits for the next one
            self._idle.release()

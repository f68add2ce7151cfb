"""What plait does in a process of its own, and never in somebody else's."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from plait.bounds import bound_all_graphs
from plait.flow.gate import Gate
from plait.flow.install import install
from plait.flow.registry import gate_for
from plait.settings import Settings

_NODE_THREADS = 256

_T = TypeVar("_T")

_ours: ContextVar[bool] = ContextVar("plait_own_process", default=False)


def run_loop(work: Coroutine[Any, Any, _T]) -> _T:
    """`asyncio.run` on uvloop, which saves a tenth of a row's CPU time; once, in the thread that owns the process."""
    import uvloop  # noqa: PLC0415 - not in somebody else's process

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@contextmanager
def own_process(settings: Settings, *, gate: Gate | None = None) -> Iterator[None]:
    """Put every model call of this process behind one gate, until the block ends; enter it inside the event loop.

    `gate` is that of the settings, unless another one is given.
    Covers graphs that build their own HTTP clients, `max_concurrency` of nested graphs, and synchronous nodes, which
    run in an executor of ours.
    """
    asyncio.get_running_loop().set_default_executor(NodeExecutor())
    with install(gate or gate_for(settings)), bound_all_graphs():
        token = _ours.set(True)
        try:
            yield
        finally:
            _ours.reset(token)


def is_ours() -> bool:
    """Whether this runs inside `own_process`."""
    return _ours.get()


def collect_less() -> None:
    """Let the garbage collector look less often, and not at what is loaded by now, where this process is ours.

    By default each few hundred rows it walks all of LangChain's modules and every row in flight: a quarter of a row's
    CPU time, a third with 500 in flight.
    """
    if _ours.get():
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)


class NodeExecutor(ThreadPoolExecutor):
    """A loop's default executor, where LangGraph runs synchronous nodes, with other threads for name look-ups.

    Nodes that wait at the gate fill the threads; if look-ups queued behind them, the calls that hold the permits could
    never connect.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=_NODE_THREADS, thread_name_prefix="plait-node")
        self._lookups = ThreadPoolExecutor(max_workers=4, thread_name_prefix="plait-dns")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        # asyncio submits socket.getaddrinfo and socket.getnameinfo, or its own wrapper of the former in debug mode.
        if getattr(fn, "__name__", "").strip("_").startswith(("getaddrinfo", "getnameinfo")):
            return self._lookups.submit(fn, *args, **kwargs)
        return super().submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._lookups.shutdown(wait, cancel_futures=cancel_futures)
        super().shutdown(wait, cancel_futures=cancel_futures)

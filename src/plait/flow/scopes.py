"""Whose call is this: the run that a model call belongs to, found by context variables, without plumbing."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from queue import SimpleQueue

from plait.errors import CallCancelled
from plait.flow.calls import Call, Meter
from plait.flow.gate import Gate
from plait.flow.limits import Limit
from plait.flow.queues import BATCH, INTERACTIVE, Place
from plait.flow.recorders import Answer, Observer, Recorder, Watcher
from plait.flow.timings import Timing
from plait.flow.usage import Usage
from plait.settings import Settings, from_env

_starts = itertools.count()


class Scope:
    """A run as its model calls see it: their order, their sum, and whether they may still begin.

    `watched` is False when nobody sees tokens before the run ends; a stream that breaks off can then be repeated.
    What a run inside another one's node consumes counts for both, it keeps the outer one's place, and ends with it.
    """

    def __init__(
        self,
        run_id: str,
        *,
        gate: Gate,
        settings: Settings,
        watched: bool = True,
        group: str = "",
        node: Callable[[], str] = str,
        parent: Scope | None = None,
    ) -> None:
        self.run_id = run_id
        self.gate = gate
        self.settings = settings
        self.watched = watched
        self.parent = parent
        self.order: int = parent.order if parent else next(_starts)
        """Older runs go first."""
        self.group: str = parent.group if parent else group
        """The workflow or batch, which shares endpoints fairly with others."""
        self.node = node
        """Finds the name of the node that is running here."""
        self.usage = Usage()
        self.timings: dict[str, Timing] = {}
        """Where the time of its calls went, by node."""
        self.recorder: Recorder | None = parent.recorder if parent else None
        """The journal that its answers are kept in."""
        self.watcher: Watcher | None = parent.watcher if parent else None
        self.observer: Observer | None = parent.observer if parent else None
        self.priority: int | None = None
        """One of those of `plait.flow.queues`; None: by `watched`."""
        self.note_graph: Callable[[], None] | None = parent.note_graph if parent else None
        """Is called where a graph begins inside a node, if graphs of this process tell."""
        self.cancelled = False
        self.put_off: list[Callable[[], Awaitable[object]]] = []
        """Work that waits until the run has given its answer."""
        # Re-entrant: a stream dropped unread may be closed by a garbage collection inside these very methods.
        self._lock = threading.RLock()
        self._wakeups: set[SimpleQueue[None]] = set()
        self._tasks: dict[asyncio.Task[object], asyncio.AbstractEventLoop] = {}

    @property
    def place(self) -> Place:
        """Where its calls stand in a queue."""
        outermost = self
        while outermost.parent:
            outermost = outermost.parent
        priority = outermost.priority
        if priority is None:
            priority = INTERACTIVE if outermost.watched else BATCH
        return Place(self.order, priority, self.group)

    def add_timing(self, node: str, timing: Timing) -> None:
        """Add the times of a call that is over."""
        with self._lock:
            self.timings.setdefault(node, Timing()).add(timing)
        if self.parent:
            self.parent.add_timing(node, timing)

    def begin_call(self, call: Call) -> None:
        """Count a call. Raises CallCancelled once the run is."""
        self.check()
        with self._lock:
            self.usage.calls += 1
            self.usage.models[call.model] = self.usage.models.get(call.model, 0) + 1
        if self.parent:
            self.parent.begin_call(call)

    def begin_attempt(self) -> None:
        """Count a request about to be sent."""
        self.check()
        with self._lock:
            self.usage.attempts += 1
        if self.parent:
            self.parent.begin_attempt()

    def end_call(self, model: str, meter: Meter | None) -> None:
        """Add what a call cost; None when it failed."""
        if self.parent:
            self.parent.end_call(model, meter)
        with self._lock:
            if meter is None:
                self.usage.failed_calls += 1
                return
            self.usage.add_tokens(model, meter.tokens)
            self.usage.estimated |= meter.estimated

    def replay_call(self, call: Call, answer: Answer) -> None:
        """Count a call that the journal answers."""
        self.check()
        if self.parent:
            self.parent.replay_call(call, answer)
        with self._lock:
            self.usage.replayed_calls += 1
            self.usage.reused_calls += answer.free
            if not answer.free:
                self.usage.add_tokens(call.model, answer.tokens)
                self.usage.estimated |= answer.estimated

    def check(self) -> None:
        """Raise CallCancelled if the run is over."""
        if self.cancelled:
            raise CallCancelled(f"run {self.run_id} was stopped; its further model calls are not sent")

    def cancel(self) -> None:
        """Let no further call begin and wake the threads that wait to send one."""
        with self._lock:
            self.cancelled = True
            waiting = list(self._wakeups)
        for wakeups in waiting:
            wakeups.put(None)

    def close_calls(self) -> None:
        """Cancel the tasks that still wait for an answer: they were begun by a node that is gone."""
        for task, loop in list(self._tasks.items()):
            with suppress(RuntimeError):  # a closed loop has closed its tasks
                loop.call_soon_threadsafe(task.cancel)

    def note_task(self) -> asyncio.Task[object] | None:
        """Note that the current task waits for an answer, so that the end of the run can end it.

        Returns the task for `forget_task`; None in a thread without a loop (`wakeups` reaches it), or if it was noted.
        """
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return None
        if task is None or task in self._tasks:
            return None
        self._tasks[task] = task.get_loop()
        return task

    def forget_task(self, task: asyncio.Task[object] | None) -> None:
        """The task has its answer."""
        if task is not None:
            self._tasks.pop(task, None)

    @contextmanager
    def wakeups(self) -> Iterator[SimpleQueue[None]]:
        """A queue that a waiting thread reads; cancellation puts something into it."""
        queue: SimpleQueue[None] = SimpleQueue()
        with self._lock:
            self._wakeups.add(queue)
        try:
            self.check()
            yield queue
        finally:
            with self._lock:
                self._wakeups.discard(queue)


_scope: ContextVar[Scope | None] = ContextVar("plait_scope", default=None)
_limits: ContextVar[tuple[Limit, ...]] = ContextVar("plait_limits", default=())


def current_scope() -> Scope | None:
    """The run around this code, if it is one of ours."""
    return _scope.get()


def current_settings() -> Settings:
    """The settings of the run around this code, else the environment's."""
    scope = _scope.get()
    return scope.settings if scope else from_env()


def current_limits() -> tuple[Limit, ...]:
    """The bounds set by `config["max_concurrency"]` around this code, innermost first."""
    return _limits.get()


_refusing: set[object] = set()
"""Who refuses calls outside any run; whose calls they are nobody could tell, so it holds for the process."""


def unscoped_refused() -> bool:
    """Whether calls outside any run are refused."""
    return bool(_refusing)


@contextmanager
def refusing_unscoped() -> Iterator[None]:
    """Refuse calls outside any run, in all threads: for a replay, of which nothing may be sent."""
    mark = object()
    _refusing.add(mark)
    try:
        yield
    finally:
        _refusing.discard(mark)


class entered:  # noqa: N801 - used like the functions around it, and every run passes through: a generator costs more
    """Make the scope current, here and in tasks begun here."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __enter__(self) -> Scope:
        self._token = _scope.set(self._scope)
        return self._scope

    def __exit__(self, *_: object) -> None:
        _scope.reset(self._token)


class bounded:  # noqa: N801
    """Make these the current bounds (innermost first), here and in tasks begun here."""

    __slots__ = ("_limits", "_token")

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self._limits = limits

    def __enter__(self) -> None:
        self._token = _limits.set(self._limits)

    def __exit__(self, *_: object) -> None:
        _limits.reset(self._token)

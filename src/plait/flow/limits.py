"""A bound on calls in flight that threads and event loops share, granted in order, and the permit for one call."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

from plait.flow.tickets import Ticket

_WAITING, _GRANTED, _GONE = range(3)
_arrivals = itertools.count()


class _Waiter:
    __slots__ = ("arrival", "order", "state", "wake")

    def __init__(self, order: int, wake: Callable[[], None]) -> None:
        self.order = order
        self.arrival = next(_arrivals)
        self.state = _WAITING
        self.wake = wake

    def __lt__(self, other: _Waiter) -> bool:
        return (self.order, self.arrival) < (other.order, other.arrival)


Waiting = _Waiter
"""A place in the queue."""


class Limit:
    """At most `capacity` holders at once; waiters are admitted by `order` (lowest first), then by arrival.

    Safe across threads and event loops. `release` never blocks and may run inside a garbage collection, even one
    that interrupts this very class on the same thread: returned slots go through a deque, and whoever can take the
    lock hands them out.
    """

    __slots__ = ("__weakref__", "_gone", "_lock", "_returned", "_waiters", "capacity", "in_flight", "name", "peak")

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.in_flight = 0
        self.peak = 0
        """The highest number of holders so far."""
        self._waiters: list[_Waiter] = []
        self._gone = 0
        self._lock = threading.Lock()
        self._returned: deque[None] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiters) - self._gone

    def try_acquire(self) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        with self._lock:
            taken = self._take_free()
        self._hand_out()
        return taken

    def take_or_queue(self, order: int, wake: Callable[[], None]) -> Waiting | bool:
        """Take a slot (True) or queue for one: `wake` is called, on whatever thread, once it is taken.

        False: it is busy at this moment, perhaps with what a garbage collection interrupted on this very thread.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            waiter = None if self._take_free() else _Waiter(order, wake)
            if waiter is not None:
                heapq.heappush(self._waiters, waiter)
        finally:
            self._lock.release()
        self._hand_out()
        return True if waiter is None else waiter

    def withdraw(self, waiting: Waiting) -> None:
        """Leave the queue; a slot that was taken meanwhile goes to the next."""
        if self._leave(waiting):
            self.release()

    async def acquire(self, order: int) -> None:
        """Wait for a slot. A cancelled waiter leaves the queue, and a slot granted meanwhile goes to the next."""
        if self.try_acquire():
            return
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[None] = loop.create_future()
        waiter = _Waiter(order, lambda: _wake_future(loop, granted))
        if self._queue(waiter):
            return
        try:
            await granted
        except BaseException:
            if self._leave(waiter):
                self.release()
            raise

    def acquire_blocking(self, order: int, wakeups: SimpleQueue[None], timeout_s: float | None = None) -> bool:
        """Wait for a slot on this thread, until something else is put into `wakeups` or the time is over.

        Returns whether the slot was granted.
        """
        if self.try_acquire():
            return True
        waiter = _Waiter(order, lambda: wakeups.put(None))
        if self._queue(waiter):
            return True
        try:
            wakeups.get(timeout=timeout_s)
        except Empty:
            pass
        except BaseException:
            if self._leave(waiter):
                self.release()
            raise
        return self._leave(waiter)

    def release(self) -> None:
        """Give a slot back."""
        self._returned.append(None)
        self._hand_out()

    def _take_free(self) -> bool:
        if self.in_flight >= self.capacity or self.waiting:
            return False
        self._occupy()
        return True

    def _occupy(self) -> None:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def _queue(self, waiter: _Waiter) -> bool:
        """Queue the waiter unless a slot came free meanwhile; returns whether it was admitted at once."""
        with self._lock:
            admitted = self._take_free()
            if not admitted:
                heapq.heappush(self._waiters, waiter)
        self._hand_out()
        return admitted

    def _leave(self, waiter: _Waiter) -> bool:
        """Take a waiter out of the queue; returns whether it had been granted its slot, which it then holds."""
        with self._lock:
            granted = waiter.state == _GRANTED
            if not granted:
                waiter.state = _GONE
                self._gone += 1
                if self._gone > 16 and self._gone * 2 > len(self._waiters):
                    self._waiters = [w for w in self._waiters if w.state == _WAITING]
                    heapq.heapify(self._waiters)
                    self._gone = 0
        self._hand_out()
        return granted

    def _hand_out(self) -> None:
        # The second look at the deque happens after the lock is free: a release that found it taken is seen here.
        while self._returned and self._lock.acquire(blocking=False):
            try:
                admitted = self._settle()
            finally:
                self._lock.release()
            for waiter in admitted:
                try:
                    waiter.wake()
                except RuntimeError:  # its event loop is closed: nobody is there to use the slot
                    self._returned.append(None)

    def _settle(self) -> list[_Waiter]:
        while self._returned:
            self._returned.popleft()
            self.in_flight -= 1
        admitted = []
        while self._waiters and self.in_flight < self.capacity:
            waiter = heapq.heappop(self._waiters)
            if waiter.state == _GONE:
                self._gone -= 1
                continue
            waiter.state = _GRANTED
            self._occupy()
            admitted.append(waiter)
        return admitted


class Permit:
    """The right to have one call in flight: a slot in each limit that bounds it. Released once, whoever asks."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[Limit | Ticket] = []

    def add(self, limit: Limit | Ticket) -> None:
        """Note that a slot of the limit, or the ticket, is held."""
        self._held.append(limit)

    def release(self) -> None:
        """Give every slot back; does nothing the second time, and is safe inside a garbage collection."""
        while True:
            try:
                limit = self._held.pop()
            except IndexError:
                return
            limit.release()


def _wake_future(loop: asyncio.AbstractEventLoop, granted: asyncio.Future[None]) -> None:
    loop.call_soon_threadsafe(_resolve, granted)


def _resolve(granted: asyncio.Future[None]) -> None:
    if not granted.done():
        granted.set_result(None)

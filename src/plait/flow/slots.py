"""The slots of the process's own bound that a lane's next calls need, one waited for at a time.

All methods are called under the lane's lock. What must happen after that lock is free is given to `after`.
"""

from __future__ import annotations

from collections.abc import Callable

from plait.flow.clock import Clock
from plait.flow.leases import UNLIMITED
from plait.flow.limits import Limit, Waiting

Action = Callable[[], None]


class Slots:
    """One lane's view of the bound of all lanes together; `limit` None: there is none.

    `tell` deals with an event of the lane's, now or later, on any thread.
    """

    def __init__(self, limit: Limit | None, clock: Clock, tell: Callable[[Action], None]) -> None:
        self.is_busy = False
        """Whether the bound's lock was taken, so that it is worth asking again at once."""
        self._limit = limit
        self._clock = clock
        self._tell = tell
        self._waiting: Waiting | None = None
        self._mark: object = None
        self._spare = 0

    @property
    def capacity(self) -> int | None:
        """Of the bound."""
        return self._limit.capacity if self._limit else None

    @property
    def awaited(self) -> bool:
        """Whether a slot is waited for, which will be told."""
        return self._waiting is not None

    def at_most(self, slots: int) -> int:
        """So many, or what the bound allows."""
        return min(slots, self._limit.capacity if self._limit else UNLIMITED)

    def take(self, order: int) -> bool:
        """Whether there is one for a call of this order now; if not, it is waited for."""
        if self._limit is None:
            return True
        if self._spare:
            self._spare -= 1
            return True
        if self._waiting is None:
            mark = object()
            found = self._limit.take_or_queue(order, lambda: self._tell(lambda: self._come(mark)))
            self.is_busy = found is False
            if isinstance(found, bool):
                return found
            self._waiting, self._mark = found, mark
        return False

    def end_one(self, after: list[Action]) -> None:
        """A call that had one has ended."""
        if self._limit is not None:
            after.append(self._limit.release)

    def return_unused(self, after: list[Action]) -> None:
        """No call needs one now: others can use what came, and nobody waits here."""
        if self._limit is None:
            return
        after += [self._limit.release] * self._spare
        self._spare = 0
        if self._waiting is not None:
            limit, waiting, self._waiting = self._limit, self._waiting, None
            # Elsewhere: that waits for a lock, which a garbage collection must not.
            after.append(lambda: self._clock.call_at(self._clock.now(), lambda: limit.withdraw(waiting)))

    def _come(self, mark: object) -> None:
        if self._waiting is not None and mark is self._mark:  # else it was withdrawn, and gave the slot back
            self._waiting = None
            self._spare += 1

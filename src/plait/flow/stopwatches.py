"""How long a queue was held up, and by what: one clock for all that wait, whenever they came."""

from __future__ import annotations

from plait.flow.leases import Cause
from plait.flow.tickets import Ticket

CAUSES: tuple[Cause, ...] = ("concurrency", "rpm", "tpm", "quota")


class Stopwatch:
    """Seconds by cause since the beginning; a ticket waited for what was added between its coming and its going."""

    def __init__(self) -> None:
        self.cause: Cause | None = None
        """What holds the first of the queue up."""
        self.since = 0.0
        """From when it has been that."""
        self._seconds = dict.fromkeys(CAUSES, 0.0)
        self._counted_at = 0.0

    def hold(self, cause: Cause | None, now: float) -> None:
        """From now on this is what the queue waits for; None: it does not wait."""
        self._count(now)
        if cause != self.cause:
            self.cause, self.since = cause, now

    def begin(self, ticket: Ticket, now: float) -> None:
        """A ticket comes."""
        self._count(now)
        ticket.since = tuple(self._seconds.values())

    def end(self, ticket: Ticket, now: float) -> None:
        """Its turn has come."""
        self._count(now)
        assert ticket.since is not None
        for cause, before in zip(CAUSES, ticket.since, strict=True):
            if (waited := self._seconds[cause] - before) > 0:
                ticket.waits[cause] = waited

    def _count(self, now: float) -> None:
        if self.cause is not None:
            self._seconds[self.cause] += max(0.0, now - self._counted_at)
        self._counted_at = now

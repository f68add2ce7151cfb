"""What a shared budget is kept in: named states that several processes change in one atomic step, and one clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from typing import Protocol

from pydantic import TypeAdapter

from plait.errors import SettingsError
from plait.flow.clock import Clock
from plait.flow.entries import Entry
from plait.flow.leases import Lease, Report

VERSION = 1
"""Of the stored states. Another plait's is refused: half of a law that two versions disagree on is none."""
FORGOTTEN_S = 30 * 86_400.0
"""A state that nobody changed for so long goes."""
FORGOTTEN_HERE_S = 86_400.0
"""Servers on this machine come and go, each on a port of its own."""
LOOPBACK = "http://127.0.0.1:"
_LONGEST = 500
_DRIFT = 2e-4
"""Seconds that two clocks may drift apart in one; NTP slews by up to 500 ppm for a short while, quartz by 50."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time on the ledger's clock, and what separates that clock from this process's."""

    now: float
    """On a clock that all processes which share the ledger see alike."""
    wall: float
    """Seconds since 1970."""
    ahead_s: float = 0.0
    """How far the ledger's `now` is ahead of this process's `Clock.now`."""
    wall_ahead_s: float = 0.0
    """The same for `Clock.wall`."""


Change = Callable[[Sequence[str | None], Moment], Sequence[str | None]]
"""Takes the states of some names, None for those that are not there; returns the new ones, None to remove one.

May be called more than once for one step, each time with newer states; only what it returned last was kept.
"""


class Ledger(Protocol):
    """Belongs to one thread and connects when it is first used. After an error the next use starts from a sound state.

    Whatever cannot be reached or used raises the driver's own error, OSError, or a PlaitError that says what to do.
    """

    where: str
    """For messages: a path, or a URL without its password."""
    remote: bool
    """Whether it may be out of reach for a while and come back."""

    def change(self, names: Sequence[str], change: Change) -> None:
        """Replace the states of these names in one atomic step. Blocks."""
        ...

    def states(self) -> tuple[dict[str, str], Moment]:
        """All states by name, and the time. Changes nothing. Blocks."""
        ...

    def check(self) -> None:
        """Connect, and find out whether states could be changed; raises what stands in the way. Blocks."""
        ...

    def again_s(self, error: Exception, failures: int) -> float:
        """Seconds until it should be tried again after so many failures in a row; inf for never."""
        ...

    def cure(self, error: Exception) -> str:
        """What the user can do about it."""
        ...

    def close(self) -> None:
        """Let go of connections and files; never raises."""
        ...


def storable(name: str) -> str:
    """A part's name as all ledgers take it: callers name models, and may name them with anything of any length."""
    found = name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    if len(found) <= _LONGEST:
        return found
    return f"{found[:_LONGEST]}...{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


@cache
def adapter() -> TypeAdapter[Entry]:
    """Reads and writes a state."""
    return TypeAdapter(Entry)


def parse(state: str) -> Entry:
    """Raises pydantic's ValidationError."""
    entry: Entry = adapter().validate_json(state)
    return entry


def dump(entry: Entry) -> str:
    """The state of an entry, as JSON."""
    return adapter().dump_json(entry).decode()


def is_spilt(where: str) -> bool:
    """Whether `shown` could not tell a URL's host from its password."""
    return where.endswith("://...")


def other_version(where: str, found: object) -> str:
    """The message for states that another version of plait keeps."""
    return (
        f"{where} is of version {found}, this plait knows version {VERSION}: expected the same plait wherever the "
        "budget is shared; upgrade the older one, or give this one another database"
    )


# --- clocks --------------------------------------------------------------------------------------------


class Offset:
    """How far a server's clock is ahead of a local one, from looks at it over a network.

    Cristian's algorithm (1989) as an intersection of intervals (Marzullo 1984): a server's time that was read between
    two local times bounds the offset from both sides, so the quickest answers decide, however slow others are. The
    interval widens with the clocks' drift; a look that contradicts it means that a clock was set, and counts alone.
    """

    def __init__(self) -> None:
        self._low = self._high = 0.0
        self._at: float | None = None

    def look(self, before: float, server: float, after: float) -> float:
        """Take in a server's time, read between two local times; returns the offset in seconds."""
        low, high = server - after, server - before
        if self._at is not None:
            drift = _DRIFT * max(0.0, after - self._at)
            both = max(low, self._low - drift), min(high, self._high + drift)
            low, high = both if both[0] <= both[1] else (low, high)
        self._low, self._high, self._at = low, high, after
        return (low + high) / 2


class ServerClock:
    """Moments by a server's clock, which is one of seconds since 1970."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = Offset()

    def before(self) -> float:
        """The local time, to be handed to `moment`."""
        return self._clock.now()

    def moment(self, before: float, server: float) -> Moment:
        """The moment of a server's time that was read between `before` and now."""
        ahead_s = self._offset.look(before, server, self._clock.now())
        return Moment(server, server, ahead_s, ahead_s + self._clock.now() - self._clock.wall())


def to_ledger(report: Report, moment: Moment) -> Report:
    """The report with its times on the ledger's clock."""
    if not moment.ahead_s:
        return report
    refusals = [replace(each, sent_at=each.sent_at + moment.ahead_s) for each in report.refusals]
    told = [replace(each, sent_at=each.sent_at + moment.ahead_s) for each in report.told]
    return replace(report, refusals=refusals, told=told)


def from_ledger(lease: Lease, moment: Moment) -> Lease:
    """The lease with its times on this process's clocks."""
    if not moment.ahead_s and not moment.wall_ahead_s:
        return lease
    until = lease.quota_until
    return replace(
        lease,
        starts_at=lease.starts_at - moment.ahead_s,
        renew_at=lease.renew_at - moment.ahead_s,
        expires_at=lease.expires_at - moment.ahead_s,
        quota_until=None if until is None else until - moment.wall_ahead_s,
    )


def readable(states: Mapping[str, str]) -> dict[str, Entry]:
    """The entries that can be read."""
    found = {}
    for name, state in sorted(states.items()):
        try:
            found[name] = parse(state)
        except ValueError:  # pydantic's is one
            continue
    return found


# --- servers -------------------------------------------------------------------------------------------

PATIENCE_S = 2.0
"""What a server must answer within; then calls go on without it."""
_SOONEST_S, _LATEST_S = 0.25, 5.0


def server_again_s(failures: int) -> float:
    """Seconds until a server is tried again: soon, for one that is restarted, and never later than five."""
    return min(_LATEST_S, _SOONEST_S * 2.0 ** min(failures, 10))


SERVER_CURE = "see that the server runs, and that the URL, the user and the password are right"
"""What to do about a server that cannot be used, where its driver says why."""


def missing_extra(where: str, extra: str, error: ImportError) -> SettingsError:
    """The message for a server whose driver is not there, or is broken."""
    return SettingsError(
        f"a budget at {where} needs the extra {extra!r}: pip install 'plait[{extra}]' (the import says: {error})"
    )


def unreadable_url(where: str) -> SettingsError:
    """The message for a URL that the driver does not understand; what the driver says may quote a password."""
    return SettingsError(
        f"the budget's URL cannot be read ({where}): expected scheme://HOST:PORT/DATABASE, with USER:PASSWORD@ "
        "before the host, in which what is no letter or digit of them is percent-encoded"
    )

"""What a process keeps to while the budget it shares cannot be reached: its part of what was known last.

Of limits and of what the user set each process takes one part of as many as were seen to share them; of calls in flight
what its last lease allowed, which for all processes together was within the bound; of a day what was left, divided. So
they stay within the limits together, but for what was promised before, and for processes that came later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from plait.flow.buckets import UNBOUNDED, Bucket
from plait.flow.budgets import Deliver, MemoryBudget, Part, new_entry
from plait.flow.clock import Clock
from plait.flow.entries import Entry
from plait.flow.headers import Advice, Reading
from plait.flow.leases import UNLIMITED, Bound, Report
from plait.flow.ledgers import Moment, parse
from plait.flow.quotas import Day

PEAK_S = 300.0
"""How long the most processes that were seen are remembered: those that rest now may come back during an outage."""


@dataclass(frozen=True, slots=True)
class Known:
    """The state of an entry when it was last seen."""

    state: str
    moment: Moment
    """On the ledger's clock, with what separates it from this process's."""
    processes: int
    """The most that shared it lately."""
    peak_at: float
    """When they were seen, on this process's clock."""


def known(state: str, entry: Entry, moment: Moment, before: Known | None) -> Known:
    """Note a state that was just written."""
    at = moment.now - moment.ahead_s
    count = max(1, len({name.partition("-")[0] for name in entry.holders}))
    if before is not None and count < before.processes and at - before.peak_at < PEAK_S:
        return Known(state, moment, before.processes, before.peak_at)
    return Known(state, moment, count, at)


class ShareBudget:
    """A `budgets.Budget` of this process alone. `seen`: by names of parts; `slots`: of the last leases, by holder."""

    def __init__(self, clock: Clock, seen: Mapping[str, Known], slots: Mapping[str, int]) -> None:
        self._seen = dict(seen)
        self._slots = dict(slots)
        self._parts: dict[tuple[Part, int | None], Part] = {}
        self._most = max((each.processes for each in self._seen.values()), default=1)
        self._memory = MemoryBudget(clock, begin=self._begin)

    @property
    def processes(self) -> int:
        """How many share the limits, as far as known."""
        return self._most

    def exchange(self, parts: Sequence[Part], report: Report, deliver: Deliver) -> None:
        slots = self._slots.get(report.holder)
        count = self._count(parts[0])
        told = [replace(each, advice=_divided(each.advice, count)) for each in report.told]
        self._memory.exchange([self._shared(part, slots) for part in parts], replace(report, told=told), deliver)

    def close(self) -> None:
        """Nothing outlives the process."""

    def days(self) -> dict[str, Day]:
        """What this process has used of each day since."""
        return {name: entry.day for name, entry in self._memory.entries().items() if entry.day.date}

    def _count(self, part: Part) -> int:
        known = self._seen.get(part.name)
        return known.processes if known else self._most

    def _shared(self, part: Part, slots: int | None) -> Part:
        found = self._parts.get((part, slots))
        if found is None:
            used, known = Entry(), self._seen.get(part.name)
            if known is not None:
                used = parse(known.state)
                used.day.advance(known.moment.wall, part.bound.timezone)
            bound = _bound(part.bound, self._count(part), used, slots)
            found = self._parts[part, slots] = replace(part, bound=bound)
        return found

    def _begin(self, part: Part, now: float) -> Entry:
        known = self._seen.get(part.name)
        if known is None:
            entry = new_entry(part, now)
            entry.requests.pace /= self._most
            return entry
        return _entry(part, parse(known.state), known, now)


def _bound(bound: Bound, count: int, used: Entry, slots: int | None) -> Bound:
    """One of `count` parts; of a day, of what was left of it."""
    most = bound.max_concurrency
    if most is not None:
        most = max(1, min(most, slots)) if slots is not None and slots < UNLIMITED else max(1, most // count)

    def left(most: int | None, gone: float) -> int | None:
        return None if most is None else max(0, math.floor((most - gone) / count))

    return replace(
        bound,
        max_concurrency=most,
        rpm=None if bound.rpm is None else bound.rpm / count,
        tpm=None if bound.tpm is None else bound.tpm / count,
        rpd=left(bound.rpd, used.day.requests + used.promised_requests),
        tpd=left(bound.tpd, used.day.tokens + used.promised_tokens),
    )


def _entry(part: Part, found: Entry, known: Known, now: float) -> Entry:
    """What is known, in parts, on this process's clock; stocks are left to those who were promised some."""
    entry = new_entry(part, now)
    count, moment = known.processes, known.moment
    for ours, theirs in ((entry.requests, found.requests), (entry.tokens, found.tokens)):
        _take_part(ours, theirs, count)
        ours.quiet_until = theirs.quiet_until - moment.ahead_s
    window = found.window
    if window.ceiling is not None or window.cap is not None:
        entry.window.ceiling = max(1.0, window.limit / count)
    entry.window.flood = max(1.0, window.flood / count)
    entry.window.floor = window.floor
    entry.day = Day(spent_until=found.day.spent_until - moment.wall_ahead_s if found.day.spent_until else 0.0)
    entry.sizes = dict(found.sizes)
    return entry


def _divided(advice: Advice, count: int) -> Advice:
    """What the endpoint allows all of them, as one part of it."""

    def part(reading: Reading | None) -> Reading | None:
        if reading is None:
            return None
        limit = None if reading.limit is None else reading.limit / count
        return replace(reading, limit=limit, remaining=None if reading.remaining is None else reading.remaining / count)

    return replace(advice, requests=part(advice.requests), tokens=part(advice.tokens))


def _take_part(ours: Bucket, theirs: Bucket, count: int) -> None:
    ours.unit, ours.guessed, ours.burst_learnt = theirs.unit, theirs.guessed, theirs.burst_learnt
    ours.pace = theirs.pace / count
    if theirs.rate is None:
        return
    ours.rate = theirs.rate / count
    ours.told = None if theirs.told is None else theirs.told / count
    ours.burst = theirs.burst if theirs.burst >= UNBOUNDED else max(theirs.unit, theirs.burst / count)
    ours.level = 0.0

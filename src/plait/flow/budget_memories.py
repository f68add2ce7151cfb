"""What a process remembers of the budget it shares: for the time of an outage, and for what comes after it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from pydantic import ValidationError

from plait.flow.budget_shares import Known, ShareBudget, known
from plait.flow.budgets import Part, new_entry
from plait.flow.clock import Clock
from plait.flow.control import exchange
from plait.flow.entries import GONE_S, Entry
from plait.flow.holders import lives
from plait.flow.leases import Lease, Report
from plait.flow.ledgers import Moment, dump, parse
from plait.flow.quotas import Day

logger = logging.getLogger("plait.flow")

_SUSPECT_S = 0.3
"""A holder that has been silent for so long is looked at: does its process still live?"""
_MOST_KNOWN = 2000


class BudgetMemory:
    """Belongs to the thread that asks the ledger; `share` may be called from others.

    `restores`: what the ledger lost is put back, as where a server keeps nothing on a disk.
    """

    def __init__(self, *, restores: bool) -> None:
        self._restores = restores
        self._seen: dict[str, Known] = {}
        self._slots: dict[str, int] = {}
        self._owed: dict[str, Day] = {}
        self._spared: dict[str, float] = {}

    def share(self, clock: Clock) -> ShareBudget:
        """What this process keeps to while the ledger cannot be used."""
        return ShareBudget(clock, self._seen, self._slots)

    def note(self, parts: Sequence[Part], states: Sequence[str], entries: Sequence[Entry], moment: Moment) -> None:
        """These states were written."""
        if len(self._seen) > _MOST_KNOWN:
            self._seen.clear()
        for part, state, entry in zip(parts, states, entries, strict=True):
            self._seen[part.name] = known(state, entry, moment, self._seen.get(part.name))
        self.settle(parts)

    def settle(self, parts: Sequence[Part]) -> None:
        """The ledger has what an outage left to be told of these."""
        for part in parts:
            self._owed.pop(part.name, None)
            self._spared.pop(part.name, None)

    def note_lease(self, report: Report, lease: Lease) -> None:
        """A holder has this lease now."""
        if report.leaving:
            self._slots.pop(report.holder, None)
        else:
            self._slots[report.holder] = lease.slots

    def end_outage(self, used: Mapping[str, Day], *, spares: bool) -> None:
        """`used`: of the present day meanwhile. `spares`: it was the ledger that was silent, not its holders."""
        # What was sent of a rate has long been refilled.
        for name, day in used.items():
            before = self._owed.get(name)
            if before is not None and before.date == day.date:
                day = replace(day, requests=day.requests + before.requests, tokens=day.tokens + before.tokens)  # noqa: PLW2901
            self._owed[name] = day
        if spares:
            self._spared = {name: each.moment.now - GONE_S for name, each in self._seen.items()}

    def entry(self, part: Part, state: str | None, moment: Moment) -> Entry:
        """The entry of a state that was found, or of none, with what this process knows better."""
        entry = self._read(part, state, moment)
        spared_since = self._spared.get(part.name)
        for name, holder in entry.holders.items():
            silent_s = moment.now - holder.seen
            if silent_s > _SUSPECT_S and not lives(name):
                # A killed process gives back at once what it held; the law itself waits for three seconds of silence.
                holder.seen = moment.now - 1e6
            elif spared_since is not None and holder.seen > spared_since:
                # They have as much in flight as before, and report within a second.
                holder.seen = moment.now
        owed = self._owed.get(part.name)
        if owed is not None:
            entry.day.advance(moment.wall, part.bound.timezone)
            if entry.day.date == owed.date:
                entry.day.requests += owed.requests
                entry.day.tokens += owed.tokens
        return entry

    def _read(self, part: Part, state: str | None, moment: Moment) -> Entry:
        if state is not None:
            try:
                return parse(state)
            except ValidationError:
                logger.warning("what was known of %s cannot be read and is learnt anew", part.name)
        elif self._restores and part.name in self._seen:
            return parse(self._seen[part.name].state)
        return new_entry(part, moment.now)


def was_taken_in(states: Sequence[str | None], holder: str, times: Collection[float]) -> bool:
    """Whether a holder's report of one of these times is in the states: nobody else writes such a time for it."""
    for state in states:
        if state is None or holder not in state:
            continue
        with suppress(ValidationError):
            found = parse(state).holders.get(holder)
            if found is not None and found.seen in times:
                return True
    return False


def without_sums(report: Report) -> Report:
    """What is so now, without what happened since the report before: for one that was taken in already."""
    return Report(
        report.holder,
        in_flight=report.in_flight,
        waiting=report.waiting,
        waiting_tokens=report.waiting_tokens,
        first_tokens=report.first_tokens,
        asked=report.asked,
        held_up=report.held_up,
        new=report.new,
        sizes=report.sizes,
        leaving=report.leaving,
    )


def granted(
    parts: Sequence[Part], entries: Sequence[Entry], report: Report, moment: Moment
) -> tuple[Lease, list[Entry], list[str]]:
    """The lease for a report, with the entries after it and their states. Entries that make no sense are begun anew."""
    now, wall = moment.now, moment.wall
    found = list(entries)
    try:
        lease = exchange([(entry, part.bound) for entry, part in zip(found, parts, strict=True)], report, now, wall)
        return lease, found, [dump(entry) for entry in found]
    except Exception:  # all processes would stumble over it again and again: better to learn anew
        logger.exception("what was learnt of %s made no sense and is learnt anew", parts[0].name)
    found = [new_entry(part, now) for part in parts]
    for new, old in zip(found, entries, strict=True):
        new.day = old.day
    report = replace(report, refusals=[], told=[])
    lease = exchange([(entry, part.bound) for entry, part in zip(found, parts, strict=True)], report, now, wall)
    return lease, found, [dump(entry) for entry in found]

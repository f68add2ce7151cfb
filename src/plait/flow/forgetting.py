"""Forgets what the shared budget has learnt, or what it has counted today, under processes that go on using it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import ValidationError

from plait.flow.budgets import Part, new_entry
from plait.flow.entries import GONE_S, Entry
from plait.flow.ledgers import Ledger, Moment, dump, parse
from plait.flow.quotas import Day


def forget(ledger: Ledger, zones: Mapping[str, str], *, learnt: bool, today: bool) -> None:
    """Forget it for the names of `zones`, whose values are the time zones in which their days begin.

    Bounds that the user set, calls in flight and, without `today`, the day's counts stay: to lose those would let
    more calls through than allowed. What is then empty goes altogether from a file; on a server it stays, as processes
    that still know it would take its loss for the server's. Raises what the ledger raises.
    """

    def step(name: str, state: str | None, moment: Moment) -> str | None:
        if state is None:
            return None
        try:
            entry = _without(name, parse(state), moment.now, learnt=learnt, today=today)
        except ValidationError:
            entry = Entry()
        entry.day.advance(moment.wall, zones[name])
        in_use = any(moment.now - holder.seen <= GONE_S for holder in entry.holders.values())
        return dump(entry) if ledger.remote or in_use or entry.day.requests or not learnt else None

    for name in zones:

        def change(states: Sequence[str | None], moment: Moment, name: str = name) -> Sequence[str | None]:
            return [step(name, states[0], moment)]

        ledger.change([name], change)


def _without(name: str, entry: Entry, now: float, *, learnt: bool, today: bool) -> Entry:
    found = entry
    if learnt:
        found = new_entry(Part(name, learns=entry.learns), now)
        found.rpm, found.tpm, found.holders, found.seen_wall = entry.rpm, entry.tpm, entry.holders, entry.seen_wall
        # Holders give back what they were promised and do not send.
        found.requests.level -= sum(holder.requests for holder in entry.holders.values())
        found.tokens.level -= sum(holder.tokens for holder in entry.holders.values())
    found.day = Day(entry.day.date) if today else replace(entry.day, spent_until=0.0)
    return found

"""Forgets what the shared budget has learnt, or what it has counted today, under processes that go on using it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from plait.flow.budgets import Part, new_entry
from plait.flow.entries import GONE_S, Entry
from plait.flow.host_budget import BUSY_S, adapter
from plait.flow.quotas import Day


def forget(file: Path, zones: Mapping[str, str], *, learnt: bool, today: bool) -> None:
    """Forget it for the names of `zones`, whose values are the time zones in which their days begin.

    Bounds that the user set, calls in flight and, without `today`, the day's counts stay: to lose those would let
    more calls through than allowed. What is then empty goes altogether. Raises sqlite3.Error.
    """
    now, wall = time.monotonic(), time.time()
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN IMMEDIATE")
        for name, zone in zones.items():
            row = connection.execute("SELECT state FROM entries WHERE name = ?", (name,)).fetchone()
            if row is None:
                continue
            try:
                entry = _without(name, adapter().validate_json(row[0]), now, learnt=learnt, today=today)
            except ValidationError:
                entry = Entry()
            entry.day.advance(wall, zone)
            in_use = any(now - holder.seen <= GONE_S for holder in entry.holders.values())
            if in_use or entry.day.requests or not learnt:
                state = adapter().dump_json(entry).decode()
                connection.execute("UPDATE entries SET state = ? WHERE name = ?", (state, name))
            else:
                connection.execute("DELETE FROM entries WHERE name = ?", (name,))
        connection.execute("COMMIT")


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

"""What becomes of the runs of a server that died: another one takes them over, or gives them up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace

from plait.store.service.conditions import Condition, equal, every
from plait.store.service.records import RunRecord
from plait.store.service.rows import RUNS, dumped
from plait.store.service.threads import OPEN, ThreadOutcome, settle

__all__ = ["Adopted", "adopt"]

_RESUME = "UPDATE runs SET status = 'pending', server = ?, updated_at = ? WHERE run_id = ?"
_GIVE_UP = "UPDATE runs SET status = 'error', error = ?, server = ?, updated_at = ? WHERE run_id = ?"


@dataclass(frozen=True, slots=True)
class Adopted:
    """The runs of a server that is gone, in the order in which they are due.

    `resumed` are pending in the new server's queue, also those that somebody had asked to end (`cancel`); `given_up`
    were begun as often as they may be, and are now over with an error.
    """

    resumed: list[RunRecord]
    given_up: list[RunRecord]


def adopt(connection: sqlite3.Connection, dead: str, server: str, max_attempts: int, now: float) -> Adopted:
    """See Runs.adopt; in the caller's transaction."""
    where = every(equal("runs.server", dead), Condition(f"runs.{OPEN}"))
    found = RUNS.all(connection, where, "runs.due_at, runs.number")
    lost = [run for run in found if run.status == "running" and run.attempt >= max_attempts]
    given_up = _given_up(connection, lost, server, now)
    over = {run.run_id for run in given_up}
    resumed = [replace(run, status="pending", server=server, updated_at=now) for run in found if run.run_id not in over]
    connection.executemany(_RESUME, [(server, now, run.run_id) for run in resumed])
    for run in given_up:
        settle(connection, run.thread_id, ThreadOutcome("error", error=run.error), now)
    return Adopted(resumed, given_up)


def _given_up(connection: sqlite3.Connection, lost: Iterable[RunRecord], server: str, now: float) -> list[RunRecord]:
    given_up = []
    for run in lost:
        times = "once" if run.attempt == 1 else f"{run.attempt} times"
        error = {"error": "ServerDied", "message": f"the server died while it ran, {times}; start it again to go on"}
        given_up.append(replace(run, status="error", server=server, error=error, updated_at=now))
        connection.execute(_GIVE_UP, (dumped(error), server, now, run.run_id))
    return given_up

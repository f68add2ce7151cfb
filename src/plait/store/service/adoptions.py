"""How runs come to another server: those of one that died, and those that wait at one that is busy."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from plait.store.connections import Connection
from plait.store.service.conditions import Condition, equal, every, listed
from plait.store.service.faults import ServerDied
from plait.store.service.records import RunRecord
from plait.store.service.rows import RUNS, dumped
from plait.store.service.threads import OPEN, ThreadOutcome, settle

__all__ = ["STAYS", "Adopted", "adopt", "take"]

STAYS = "stays"
"""In a run's kwargs: only the server that it was sent to can do it as it was asked for."""

_RESUME = "UPDATE runs SET status = 'pending', server = ?, updated_at = ? WHERE run_id = ?"
_TAKE = "UPDATE runs SET server = ?, updated_at = ? WHERE run_id = ?"
# As Runs.claim has it: one of a thread at a time, in the order in which they are due.
_TAKABLE = Condition(f"""
runs.status = 'pending' AND runs.server <> ? AND runs.cancel IS NULL AND runs.due_at <= ? AND runs.updated_at <= ?
AND instr(runs.kwargs, '"{STAYS}":true') = 0 AND NOT EXISTS (
    SELECT 1 FROM runs AS other WHERE other.thread_id = runs.thread_id AND other.{OPEN} AND (
        other.status = 'running' OR (other.due_at, other.number) < (runs.due_at, runs.number)))
""")  # noqa: S608
_MOST_OF_KEY = """
SELECT max_running - (
    SELECT count(*) FROM runs WHERE runs.key_id = keys.key_id
    AND (status = 'running' OR (status = 'pending' AND server = ?)))
FROM keys WHERE key_id = ? AND max_running IS NOT NULL
"""
_GIVE_UP = "UPDATE runs SET status = 'error', error = ?, server = ?, updated_at = ? WHERE run_id = ?"


@dataclass(frozen=True, slots=True)
class Adopted:
    """The runs of a server that is gone, in the order in which they are due.

    `resumed` are pending in the new server's queue, also those that somebody had asked to end (`cancel`), and those
    that were begun as often as they may be, which the server is to end as failed, with the state that they got to.
    `given_up` are those whose server died of that, too: they are over with an error, and leave no values.
    """

    resumed: list[RunRecord]
    given_up: list[RunRecord]


def adopt(
    connection: Connection,
    dead: str,
    server: str,
    max_attempts: int,
    now: float,
    *,
    only: Collection[str] | None = None,
) -> Adopted:
    """See Runs.adopt; in the caller's transaction."""
    named = listed("runs.run_id", None if only is None else dumped([*only]))
    where = every(equal("runs.server", dead), Condition(f"runs.{OPEN}"), named)
    found = RUNS.all(connection, where, "runs.due_at, runs.number")
    lost = [run for run in found if run.status == "running" and run.attempt > max_attempts]
    given_up = _given_up(connection, lost, server, now)
    over = {run.run_id for run in given_up}
    resumed = [replace(run, status="pending", server=server, updated_at=now) for run in found if run.run_id not in over]
    connection.executemany(_RESUME, [(server, now, run.run_id) for run in resumed])
    for run in given_up:
        settle(connection, run.thread_id, ThreadOutcome("error", error=run.error), now)
    return Adopted(resumed, given_up)


def _given_up(connection: Connection, lost: Iterable[RunRecord], server: str, now: float) -> list[RunRecord]:
    given_up = []
    for run in lost:
        error = {"error": ServerDied.__name__, "message": str(ServerDied(run.attempt))}
        given_up.append(replace(run, status="error", server=server, error=error, updated_at=now))
        connection.execute(_GIVE_UP, (dumped(error), server, now, run.run_id))
    return given_up


def take(connection: Connection, server: str, most: int, waited_s: float, now: float) -> list[RunRecord]:
    """See Runs.take; in the caller's transaction."""
    where = _TAKABLE._replace(parameters=(server, now - waited_s, now - waited_s))
    found = RUNS.all(connection, where, "runs.interactive DESC, runs.due_at, runs.number", (most, 0))
    room: dict[str, int] = {}
    taken: list[RunRecord] = []
    for run in found:
        if run.key_id and run.key_id not in room:
            row = connection.execute(_MOST_OF_KEY, (server, run.key_id)).fetchone()
            room[run.key_id] = most if row is None else int(row[0])
        if run.key_id:
            room[run.key_id] -= 1
            if room[run.key_id] < 0:
                continue
        taken.append(replace(run, server=server))
    connection.executemany(_TAKE, [(server, now, run.run_id) for run in taken])
    return taken

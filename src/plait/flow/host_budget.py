"""The budget that all plait processes of a host share: a file, no server.

One SQLite transaction takes in a report and grants a lease on all parts of a budget. It happens on a thread of its
own: leases carry enough for about a tenth of a second, so calls seldom wait for it. The clock is the machine's
monotonic one, which all its processes share. A file that cannot be used is told once and replaced or done without.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from plait.flow.budgets import Deliver, MemoryBudget, Part, new_entry
from plait.flow.clock import Clock
from plait.flow.control import exchange
from plait.flow.entries import Entry
from plait.flow.holders import pid_namespace, placed
from plait.flow.leases import Bound, Lease, Report

logger = logging.getLogger("plait.flow")

VERSION = 1
BUSY_S = 5.0
"""How long one process waits for the others to be done with the file."""
AGAIN_S = 60.0
"""A file that stayed busy for longer is done without for this time: a process that holds it may have been stopped."""
_RETRY_S = 0.01
_FORGOTTEN_S = 30 * 86_400.0
_FORGOTTEN_HERE_S = 86_400.0
_SUSPECT_S = 0.3
"""A holder that has been silent for so long is looked at: does its process still live?"""


class _Wish(NamedTuple):
    parts: Sequence[Part]
    report: Report
    deliver: Deliver


class HostBudget:
    """See `budgets.Budget`. `file` and its folder are made when the first call comes, readable by their owner only.

    `busy_s`: how long calls wait for a file that other processes hold, in seconds.
    """

    def __init__(self, file: Path, clock: Clock, *, busy_s: float = BUSY_S) -> None:
        self._file = file
        self._clock = clock
        self._busy_s = busy_s
        self._wishes: SimpleQueue[_Wish | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._lock = threading.Lock()
        self._instead: MemoryBudget | None = None
        self._again_at = -math.inf
        self._told = False
        self._holding: dict[str, Sequence[Part]] = {}

    def exchange(self, parts: Sequence[Part], report: Report, deliver: Deliver) -> None:
        instead = self._instead
        if instead is not None and self._clock.now() < self._again_at:
            instead.exchange(parts, report, deliver)
            return
        if self._pid != os.getpid():  # the first call, or the first after a fork
            self._start()
        self._wishes.put(_Wish(parts, report, deliver))

    def close(self) -> None:
        """End the thread once it has dealt with all that was asked, and give back what this process still holds."""
        thread = self._thread
        if thread is not None and self._pid == os.getpid() and thread.is_alive():
            self._wishes.put(None)
            thread.join(self._busy_s)
        self._pid = 0

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            self._wishes = SimpleQueue()
            self._holding = {}
            self._thread = threading.Thread(target=self._serve, args=(self._wishes,), name="plait budget", daemon=True)
            self._pid = os.getpid()
            self._thread.start()

    # --- on the thread -----------------------------------------------------------------------------------

    def _serve(self, wishes: SimpleQueue[_Wish | None]) -> None:
        connection: sqlite3.Connection | None = None
        inode = 0
        while (wish := wishes.get()) is not None:
            lease: Lease | None = None
            if self._clock.now() >= self._again_at:
                try:
                    if connection is not None and _inode(self._file) != inode:
                        logger.warning("%s was deleted or replaced; limits are learnt anew", self._file)
                        connection.close()
                        connection = None
                    if connection is None:
                        connection = _open(self._file, self._busy_s)
                        inode = _inode(self._file)
                    lease = self._transact(connection, wish)
                    self._instead = None
                except Exception as error:  # noqa: BLE001 - calls wait for this thread: whatever it is, they go on
                    self._do_without(error)
            try:
                if lease is not None:
                    wish.deliver(lease)
                elif self._instead is not None:
                    self._instead.exchange(wish.parts, wish.report, wish.deliver)
            except Exception:
                logger.exception("a lease could not be delivered")
        if connection is not None:
            with suppress(sqlite3.Error), closing(connection):
                self._leave(connection)

    def _transact(self, connection: sqlite3.Connection, wish: _Wish) -> Lease:
        connection.execute("BEGIN IMMEDIATE")
        try:
            wish.report.holder = placed(wish.report.holder)
            # Read inside the transaction: what waited for the file is not of an earlier time than what it finds there.
            now, wall = self._clock.now(), self._clock.wall()
            entries = [(_load(connection, part, now), part.bound) for part in wish.parts]
            for entry, _ in entries:
                _bury_the_dead(entry, now)
            lease = exchange(entries, wish.report, now, wall)
            _save(connection, wish.parts, entries)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        if wish.report.leaving:
            self._holding.pop(wish.report.holder, None)
        else:
            self._holding[wish.report.holder] = wish.parts
        return lease

    def _leave(self, connection: sqlite3.Connection) -> None:
        for holder, parts in list(self._holding.items()):
            self._transact(connection, _Wish(parts, Report(holder, leaving=True), lambda _: None))

    def _do_without(self, error: Exception) -> None:
        self._instead = self._instead or MemoryBudget(self._clock)
        busy, told, self._told = _is_busy(error), self._told, True
        self._again_at = self._clock.now() + AGAIN_S if busy else math.inf
        if busy and told:
            return
        while_s = f" for {AGAIN_S:.0f} s at a time" if busy else ""
        cure = "end the process that holds it" if busy else "set PLAIT_HOME to a writable folder"
        logger.warning(
            "limits are not shared with other processes%s: cannot use %s: %s (%s, or set PLAIT_SHARE=0 to have it so)",
            *(while_s, self._file, error, cure),
        )


def _is_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _inode(file: Path) -> int:
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return 0


def _bury_the_dead(entry: Entry, now: float) -> None:
    """A killed process gives back at once what it held; the law itself waits for three seconds of silence."""
    for name, holder in entry.holders.items():
        if now - holder.seen > _SUSPECT_S and not _lives(name):
            holder.seen = now - 1e6


def _lives(holder: str) -> bool:
    process = holder.partition("-")[0]
    pid, _, namespace = process.partition("@")
    if namespace != pid_namespace():  # in another container: its numbers mean nothing here
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True


# --- the file ------------------------------------------------------------------------------------------


def read(file: Path) -> dict[str, Entry]:
    """What the file knows, by the names of `budgets.Part`; empty where there is none.

    Raises sqlite3.Error where it cannot be read, OSError where another version of plait wrote it.
    """
    if not file.is_file():
        return {}
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
        _check_version(connection)
        rows = connection.execute("SELECT name, state FROM entries ORDER BY name").fetchall()
    found = {}
    for name, state in rows:
        with suppress(ValidationError):
            found[name] = adapter().validate_json(state)
    return found


def _open(file: Path, busy_s: float) -> sqlite3.Connection:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return _connect(file, busy_s)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # not damaged: busy, read-only, no space
            raise
        aside = file.with_name(f"{file.name}.damaged-{time.time():.0f}")
        file.replace(aside)
        for leftover in (f"{file}-wal", f"{file}-shm"):
            Path(leftover).unlink(missing_ok=True)
        logger.warning("%s was damaged and is now %s; limits are learnt anew", file, aside.name)
        return _connect(file, busy_s)


def _connect(file: Path, busy_s: float) -> sqlite3.Connection:
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    until = time.monotonic() + busy_s
    while True:
        connection = sqlite3.connect(file, timeout=busy_s, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection)
        except BaseException as error:
            connection.close()
            # The timeout is not enough: a change into WAL mode fails at once while another process writes, as when two
            # start together on a new file.
            if not _is_busy(error) or time.monotonic() >= until:
                raise
            time.sleep(_RETRY_S)
        else:
            return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    # A crash of the machine may lose the last moments, never the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    _check_version(connection)
    connection.execute("CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, state TEXT NOT NULL, seen REAL)")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("DELETE FROM entries WHERE seen < ?", (time.time() - _FORGOTTEN_S,))
    # Servers on this machine come and go, each on a port of its own.
    connection.execute(
        "DELETE FROM entries WHERE seen < ? AND name LIKE 'http://127.0.0.1:%'", (time.time() - _FORGOTTEN_HERE_S,)
    )


def _check_version(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found not in {0, VERSION}:
        raise OSError(f"it is of version {found}, this plait knows version {VERSION}")


def _load(connection: sqlite3.Connection, part: Part, now: float) -> Entry:
    row = connection.execute("SELECT state FROM entries WHERE name = ?", (part.name,)).fetchone()
    if row is not None:
        try:
            entry: Entry = adapter().validate_json(row[0])
        except ValidationError:
            logger.warning("what was known of %s cannot be read and is learnt anew", part.name)
        else:
            return entry
    return new_entry(part, now)


def _save(connection: sqlite3.Connection, parts: Sequence[Part], entries: Sequence[tuple[Entry, Bound]]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
        [
            (part.name, adapter().dump_json(entry).decode(), entry.seen_wall)
            for part, (entry, _) in zip(parts, entries, strict=True)
        ],
    )


@cache
def adapter() -> TypeAdapter[Entry]:
    """Reads and writes what the file holds."""
    return TypeAdapter(Entry)

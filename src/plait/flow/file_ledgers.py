"""The ledger that all plait processes of a host share: an SQLite file, no server.

The clock is the machine's monotonic one, which all its processes share.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from plait.flow.clock import Clock
from plait.flow.ledgers import FORGOTTEN_HERE_S, FORGOTTEN_S, LOOPBACK, VERSION, Change, Moment, other_version

logger = logging.getLogger("plait.flow")

BUSY_S = 5.0
"""How long one process waits for the others to be done with the file."""
AGAIN_S = 60.0
"""A file that stayed busy for longer is done without for this time: a process that holds it may have been stopped."""
_RETRY_S = 0.01


class FileLedger:
    """See `ledgers.Ledger`. `file` and its folder are made at the first change, readable by their owner only.

    `busy_s`: how long a change waits for a file that other processes hold, in seconds.
    """

    remote = False

    def __init__(self, file: Path, clock: Clock, *, busy_s: float = BUSY_S) -> None:
        self.where = str(file)
        self._file = file
        self._clock = clock
        self._busy_s = busy_s
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def change(self, names: Sequence[str], change: Change) -> None:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Read inside the transaction: what waited for the file is not of an earlier time than what it finds there.
            moment = Moment(self._clock.now(), self._clock.wall())
            for name, state in zip(names, change([_load(connection, name) for name in names], moment), strict=True):
                if state is None:
                    connection.execute("DELETE FROM entries WHERE name = ?", (name,))
                else:
                    row = (name, state, moment.wall)
                    connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", row)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def states(self) -> tuple[dict[str, str], Moment]:
        moment = Moment(self._clock.now(), self._clock.wall())
        if not self._file.is_file():
            return {}, moment
        uri = f"{self._file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=self._busy_s)) as connection:
            _check_version(connection, self._file)
            rows = connection.execute("SELECT name, state FROM entries ORDER BY name").fetchall()
        return dict(rows), moment

    def check(self) -> None:
        self._connected()

    def again_s(self, error: Exception, failures: int) -> float:
        return AGAIN_S if _is_busy(error) else math.inf

    def cure(self, error: Exception) -> str:
        return "end the process that holds it" if _is_busy(error) else "set PLAIT_HOME to a writable folder"

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and _inode(self._file) != self._inode:
            logger.warning("%s was deleted or replaced; limits are learnt anew", self._file)
            self.close()
        if self._connection is None:
            self._connection = _open(self._file, self._busy_s)
            self._inode = _inode(self._file)
        return self._connection


def _is_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _inode(file: Path) -> int:
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return 0


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
            _prepare(connection, file)
        except BaseException as error:
            connection.close()
            # The timeout is not enough: a change into WAL mode fails at once while another process writes, as when two
            # start together on a new file.
            if not _is_busy(error) or time.monotonic() >= until:
                raise
            time.sleep(_RETRY_S)
        else:
            return connection


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    # A crash of the machine may lose the last moments, never the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    _check_version(connection, file)
    connection.execute("CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, state TEXT NOT NULL, seen REAL)")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("DELETE FROM entries WHERE seen < ?", (time.time() - FORGOTTEN_S,))
    connection.execute(
        "DELETE FROM entries WHERE seen < ? AND name LIKE ?", (time.time() - FORGOTTEN_HERE_S, f"{LOOPBACK}%")
    )


def _check_version(connection: sqlite3.Connection, file: Path) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found not in {0, VERSION}:
        raise OSError(other_version(str(file), found))


def _load(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT state FROM entries WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]

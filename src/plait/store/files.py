"""Open the store's SQLite files, to write or to read, and say in words what went wrong with one."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from plait.errors import StoreError

__all__ = ["Durability", "blames_one", "closed_error", "explained", "open_to_read", "open_to_write"]

Durability = Literal["power", "kill"]

_BUSY_S = 30.0
_RETRY_S = 0.01
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_ITS_OWN_FAULT = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}
_ITS_OWN_FAULT |= {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISUSE}


def open_to_write(file: Path, durability: Durability) -> sqlite3.Connection:
    """The writer's connection in WAL mode, in autocommit; makes the file (0600) and its folder (0700)."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = not file.exists()
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    if new:
        _sync_folder(file.parent)
    connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)
    try:
        _change_to_wal(connection)
        connection.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
        connection.execute("PRAGMA fullfsync=1")  # macOS: fsync alone does not empty the drive's cache
        connection.execute("PRAGMA wal_autocheckpoint=4000")
    except BaseException:
        connection.close()
        raise
    return connection


def _change_to_wal(connection: sqlite3.Connection) -> None:
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # This fails at once while another process writes to a new file, whatever the connection's timeout.
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() >= until:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def _sync_folder(folder: Path) -> None:
    # A file whose name is not on the disk is lost with all that was synced into it.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def blames_one(error: BaseException) -> bool:
    """Whether a record or a piece of work is at fault, rather than the file."""
    if isinstance(error, OSError | StoreError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _ITS_OWN_FAULT


def explained(file: Path, error: Exception, verb: str = "write") -> StoreError:
    """The error of a whole file, in words, with what to do."""
    if isinstance(error, StoreError):
        return error
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) or isinstance(error, OSError):
        cure = f"{_free(file)}. What was stored before is safe: make room, then go on with `plait resume`"
    elif code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        cure = "the file is damaged or no SQLite file: move it away or restore it, then go on with `plait resume`"
    elif code in _BUSY:
        cure = f"another process held it for {_BUSY_S:.0f} s: end that one, then go on with `plait resume`"
    else:
        cure = "check the file's and its folder's permissions, then go on with `plait resume`"
    failure = StoreError(f"cannot {verb} {file}: {error}; {cure}")
    failure.__cause__ = error
    return failure


def _free(file: Path) -> str:
    try:
        return f"{shutil.disk_usage(file.parent).free / 1e6:,.0f} MB are free there"
    except OSError:
        return "its folder cannot be read"


def closed_error(file: Path) -> StoreError:
    """What whoever adds to a closed writer gets."""
    return StoreError(f"cannot write {file}: its writer is closed; open the store again")


def open_to_read(file: Path) -> sqlite3.Connection:
    """A read-only connection, also while another process writes; StoreError when there is no such file."""
    if not file.is_file():
        raise StoreError(f"there is no {file}: nothing was stored there, or it was removed")
    # mode=ro still lets SQLite make the -shm file that readers of a WAL need; immutable=1 would miss the WAL.
    address = f"file:{quote(str(file.absolute()))}?mode=ro"
    try:
        return sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise explained(file, error, "read") from error

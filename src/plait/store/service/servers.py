"""The servers that share the service's store, and which of them are gone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from functools import cache

from plait.store.service.databases import Database

__all__ = ["Servers", "remove_gone"]

_BEAT = "INSERT INTO servers (server, seen) VALUES (?, ?) ON CONFLICT (server) DO UPDATE SET seen = excluded.seen"
# A server that left no heartbeat may still have left runs.
_ALL = """
SELECT server, max(seen) FROM (
    SELECT server, seen FROM servers
    UNION ALL SELECT server, 0.0 FROM runs WHERE status IN ('pending', 'running')
) GROUP BY server ORDER BY server
"""


class Servers:
    """The servers of a ServiceStore. Their names are holders' (`flow.holders.placed`): `pid@container-number`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._own: set[str] = set()

    async def beat(self, server: str) -> None:
        """Say that this server, which is one of this process, is alive."""
        self._own.add(server)
        await self._database.writer.added(_BEAT, (server, self._database.clock()))

    async def gone(self, older_than_s: float) -> Sequence[str]:
        """Servers that were not heard of for so long or whose process on this host is dead; never those that beat here.

        Their runs can be adopted; then `forget` them.
        """
        before = self._database.clock() - older_than_s

        def work(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(_ALL).fetchall()
            return [name for name, seen in rows if name not in self._own and (seen < before or not _lives(name))]

        return await self._database.read(work)

    async def forget(self, server: str) -> None:
        """Remove its heartbeat: it has ended, or its runs were adopted."""
        self._own.discard(server)
        await self._database.writer.added("DELETE FROM servers WHERE server = ?", (server,))


def remove_gone(connection: sqlite3.Connection, server: str, before: float) -> bool:
    """Remove a server's heartbeat if it was not heard of since `before` or is dead; False where it lives."""
    row = connection.execute("SELECT seen FROM servers WHERE server = ?", (server,)).fetchone()
    if row is not None and row[0] >= before and _lives(server):
        return False
    connection.execute("DELETE FROM servers WHERE server = ?", (server,))
    return True


def _lives(server: str) -> bool:
    """False if the server's process is known to be dead."""
    pid, _, namespace = server.partition("-")[0].partition("@")
    if not pid.isdecimal() or namespace != _pid_namespace():  # in another container: its numbers mean nothing here
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


# As flow.holders has it, which the store may not import: parts of one layer know nothing of each other.
@cache
def _pid_namespace() -> str:
    try:
        found = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return "".join(filter(str.isdigit, found))

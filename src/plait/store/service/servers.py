"""The servers that share the service's store: which of them live, and of which plait they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from uuid import uuid4

from plait.errors import StoreError
from plait.hosts import is_dead, process_name
from plait.store.connections import Connection
from plait.store.service.databases import Database, SharedClock
from plait.store.waiters import Done

__all__ = ["GONE_S", "Lives", "Servers", "check_versions", "lives", "new_server", "remove_gone"]

GONE_S = 10.0
"""So long a server may be silent, where its process cannot be seen, before it is taken for dead."""
Lives = Callable[[str], bool]
"""Whether a server may live, by its name alone: False if its process is known to be dead."""

_PUT = "ON CONFLICT (server) DO UPDATE SET seen = excluded.seen, version = excluded.version"
_BEAT = f"INSERT INTO servers (server, version, seen) VALUES (?, ?, ?) {_PUT}"  # noqa: S608
_BEAT_BY_DATABASE = f"""
INSERT INTO servers (server, version, seen) VALUES (?, ?, extract(epoch FROM clock_timestamp())) {_PUT}
"""  # noqa: S608
# A server that left no heartbeat may still have left runs.
_ALL = """
SELECT server, max(seen) FROM (
    SELECT server, seen FROM servers
    UNION ALL SELECT server, 0.0 FROM runs WHERE status IN ('pending', 'running')
) AS known GROUP BY server ORDER BY server
"""


def new_server() -> str:
    """A name for a server of this process, by which `lives` knows its process. Blocks: files."""
    return f"{process_name()}-{uuid4().hex[:12]}"


def lives(server: str) -> bool:
    """See Lives; for names by `new_server`. Blocks: files."""
    return not is_dead(server)


class Servers:
    """The servers of a ServiceStore. Their names tell their hosts and processes apart."""

    def __init__(self, database: Database, version: Callable[[], str]) -> None:
        self._database = database
        self._version = version
        self._own: set[str] = set()

    async def beat(self, server: str) -> None:
        """Say that this server, which is one of this process, is alive.

        Raises StoreError where it is the first time and a server of another plait lives: see `check_versions`.
        """
        if server not in self._own:
            await self._join(server)
            return
        await self._database.writer.added(*self._record(server))
        if isinstance(self._database.clock, SharedClock):
            await self._database.read(self._database.clock.set_by)

    def beat_soon(self, server: str, done: Done) -> None:
        """The same for one that has beaten before, from any thread; never waits. `done` as for Writer.add."""
        self._database.writer.add(*self._record(server), done)

    def _record(self, server: str) -> tuple[str, tuple[object, ...]]:
        clock = self._database.clock
        if isinstance(clock, SharedClock):
            return _BEAT_BY_DATABASE, (server, self._version())
        return _BEAT, (server, self._version(), clock())

    async def _join(self, server: str) -> None:
        """The first beat: of servers that open a store at once none sees the others until it has beaten."""

        def work(connection: Connection) -> StoreError | None:
            now, version = self._database.now(connection), self._version()
            try:
                check_versions(connection, version, now - GONE_S, self._database.lives)
            except StoreError as error:
                return error  # not the store's failure: it goes on
            connection.execute(_BEAT, (server, version, now))
            return None

        refused = await self._database.write(work)
        if refused is not None:
            raise refused
        self._own.add(server)

    async def gone(self, older_than_s: float = GONE_S) -> Sequence[str]:
        """Servers that were not heard of for so long or whose process on this host is dead; never those that beat here.

        Their runs can be adopted; then `forget` them.
        """

        def work(connection: Connection) -> list[str]:
            before, lives = self._database.now(connection) - older_than_s, self._database.lives
            rows = connection.execute(_ALL).fetchall()
            return [name for name, seen in rows if name not in self._own and (seen < before or not lives(name))]

        return await self._database.read(work)

    async def forget(self, server: str) -> None:
        """Remove its heartbeat: it has ended, or its runs were adopted."""
        self._own.discard(server)
        await self._database.writer.added("DELETE FROM servers WHERE server = ?", (server,))


def remove_gone(connection: Connection, server: str, before: float, lives: Lives) -> bool:
    """Remove a server's heartbeat if it was not heard of since `before` or is dead; False where it lives."""
    sql = "SELECT seen FROM servers WHERE server = ? /*pg FOR UPDATE */"
    row = connection.execute(sql, (server,)).fetchone()
    if row is not None and row[0] >= before and lives(server):
        return False
    connection.execute("DELETE FROM servers WHERE server = ?", (server,))
    return True


def check_versions(connection: Connection, version: str, since: float, lives: Lives) -> None:
    """Raise StoreError where a server of another plait lives that would not understand what this one keeps.

    Those of the same first two numbers do: 0.3.1 and 0.3.2. `since`: who was not heard of after that is dead.
    """
    rows: Iterable[tuple[str, str]] = connection.execute(
        "SELECT server, version FROM servers WHERE seen >= ? ORDER BY server", (since,)
    ).fetchall()
    for server, theirs in rows:
        if theirs and _line(theirs) != _line(version) and lives(server):
            raise StoreError(
                f"expected servers of one plait on a store, found {server} of plait {theirs} running there, and this "
                f"is plait {version}: stop the others first, or install plait {_line(theirs)} here"
            )


def _line(version: str) -> str:
    return ".".join(version.split(".")[:2])

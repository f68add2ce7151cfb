"""A ledger in PostgreSQL: one row for each state, locked in the order of the names, and the server's clock.

A step is one transaction in two round trips: begin, lock, read the clock; write, commit. The server ends the
transaction of a client that stops in between, so that nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plait.errors import StoreError
from plait.flow.clock import Clock
from plait.flow.ledgers import (
    FORGOTTEN_HERE_S,
    FORGOTTEN_S,
    LOOPBACK,
    SERVER_CURE,
    VERSION,
    Change,
    Moment,
    ServerClock,
    is_spilt,
    missing_extra,
    other_version,
    server_again_s,
    unreadable_url,
)
from plait.masking import shown_url as shown

if TYPE_CHECKING:
    import psycopg

_TABLES = """
CREATE TABLE IF NOT EXISTS plait_budget_version (version integer NOT NULL);
INSERT INTO plait_budget_version SELECT {version} WHERE NOT EXISTS (SELECT FROM plait_budget_version);
CREATE TABLE IF NOT EXISTS plait_budget (name text PRIMARY KEY, state text NOT NULL, seen timestamptz NOT NULL)
WITH (fillfactor = 20);
ALTER TABLE plait_budget ALTER COLUMN state SET STORAGE MAIN
"""
# Room on the page and no TOAST: a row that is written many times a second is then changed in place (HOT).
_LOCK_FOR_TABLES = 0x706C616974  # "plait"; two CREATE TABLE IF NOT EXISTS at once fail without it
_LOOK = (
    "SELECT to_regclass('plait_budget'), to_regclass('plait_budget_version'), current_setting('transaction_read_only')"
)
# Several statements in one message are one round trip. (A pipeline would do as well, but psycopg ends it with a Flush,
# after which the server no longer looks for an idle transaction.) The time is read when the locks are there. A commit
# that a crash of the server takes back costs the last moments; waiting for the disk would cost every call.
_LOCK = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL synchronous_commit = off;
SET LOCAL lock_timeout = '2s';
SET LOCAL idle_in_transaction_session_timeout = '2s';
SELECT name, state FROM plait_budget WHERE name = ANY(%s) ORDER BY name FOR UPDATE;
SELECT extract(epoch FROM clock_timestamp())::float8, (SELECT max(version) FROM plait_budget_version)
"""
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8, (SELECT max(version) FROM plait_budget_version)"
_ADD = """
INSERT INTO plait_budget SELECT name, '', now() FROM unnest(%s::text[]) AS new (name)
ORDER BY name ON CONFLICT DO NOTHING
"""
_WRITE = """
UPDATE plait_budget SET state = new.state, seen = now()
FROM unnest(%s::text[], %s::text[]) AS new (name, state) WHERE plait_budget.name = new.name;
DELETE FROM plait_budget WHERE name = ANY(%s::text[]);
COMMIT
"""
_FORGET = """
DELETE FROM plait_budget WHERE seen < now() - %s * interval '1 second'
OR (seen < now() - %s * interval '1 second' AND starts_with(name, %s))
"""


class PostgresLedger:
    """See `ledgers.Ledger`. Its two tables are made in the first schema of the DSN's search path.

    Raises SettingsError without the extra `postgres`, StoreError for a server that is read-only or has another
    version's tables, psycopg.Error for all else.
    """

    remote = True

    def __init__(self, url: str, clock: Clock) -> None:
        self.where = shown(url)
        self._url = url
        self._clock = ServerClock(clock)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def change(self, names: Sequence[str], change: Change) -> None:
        connection = self._connected()
        try:
            self._change(connection, list(names), change)
        except BaseException:
            self.close()  # ends the transaction, in whatever state it is
            raise

    def _change(self, connection: psycopg.Connection[tuple[Any, ...]], names: list[str], change: Change) -> None:
        found, moment = self._lock(connection, names)
        while len(found) < len(set(names)):
            # In a transaction of their own: rows that are inserted while others are locked are locked out of order.
            connection.execute("ROLLBACK")
            connection.execute(_ADD, [names])
            found, moment = self._lock(connection, names)
        new = dict(zip(names, change([found[name] or None for name in names], moment), strict=True))
        kept = {name: state for name, state in new.items() if state is not None}
        connection.execute(_WRITE, [list(kept), list(kept.values()), list(new.keys() - kept.keys())])

    def _lock(self, connection: psycopg.Connection[tuple[Any, ...]], names: list[str]) -> tuple[dict[str, str], Moment]:
        before = self._clock.before()
        cursor = connection.execute(_LOCK, [names])
        while cursor.description is None:  # BEGIN and SET
            cursor.nextset()
        rows = cursor.fetchall()
        cursor.nextset()
        return dict(rows), self._moment(before, cursor.fetchone())

    def _moment(self, before: float, row: tuple[Any, ...] | None) -> Moment:
        assert row is not None
        self._check_version(row[1])
        return self._clock.moment(before, row[0])

    def states(self) -> tuple[dict[str, str], Moment]:
        connection = self._connect()
        try:
            before = self._clock.before()
            tables = connection.execute(_LOOK).fetchone()
            assert tables is not None
            if tables[0] is None or tables[1] is None:
                row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
                assert row is not None
                return {}, self._clock.moment(before, row[0])
            rows = connection.execute("SELECT name, state FROM plait_budget WHERE state <> '' ORDER BY name").fetchall()
            before = self._clock.before()
            return dict(rows), self._moment(before, connection.execute(_CLOCK).fetchone())
        finally:
            connection.close()

    def check(self) -> None:
        self._connected()

    def again_s(self, error: Exception, failures: int) -> float:
        return server_again_s(failures)

    def cure(self, error: Exception) -> str:
        return SERVER_CURE

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # --- connecting --------------------------------------------------------------------------------------

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None:
            connection = self._connect()
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        try:
            import psycopg  # noqa: PLC0415 - an extra
            from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415
        except ImportError as error:
            raise missing_extra(self.where, "postgres", error) from error
        try:
            given: dict[str, Any] = conninfo_to_dict(self._url)
        except psycopg.Error:
            raise unreadable_url(self.where) from None
        ports = str(given.get("port") or "").split(",")
        if is_spilt(self.where) or not all(port == "" or port.isdecimal() for port in ports):
            raise unreadable_url(self.where)
        patience: dict[str, str | int | None] = {
            "connect_timeout": 3,
            "keepalives_idle": 3,
            "keepalives_interval": 1,
            "keepalives_count": 3,
            "tcp_user_timeout": 5000,
            "fallback_application_name": "plait budget",
        }
        # Parameters are bound here: only so can several statements go in one message, and nothing is prepared on the
        # server, where a pooler may hand each transaction to another connection.
        return psycopg.connect(
            make_conninfo(**{**patience, **given}), autocommit=True, cursor_factory=psycopg.ClientCursor
        )

    def _prepare(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        row = connection.execute(_LOOK).fetchone()
        assert row is not None
        if row[2] == "on":
            raise StoreError(
                f"{self.where} is read-only (a standby?): expected a server that a budget can be changed on; name the "
                "primary, or several hosts with ?target_session_attrs=read-write"
            )
        if row[0] is None or row[1] is None:
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '2s'")
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_FOR_TABLES])
                connection.execute(_TABLES.format(version=VERSION).encode())
        found = connection.execute("SELECT max(version) FROM plait_budget_version").fetchone()
        self._check_version(found[0] if found else None)
        connection.execute(_FORGET, [FORGOTTEN_S, FORGOTTEN_HERE_S, LOOPBACK])

    def _check_version(self, found: object) -> None:
        if found != VERSION:
            raise StoreError(other_version(f"the budget at {self.where}", found))

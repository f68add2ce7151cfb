"""Transactions of the store on PostgreSQL: done once, whatever happens to their connection."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from plait.errors import StoreError
from plait.flow.budget_places import check_budget
from plait.settings import from_env
from plait.store.connections import Connection
from plait.store.postgres.media import PostgresMedium
from plait.store.postgres.sessions import Session, connect
from tests.servers import postgres_server

Use = Callable[[PostgresMedium, Connection], object]

COMMIT_WAITS = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION wait()
"""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
ALIVE = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
INSERT = "INSERT INTO things (name) VALUES (?)"


def prepare(connection: Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS things (number INTEGER PRIMARY KEY, name TEXT)")


def names(dsn: str) -> list[str]:
    with connect(dsn) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM things ORDER BY number").fetchall()]


def wait_until(connection: psycopg.Connection[object], sql: str, count: int, *parameters: object) -> None:
    until = time.monotonic() + 30
    while connection.execute(sql.encode(), parameters).fetchone() != (count,):
        assert time.monotonic() < until, sql
        time.sleep(0.01)


def cut(session: Session) -> None:
    """Our end of the connection is gone; the server's goes on with what it was asked for."""
    with socket.socket(fileno=session.raw.fileno()) as ours:
        ours.shutdown(socket.SHUT_RDWR)
        ours.detach()  # psycopg closes it


def time_out(session: Connection, dsn: str) -> None:
    """As if this process was stopped here for longer than a transaction may idle."""
    assert isinstance(session, Session)
    session.execute("SET idle_in_transaction_session_timeout = 20")
    with psycopg.connect(dsn, autocommit=True) as other:
        wait_until(other, ALIVE, 0, session.raw.info.backend_pid)


def test_a_transaction_whose_connection_is_cut_is_done_once_more_and_once(postgres: str) -> None:
    medium = PostgresMedium(postgres, prepare=prepare)
    session = medium.open_to_write()
    calls = 0

    def add(connection: Connection) -> int:
        nonlocal calls
        calls += 1
        connection.execute("INSERT INTO things (name) VALUES (?)", (f"call {calls}",))
        if calls == 1:
            with psycopg.connect(postgres, autocommit=True) as other:
                # Another transaction gets the next id: what became of it says nothing of ours.
                other.execute("INSERT INTO things (name) VALUES ('other')")
                other.execute("SELECT pg_terminate_backend(%s)", [session.raw.info.backend_pid])
                other.execute("INSERT INTO things (name) VALUES ('another')")
        return calls

    assert medium.transact(session, add, alone=True) == 2
    session.close()
    assert names(postgres) == ["other", "another", "call 2"]


def test_a_session_knows_whether_its_last_transaction_took_effect(postgres: str) -> None:
    session = PostgresMedium(postgres, prepare=prepare).open_to_write()
    session.begin("")
    session.execute("INSERT INTO things (name) VALUES ('kept')")
    session.execute("COMMIT")
    session.close()
    session.restore()
    assert session.was_committed()
    session.begin("")
    session.execute("INSERT INTO things (name) VALUES ('lost')")
    session.close()
    session.restore()
    assert not session.was_committed()
    session.close()
    assert names(postgres) == ["kept"]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_a_transaction_that_goes_on_when_its_connection_broke_in_commit_is_done_once(
    postgres: str, isolation: str
) -> None:
    with psycopg.connect(postgres, autocommit=True) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute(
            f"ALTER ROLE plait IN DATABASE {holder.info.dbname} "
            f"SET default_transaction_isolation = '{isolation}'".encode()
        )
        medium = PostgresMedium(postgres, prepare=prepare)
        session = medium.open_to_write()
        holder.execute(COMMIT_WAITS.encode())
        holder.execute("SELECT pg_advisory_lock(7)")
        calls: list[str] = []

        def add(connection: Connection) -> int:
            calls.append(f"call {len(calls) + 1}")
            connection.execute(INSERT, (calls[-1],))
            return len(calls)

        done = pool.submit(medium.transact, session, add, alone=False)
        wait_until(holder, WAITING, 1)  # in COMMIT
        cut(session)
        wait_until(holder, WAITING, 2)  # whoever asks what became of it waits for its end
        holder.execute("SELECT pg_advisory_unlock(7)")
        assert done.result(30) == 1
        session.close()
    assert names(postgres) == ["call 1"]


@pytest.mark.parametrize(
    "use",
    [
        lambda medium, connection: connection.execute("SELECT 1"),
        lambda medium, connection: connection.executemany(INSERT, [("lost",), ("lost",)]),
        lambda medium, connection: medium.attempt(connection, INSERT, ("lost",)),
        lambda medium, connection: None,  # COMMIT is the first to see it
    ],
    ids=["execute", "executemany", "attempt", "commit"],
)
def test_a_transaction_that_idled_too_long_is_done_once_more_and_once(postgres: str, use: Use) -> None:
    medium = PostgresMedium(postgres, prepare=prepare)
    session = medium.open_to_write()
    calls = 0

    def add(connection: Connection) -> int:
        nonlocal calls
        calls += 1
        connection.execute(INSERT, (f"call {calls}",))
        if calls == 1:
            time_out(connection, postgres)
            use(medium, connection)
        return calls

    assert medium.transact(session, add, alone=True) == 2
    session.close()
    assert names(postgres) == ["call 2"]


def test_a_read_that_idled_too_long_is_done_once_more(postgres: str) -> None:
    medium = PostgresMedium(postgres)
    session = medium.open_to_read()
    calls = 0

    def look(connection: Connection) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            time_out(connection, postgres)
        return connection.execute("SELECT 'seen'").fetchone()

    assert medium.read(session, look) == ("seen",)
    session.close()
    assert calls == 2


def test_a_transaction_that_took_longer_than_one_may_is_done_once_more(postgres: str) -> None:
    medium = PostgresMedium(postgres, prepare=prepare)
    session = medium.open_to_write()
    if session.raw.info.server_version < 170_000 or not hasattr(errors, "TransactionTimeout"):
        session.close()
        pytest.skip("PostgreSQL 17 brought transaction_timeout")
    calls = 0

    def add(connection: Connection) -> None:
        nonlocal calls
        calls += 1
        connection.execute(INSERT, (f"call {calls}",))
        if calls == 1:
            connection.execute("SET transaction_timeout = 20")
            connection.execute("SELECT pg_sleep(30)")

    medium.transact(session, add, alone=True)
    session.close()
    assert names(postgres) == ["call 2"]


def test_values_are_read_in_binary_so_that_none_doubles_on_its_way(postgres: str) -> None:
    # As text a bytea takes twice its size, and the server makes no more than 1 GB of a row.
    with PostgresMedium(postgres).session() as session:
        cursor = session.execute("SELECT ?::bytea", (bytes(range(256)),))
        result = cursor.pgresult
        assert result is not None
        assert (result.fformat(0), cursor.fetchone()) == (1, (bytes(range(256)),))


def test_the_servers_side_notices_a_host_that_vanished(postgres: str) -> None:
    with connect(postgres) as connection:
        shown = {
            name: connection.execute(f"SHOW {name}".encode()).fetchone()
            for name in ("tcp_keepalives_idle", "idle_in_transaction_session_timeout")
        }
    assert shown == {"tcp_keepalives_idle": ("5",), "idle_in_transaction_session_timeout": ("20s",)}


@pytest.mark.parametrize("password", ["S3cr%zzet", "1234/se@cret", "S3cr et", "a[b"])
def test_a_dsn_that_cannot_be_read_shows_nothing_of_its_password(password: str) -> None:
    with pytest.raises((StoreError, psycopg.OperationalError)) as raised:
        Session(f"postgresql://user:{password}@127.0.0.1:1/x")
    assert password[:4] not in str(raised.value)


@pytest.mark.parametrize(
    "user", ["user:p@geheim", "user:p@ge,heim", "user:p@geheim:99", "us@geheim:p", "user:p@ge/heim"]
)
def test_a_dsn_with_a_bare_at_sign_in_its_user_or_password_is_refused_unshown(user: str) -> None:
    with pytest.raises(StoreError, match=r"expected a DSN .* write %40 for @") as raised:
        connect(f"postgresql://{user}@127.0.0.1:1/x")
    assert "heim" not in str(raised.value)


def test_who_is_not_let_in_is_told_what_the_server_says_and_no_password() -> None:
    with postgres_server() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        server.restart()
        for user, words in (
            ("guarded", 'password authentication failed for user "guarded"'),
            ("nobody", 'role "nobody" does not exist'),
        ):
            dsn = server.url.replace("plait@", f"{user}:geheim@")
            with pytest.raises(StoreError, match=f"cannot read .*{words}; check .* DSN") as store:
                PostgresMedium(dsn).session().__enter__()
            with pytest.raises(StoreError, match=words) as budget:
                check_budget(from_env({"PLAIT_BUDGET": dsn}))
            assert "geheim" not in f"{store.value}{budget.value}"
        with PostgresMedium(server.url.replace("plait@", "guarded:right@")).session() as session:
            assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_session_that_was_swept_out_knows_its_next_transaction(postgres: str) -> None:
    session = Session(postgres)
    session.enroll()
    session.execute("DELETE FROM plait_writers")
    session.begin("")
    session.execute("COMMIT")
    assert session.was_committed()
    session.close()

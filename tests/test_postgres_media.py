"""Transactions of the store on PostgreSQL: done once, whatever happens to their connection."""

from __future__ import annotations

import psycopg
import pytest

from plait.errors import StoreError
from plait.store.connections import Connection
from plait.store.postgres.media import PostgresMedium
from plait.store.postgres.sessions import Session, connect


def prepare(connection: Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS things (number INTEGER PRIMARY KEY, name TEXT)")


def names(dsn: str) -> list[str]:
    with connect(dsn) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM things ORDER BY number").fetchall()]


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

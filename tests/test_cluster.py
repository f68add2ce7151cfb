"""The kill matrix in a short form: real servers and processes are killed under a batch of two hundred rows.

`make reliability` runs all of it at full size; its figures are in docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from plait.store.connections import Connection
from plait.store.postgres.media import PostgresMedium
from plait.store.postgres.sessions import Session
from tests.reliability.cluster import scenarios
from tests.reliability.cluster_attacks import attacked
from tests.reliability.cluster_checks import check
from tests.reliability.cluster_grounds import Needs, open_ground

SEED = 7
ROWS = 200
_MATRIX = {f"{each.part}, {each.where}": each for each in scenarios(ROWS, SEED)}


@pytest.mark.real_time
@pytest.mark.parametrize(
    "name",
    ["worker, PostgreSQL, 2 workers", "PostgreSQL, killed, the store of 2 workers"],
)
def test_a_batch_survives_what_is_killed_under_it(name: str, tmp_path: Path) -> None:
    figures = attacked(tmp_path / "ground", replace(_MATRIX[name], kills=2))
    assert figures.violation == ""
    assert figures.kills >= 1


def test_a_run_that_nobody_disturbs_passes_the_checks_and_one_that_lost_a_row_does_not(tmp_path: Path) -> None:
    with open_ground(tmp_path / "ground", Needs(rows=20)) as ground:
        ground.begin()
        assert ground.driver.wait(timeout=60) == 0
        check(ground, kills=0, in_flight=0)
        whole = ground.out.read_bytes()
        ground.out.write_bytes(whole.replace(b"row-7,", b"row-8,"))
        with pytest.raises(AssertionError, match="differs from an undisturbed run's"):
            check(ground, kills=0, in_flight=0)
        ground.out.write_bytes(whole)
        ground.calls.asked[7] += 1
        with pytest.raises(AssertionError, match=r"rows asked more often than they were killed: \{7: 3\}"):
            check(ground, kills=0, in_flight=0)


def test_a_pipeline_that_breaks_costs_the_connection_and_not_the_work(postgres: str) -> None:
    medium, tries = PostgresMedium(postgres), 0

    def work(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        connection.executemany("INSERT INTO texts VALUES (?)", rows(connection))

    def rows(connection: Connection) -> Iterator[tuple[str]]:
        yield ("a",)
        yield ("b",)
        if tries == 1:
            # An answer that psycopg does not expect: "cannot exit pipeline mode while busy", as where a server dies.
            assert isinstance(connection, Session)
            connection.raw.pgconn.send_query_params(b"SELECT pg_sleep(0.2)", None)

    with closing(medium.open_to_write()) as session:
        session.execute("CREATE TABLE texts (text TEXT)")
        medium.transact(session, work, alone=False)
        assert session.execute("SELECT text FROM texts ORDER BY text").fetchall() == [("a",), ("b",)]
    assert tries == 2

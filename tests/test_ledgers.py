"""Ledgers on a file, PostgreSQL and Redis: steps that are atomic under contention, one clock, one version."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from plait.flow.budget_places import ledger_at
from plait.flow.clock import SystemClock
from plait.flow.entries import Entry
from plait.flow.ledgers import VERSION, Ledger, Moment, Offset, dump
from plait.masking import shown_url as shown
from tests.ledger_places import KINDS, SERVERS, Place, SkewedClock, place_of


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, request, tmp_path)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, request, tmp_path)


def put(ledger: Ledger, **states: str | None) -> None:
    ledger.change(list(states), lambda _found, _moment: list(states.values()))


def moment_of(ledger: Ledger) -> Moment:
    found: list[Moment] = []

    def change(states: Sequence[str | None], moment: Moment) -> Sequence[str | None]:
        found.append(moment)
        return states

    ledger.change(["clock"], change)
    return found[-1]


def test_what_was_put_is_found_by_others_and_what_was_removed_is_not(place: Place) -> None:
    with closing(place.open(SystemClock())) as one, closing(place.open(SystemClock())) as other:
        put(one, a="1", b="2 'quoted' \"é\"", c="3")
        assert other.states()[0] == {"a": "1", "b": "2 'quoted' \"é\"", "c": "3"}
        put(other, b=None)
        assert one.states()[0] == {"a": "1", "c": "3"}


def test_an_empty_place_has_no_states_and_reading_it_makes_none(place: Place) -> None:
    with closing(place.open(SystemClock())) as ledger:
        states, moment = ledger.states()
        assert states == {}
        assert ledger.states()[1].now >= moment.now


def test_a_step_over_two_names_is_never_seen_in_halves_and_none_is_lost(place: Place) -> None:
    workers, steps = 6, 25
    torn: list[Sequence[str | None]] = []

    def count(names: list[str]) -> None:
        def change(states: Sequence[str | None], _moment: Moment) -> Sequence[str | None]:
            if states[0] != states[1]:
                torn.append(states)
            return [str(int(state or 0) + 1) for state in states]

        with closing(place.open(SystemClock())) as ledger:
            for _ in range(steps):
                ledger.change(names, change)

    # In both orders: steps that lock one name after another would wait for each other.
    threads = [threading.Thread(target=count, args=(["a", "b"][:: 1 - 2 * (n % 2)],)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(place.open(SystemClock())) as ledger:
        assert ledger.states()[0] == {"a": str(workers * steps), "b": str(workers * steps)}
    assert torn == []


def test_a_step_that_fails_changes_nothing_and_the_next_goes_on(place: Place) -> None:
    with closing(place.open(SystemClock())) as ledger, closing(place.open(SystemClock())) as other:
        put(ledger, a="1")
        with pytest.raises(ZeroDivisionError):
            ledger.change(["a", "b"], lambda _states, _moment: [str(1 // 0)])
        assert other.states()[0] == {"a": "1"}
        put(other, a="2", b="2")
        put(ledger, a="3", b="3")
        assert other.states()[0] == {"a": "3", "b": "3"}


def test_machines_whose_clocks_differ_see_one_time(server: Place) -> None:
    near, far = SystemClock(), SkewedClock(-500_000.0, 86_400.0)
    with closing(server.open(near)) as one, closing(server.open(far)) as other:
        moment_of(one)
        moment_of(other)
        ours, theirs = moment_of(one), moment_of(other)
    assert 0 <= theirs.now - ours.now < 5
    # One machine's time is as far ahead as it was made to be.
    assert theirs.ahead_s - ours.ahead_s == pytest.approx(500_000.0, abs=0.5)
    assert theirs.wall_ahead_s - ours.wall_ahead_s == pytest.approx(-86_400.0, abs=0.5)


def test_time_passes_between_two_steps(place: Place) -> None:
    with closing(place.open(SystemClock())) as ledger:
        times = [moment_of(ledger).now for _ in range(5)]
    assert times == sorted(set(times))


def set_version(place: Place, folder: Path, version: int) -> None:
    if place.kind == "file":
        with closing(sqlite3.connect(folder / "limits.db")) as file:
            file.execute(f"PRAGMA user_version = {version}")
    elif place.kind == "postgres":
        import psycopg

        with psycopg.connect(place.url, autocommit=True) as connection:
            connection.execute("UPDATE plait_budget_version SET version = %s", [version])
    else:
        import redis

        with redis.Redis.from_url(place.url) as client:
            client.set("{plait}:limits-version", version)


def test_states_of_another_version_are_refused_with_both_versions_named(place: Place, tmp_path: Path) -> None:
    with closing(place.open(SystemClock())) as running:
        put(running, a="1")
        set_version(place, tmp_path, 99)
        with closing(place.open(SystemClock())) as starting:
            uses = [starting.check, starting.states]
            # A server's is also found by who was connected before it changed.
            uses += [lambda: put(running, a="2")] if running.remote else []
            for use in uses:
                with pytest.raises(Exception, match=rf"99.* {VERSION}\b"):
                    use()
        set_version(place, tmp_path, VERSION)
    with closing(place.open(SystemClock())) as again:
        assert again.states()[0] == {"a": "1"}


def test_an_entry_as_long_as_they_get_is_kept(place: Place) -> None:
    entry = Entry()
    entry.requests.history = [(time.time() + n, float(n)) for n in range(32)]
    entry.sizes = {f"size {n}": 1.0 for n in range(4000)}
    with closing(place.open(SystemClock())) as ledger:
        put(ledger, a=dump(entry))
        assert ledger.states()[0]["a"] == dump(entry)


def test_a_client_that_stops_in_the_middle_of_a_step_holds_nobody_up_for_long(server: Place) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def stop(states: Sequence[str | None], _moment: Moment) -> Sequence[str | None]:
        entered.set()
        go_on.wait(30)
        return ["from the one that stopped"]

    def step() -> None:
        with closing(server.open(SystemClock())) as stopped:
            try:
                stopped.change(["a"], stop)
            except Exception as error:  # noqa: BLE001 - whatever the server says to it
                lost.append(error)

    lost: list[Exception] = []
    with closing(server.open(SystemClock())) as ledger:
        put(ledger, a="0")
        thread = threading.Thread(target=step)
        thread.start()
        assert entered.wait(30)
        deadline = time.monotonic() + 30
        while True:
            try:
                put(ledger, a="1")
                break
            except Exception:  # noqa: BLE001 - its own patience may end first
                assert time.monotonic() < deadline
        assert ledger.states()[0] == {"a": "1"}
        go_on.set()
        thread.join()
    # PostgreSQL has ended its transaction; Redis refused it once, and with the newer state it was done.
    assert bool(lost) == (server.kind == "postgres")


def test_a_client_that_stops_while_it_makes_the_tables_holds_nobody_up(postgres: str) -> None:
    import psycopg

    with closing(ledger_at(postgres)(SystemClock())) as ledger:
        with psycopg.connect(postgres) as stopped:
            stopped.execute("SELECT pg_advisory_xact_lock(%s)", [0x706C616974])
            with pytest.raises(psycopg.errors.LockNotAvailable):
                ledger.check()
        ledger.check()


def test_a_name_on_this_machine_is_forgotten_sooner_than_others(redis_instance: object, server: Place) -> None:
    with closing(server.open(SystemClock())) as ledger:
        put(ledger, **{"http://127.0.0.1:1/v1 - m": "{}", "https://example.com/v1 - m": "{}"})
        if server.kind == "redis":
            import redis

            with redis.Redis.from_url(server.url) as client:
                near = client.ttl("{plait}:limits:http://127.0.0.1:1/v1 - m")
                far = client.ttl("{plait}:limits:https://example.com/v1 - m")
            assert 86_000 < near <= 86_400 < 2_500_000 < far <= 2_592_000
            return
        import psycopg

        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("UPDATE plait_budget SET seen = now() - interval '2 days'")
    with closing(server.open(SystemClock())) as ledger:
        ledger.check()
        assert list(ledger.states()[0]) == ["https://example.com/v1 - m"]


# --- without servers -----------------------------------------------------------------------------------


def test_the_quickest_look_at_a_clock_decides_and_a_clock_that_was_set_is_followed() -> None:
    offset = Offset()
    offset.look(100.0, 1100.4, 101.0)
    assert offset.look(102.0, 1102.001, 102.002) == pytest.approx(1000.0, abs=0.002)
    # Slow ways there or back tell less than what is known.
    assert offset.look(103.0, 1103.9, 104.0) == pytest.approx(1000.0, abs=0.002)
    assert offset.look(105.0, 1105.1, 106.0) == pytest.approx(1000.0, abs=0.002)
    assert offset.look(107.0, 1607.001, 107.002) == pytest.approx(1500.0, abs=0.002)
    # Clocks drift apart; after a day the old look says little.
    assert offset.look(90_000.0, 91_505.001, 90_000.002) == pytest.approx(1505.0, abs=0.002)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:geheim@example.com:6379/0", "redis://example.com:6379/0"),
        ("rediss://user:geheim@example.com/1?password=geheim", "rediss://example.com/1"),
        ("postgresql://user:geheim@db:5432/plait?sslmode=require", "postgresql://db:5432/plait"),
        ("postgresql://user:ge@heim@db/plait", "postgresql://..."),
        ("postgresql://user:geheim/x@db/plait", "postgresql://..."),
        ("postgresql://user:geheim?x@db/plait", "postgresql://..."),
        ("postgresql://user:geheim#x@db/plait", "postgresql://..."),
        ("postgresql:///plait?host=/run/postgresql&password=geheim", "postgresql:///plait"),
        ("redis://[geheim@db/plait", "redis://..."),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, said: str) -> None:
    assert shown(url) == said

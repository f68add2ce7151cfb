"""Where a budget is kept: what is refused before work begins, in words, and what `plait limits` shows of a server's."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from plait import run
from plait.errors import PlaitError, SettingsError, StoreError
from plait.flow.budget_places import budget_place, budget_url, check_budget, read_budget
from plait.flow.budgets import Part
from plait.flow.clock import SystemClock
from plait.flow.leases import Lease, Refusal, Report
from plait.flow.shared_budgets import SharedBudget
from plait.settings import Settings, from_env
from plait.simulator import Profile, Simulator, running
from tests.command import endpoint_env, plait
from tests.ledger_places import SERVERS, Place, place_of
from tests.servers import Server, free_port

NAME = "https://api.openai.com/v1 - gpt"


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, request, tmp_path)


def at(url: str) -> Settings:
    return from_env({"PLAIT_BUDGET": url})


def refusal_of(url: str) -> PlaitError:
    with pytest.raises(PlaitError) as raised:
        check_budget(at(url))
    assert "geheim" not in str(raised.value)
    assert "\n" not in str(raised.value)
    return raised.value


def note(place: Place) -> None:
    """Let it take in ten calls, one of them refused."""
    budget = SharedBudget(place.open, clock := SystemClock())
    refusals = [Refusal("requests", clock.now(), 5, 0.0, 100.0, 0.0, None)]
    got: list[Lease] = []
    budget.exchange([Part(NAME)], Report("1-0", sent=10, successes=9, refusals=refusals), got.append)
    budget.close()
    assert len(got) == 1


def test_the_budgets_server_is_its_own_or_the_stores_or_none() -> None:
    store, budget = {"PLAIT_STORE": "postgresql://u:p@db/plait"}, {"PLAIT_BUDGET": "redis://:p@cache/0"}
    assert budget_url(from_env({})) is None
    assert budget_url(from_env(store)) == "postgresql://u:p@db/plait"
    assert budget_url(from_env(store | budget)) == "redis://:p@cache/0"
    assert budget_url(from_env(store | budget | {"PLAIT_SHARE": "0"})) is None
    assert budget_place(from_env(store | budget)) == "redis://cache/0"
    assert budget_place(from_env({"PLAIT_HOME": "/h"})) == "/h/limits.db"


def test_a_server_that_can_be_used_is_no_error_the_first_time_and_the_second(server: Place) -> None:
    assert read_budget(at(server.url))[0] == {}
    check_budget(at(server.url))
    check_budget(at(server.url))
    entries, now, wall = read_budget(at(server.url))
    assert entries == {}
    assert now == wall == pytest.approx(time.time(), abs=5)


def test_no_server_is_nothing_to_check(tmp_path: Path) -> None:
    check_budget(from_env({"PLAIT_HOME": str(tmp_path / "nowhere")}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_a_server_that_is_not_there_is_named(scheme: str) -> None:
    port = free_port()
    found = refusal_of(f"{scheme}://user:geheim@127.0.0.1:{port}/0")
    assert isinstance(found, StoreError)
    assert f"{scheme}://127.0.0.1:{port}/0" in str(found)
    assert "refused" in str(found)


@pytest.mark.parametrize(
    "url", ["postgresql://user:ge/heim@db/plait", "redis://user:ge/heim@db/0", "postgresql://user:geheim@db:port/plait"]
)
def test_a_url_that_cannot_be_read_says_how_to_write_one(url: str) -> None:
    found = refusal_of(url)
    assert isinstance(found, SettingsError)
    assert "heim" not in str(found)
    assert "percent-encoded" in str(found)


@pytest.mark.parametrize(("scheme", "module"), [("redis", "redis"), ("postgresql", "psycopg")])
def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    scheme: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found = refusal_of(f"{scheme}://127.0.0.1/0")
    assert isinstance(found, SettingsError)
    assert f"pip install 'plait[{'postgres' if module == 'psycopg' else 'redis'}]'" in str(found)


async def test_a_call_without_the_extra_goes_on_and_says_what_to_do(
    provider: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    settings = from_env({"OPENAI_BASE_URL": provider.base_url}).override(model="openai:m", budget="redis://127.0.0.1/0")
    await run("greet", {"name": "Ada"}, app=Path(__file__).parents[1], settings=settings)
    assert provider.counters.accepted == 1
    (warning,) = [record.getMessage() for record in caplog.records if "not shared" in record.getMessage()]
    assert "pip install 'plait[redis]'" in warning
    assert "above" not in warning


@contextmanager
def redis_set_to(instance: Server, **options: str) -> Generator[None]:
    import redis

    with redis.Redis.from_url(instance.url) as client:
        before = {name: str(client.config_get(name)[name]) for name in options}
        for name, value in options.items():
            client.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)


def test_a_redis_that_evicts_is_refused(redis_instance: Server) -> None:
    with redis_set_to(redis_instance, **{"maxmemory-policy": "allkeys-lru"}):
        check_budget(at(redis_instance.url))  # without a bound on its memory it never evicts
        with redis_set_to(redis_instance, maxmemory="100mb"):
            found = refusal_of(redis_instance.url)
    assert isinstance(found, SettingsError)
    assert "allkeys-lru" in str(found)
    assert "noeviction" in str(found)


def test_a_full_redis_is_refused(redis_instance: Server) -> None:
    with redis_set_to(redis_instance, maxmemory="1"):
        assert "maxmemory" in str(refusal_of(redis_instance.url))


def test_a_wrong_password_is_not_repeated(redis_instance: Server) -> None:
    import redis

    # Who is connected stays so.
    with redis_set_to(redis_instance, requirepass="right"):
        assert isinstance(refusal_of(redis_instance.url), StoreError)
        found = refusal_of(redis_instance.url.replace("redis://", "redis://:geheim@"))
        assert isinstance(found, StoreError)
        assert "password" in str(found)
        check_budget(at(redis_instance.url.replace("redis://", "redis://:right@")))
    with suppress(redis.RedisError):
        check_budget(at(redis_instance.url))


def test_a_replica_is_refused(redis_instance: Server) -> None:
    import redis

    with redis.Redis.from_url(redis_instance.url) as client:
        client.replicaof("127.0.0.1", str(free_port()))
        try:
            assert "replica" in str(refusal_of(redis_instance.url))
        finally:
            client.replicaof("NO", "ONE")


def test_a_postgresql_that_only_reads_is_refused(postgres: str) -> None:
    found = refusal_of(f"{postgres}?options=-c%20default_transaction_read_only%3Don")
    assert isinstance(found, StoreError)
    assert "read-only" in str(found)


def test_a_database_that_is_not_there_is_named(postgres: str) -> None:
    found = refusal_of(f"{postgres.rpartition('/')[0]}/nowhere".replace("plait@", "plait:geheim@"))
    assert isinstance(found, StoreError)
    assert '"nowhere"' in str(found)


def test_two_that_begin_at_once_make_the_tables_once(postgres: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(check_budget, [at(postgres)] * 8)) == [None] * 8


def test_plait_limits_shows_a_servers_and_forgets_it(server: Place) -> None:
    env = {"PLAIT_BUDGET": server.url}
    assert "the first model call begins to (" in plait("limits", env=env).out
    note(server)
    (known,) = json.loads(plait("limits", "--json", env=env).out)
    assert (known["model"], known["refused"], known["today"]["requests"]) == ("gpt", {"requests": 1}, 9)
    assert plait("limits", "--forget", env=env).out.startswith("forgot what was learnt")
    entry = read_budget(at(server.url))[0][NAME]
    assert (entry.refused, entry.requests.rate, entry.day.requests) == ({}, None, 9)


def test_commands_with_homes_of_their_own_share_what_they_learn_on_a_server(server: Place, tmp_path: Path) -> None:
    with running(Profile(rpm=6000, headers="openai")) as provider:
        for home in ("one", "other"):
            env = endpoint_env(provider) | {"PLAIT_BUDGET": server.url, "PLAIT_HOME": str(tmp_path / home)}
            ended = plait("run", "story", "topic=a forest", env=env)
            assert (ended.code, ended.err.count("not shared")) == (0, 0), ended.err
    ((name, entry),) = read_budget(at(server.url))[0].items()
    assert name.startswith(provider.base_url)
    assert (entry.accepted, entry.requests.told, entry.holders) == (provider.counters.accepted, 100.0, {})
    assert entry.accepted >= 2
    assert not list(tmp_path.rglob("limits.db"))


def test_plait_limits_says_which_server_it_cannot_reach() -> None:
    ended = plait("limits", env={"PLAIT_BUDGET": f"redis://:geheim@127.0.0.1:{free_port()}/0"})
    assert ended.code == 1
    assert ended.err.startswith("plait: cannot use the budget at redis://127.0.0.1:")
    assert "geheim" not in ended.err

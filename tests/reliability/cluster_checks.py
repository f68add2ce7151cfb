"""Holds what a batch of the kill matrix left against what was promised."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from plait.errors import StoreError
from plait.store.connections import Connection
from tests.reliability.cluster_graphs import CALLS, answer_to, plan_prompt, tell_prompt
from tests.reliability.cluster_grounds import MARK, Ground
from tests.reliability.cluster_strikes import marked, title

_LEAVE_S = 20.0
"""What ends by itself has so long to do it."""
_AGENTS_LEAVE_S = 90.0
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Ray's own: where all else of their cluster was killed, they look for its head for a minute."""


def recorded(ground: Ground) -> int:
    """Paid answers in the batch's journals."""
    place = ground.place
    count = 0
    for answers in place.answers() if place else ():
        sql = f"SELECT count(*) FROM calls {answers.tables.where()}"
        key = answers.tables.key

        def counted(connection: Connection, sql: str = sql, key: tuple[object, ...] = key) -> int:
            [[found]] = connection.execute(sql, key).fetchall()
            return int(found)

        with answers.reading() as read:
            count += read(counted) if read else 0
    return count


def ended(ground: Ground) -> set[int]:
    """The positions of the rows that have a result; nothing where the store does not answer now."""
    place = ground.place
    if place is None:
        return set()
    try:
        with place.read() as reader:
            return {position for position, *_ in reader.ends()}
    except StoreError:
        return set()


def begun(ground: Ground, done: Collection[int]) -> set[int]:
    """The rows that are under way: asked for at the provider, without a result."""
    return set(ground.calls.asked) - set(done)


def check(ground: Ground, *, kills: int, in_flight: int) -> None:
    """Fail where a row is missing, was paid for again beyond what was in flight, or anything was left behind."""
    place = ground.place
    assert place is not None
    with place.read() as reader:
        found = [(row.position, row.id, row.status) for row in reader.rows()]
        status = reader.meta.get("status")
    wanted = [(number, f"row-{number}", "success") for number in range(ground.needs.rows)]
    assert found == wanted, f"expected one success a row, found others: {_first_difference(found, wanted)}"
    assert status == "finished", f"the batch is {status}"
    needed, received = CALLS * ground.needs.rows, ground.provider.counters.received
    kept = recorded(ground)
    assert kept == needed, f"the journals hold {kept} answers for {needed} calls: some were paid for twice"
    assert needed <= received <= needed + in_flight, (
        f"{received} calls for {needed}, {in_flight} in flight at the kills"
    )
    often = {row: count for row, count in ground.calls.asked.items() if count > CALLS + kills}
    assert not often, f"rows asked more often than they were killed: {often}"
    check_export(ground)
    check_leftovers(ground)


def check_export(ground: Ground) -> None:
    """The file that the batch wrote is, byte for byte, that of a run that nobody disturbs."""
    assert ground.out.read_bytes() == undisturbed(ground), f"{ground.out} differs from an undisturbed run's"


def undisturbed(ground: Ground) -> bytes:
    """What a run without interruptions exports; a test holds this to a real one."""
    lines = ["id,plan,story,error,status,input_tokens,cached_tokens,output_tokens\n"]
    for number in range(ground.needs.rows):
        topic = f"topic-{number:06d}"
        planning = plan_prompt(topic)
        plan = answer_to(planning)
        telling = tell_prompt(topic, plan)
        story = answer_to(telling)
        asked = len(planning.split()) + len(telling.split())
        told = len(plan.split()) + len(story.split())
        lines.append(f"row-{number},{plan},{story},,success,{asked},0,{told}\n")
    return "".join(lines).encode()


def check_leftovers(ground: Ground) -> None:
    """No process of the batch, no connection, no lock and no claim is left."""

    def left(*but: str) -> list[str]:
        return [found for each in marked(MARK, ground.mark) if not (found := title(each).strip()).startswith(but)]

    _await(lambda: not left(*_AGENTS), lambda: f"left: {left(*_AGENTS)}")
    _await(lambda: not left(), lambda: f"left: {left()}", _AGENTS_LEAVE_S)
    _await(lambda: ground.provider.in_flight == 0, lambda: f"{ground.provider.in_flight} calls are still in flight")
    cluster = ground.cluster
    if cluster is not None:
        _await(lambda: not cluster.workers(), lambda: f"workers are left on the cluster: {cluster.workers()}")
    if ground.postgres is not None:
        url = ground.postgres.url
        _await(lambda: not _of_database(url), lambda: f"left in PostgreSQL: {_of_database(url)}")
    if ground.redis is not None:
        url = ground.redis.url
        _await(lambda: _clients(url) == 1, lambda: f"{_clients(url) - 1} connections to Redis are left")
    for name in ("*.part", "*.tmp"):
        assert not list(ground.out.parent.glob(name)), "a half-written export is left"


def _of_database(url: str) -> list[str]:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        others = connection.execute(
            "SELECT application_name || ': ' || left(query, 80) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
        locks = connection.execute(
            "SELECT 'advisory lock ' || objid::text FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
        claims = connection.execute("SELECT 'claim of ' || owner FROM batches WHERE owner IS NOT NULL").fetchall()
    return [text for (text,) in (*others, *locks, *claims)]


def _clients(url: str) -> int:
    import redis

    with redis.Redis.from_url(url) as connection:
        return len(list(connection.client_list()))


def _await(reached: Callable[[], bool], otherwise: Callable[[], str], patience_s: float = _LEAVE_S) -> None:
    until = time.monotonic() + patience_s
    while not reached():
        assert time.monotonic() < until, otherwise()
        time.sleep(0.1)


def _first_difference(found: list[tuple[int, str, str]], wanted: list[tuple[int, str, str]]) -> str:
    for one, other in zip(found, wanted, strict=False):
        if one != other:
            return f"{one} in place of {other}"
    return f"{len(found)} rows in place of {len(wanted)}"

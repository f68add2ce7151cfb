"""Crons: runs that begin by themselves, at their times, once, as whoever made them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from langgraph_sdk import Auth
from langgraph_sdk.client import LangGraphClient
from starlette.requests import HTTPConnection

from plait.app import find_app
from plait.errors import InputError
from plait.service.apps import app_of
from plait.service.auth.authorities import OpenAuthority
from plait.service.auth.rules import HandlerAuthority
from plait.service.callers import Authority, Caller
from plait.service.crons import CALLER, CronClock, kept_caller, next_time
from plait.service.graphs import assistant_id
from plait.service.options import ServiceOptions
from plait.service.services import Service
from plait.store.connections import Connection
from plait.store.service.records import EVERYTHING, Access, CronRecord, KeyRecord, RunRecord
from tests.service_api import by_header
from tests.serving import settings_in
from tests.webhook_receiver import receiving

APP = find_app(Path(__file__).parent / "apps" / "service_app")
NOBODYS = "3f6d7a1e-0000-4000-8000-000000000000"
STEPS = assistant_id("steps")
YEARLY = {"assistant_id": "steps", "schedule": "0 3 1 1 *", "input": {"topic": "cron"}}
FIELDS = {
    "cron_id", "assistant_id", "thread_id", "user_id", "end_time", "schedule", "timezone", "payload", "next_run_date",
    "metadata", "on_run_completed", "enabled", "created_at", "updated_at",
}  # fmt: skip

pytestmark = pytest.mark.asyncio(loop_scope="module")


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class Watch:
    """A clock that stands at a time."""

    def __init__(self, text: str) -> None:
        self.time = moment(text)

    def wall(self) -> float:
        return self.time


@dataclass
class Stand:
    """A service whose users are named by a header."""

    service: Service

    @cached_property
    def application(self) -> FastAPI:
        return app_of(self.service)

    def client(self, user: str = "") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.application)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers={"x-user": user})

    async def kept(self, cron_id: str) -> CronRecord:
        found = await self.service.store.crons.get(cron_id)
        assert found is not None
        return found

    async def begun(self, at: str, cron: CronRecord | Mapping[str, Any]) -> list[RunRecord]:
        """The runs that a cron begins at this time, when they are over."""
        cron_id = cron.cron_id if isinstance(cron, CronRecord) else str(cron["cron_id"])
        before = {run.run_id for run in await self.runs(cron_id)}
        async with CronClock(self.service, Watch(at)) as clock:
            await clock.begin_due()
            await clock.settled()
        new = [run.run_id for run in await self.runs(cron_id) if run.run_id not in before]
        for run_id in new:
            await self.service.runner.outcome(run_id)
        return [run for run in await self.runs(cron_id) if run.run_id in new]

    async def runs(self, cron_id: str) -> list[RunRecord]:
        def work(connection: Connection) -> list[tuple[str, str]]:
            sql = "SELECT run_id, thread_id FROM runs WHERE instr(metadata, ?) > 0"
            return list(connection.execute(sql, (f'"cron_id":"{cron_id}"',)))

        store = self.service.store
        found = [await store.runs.get(*ids) for ids in await store.read(work)]
        return [run for run in found if run is not None]


@asynccontextmanager
async def standing(folder: Path, authority: Authority | None = None, **bounds: Any) -> AsyncGenerator[Stand]:
    options = ServiceOptions(grace_s=0.05, **bounds)
    file = folder / "service.db"
    async with Service(
        app=APP, settings=settings_in(folder), address=file, options=options, authority=authority
    ) as service:
        yield Stand(service)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stand]:
    async with standing(tmp_path_factory.mktemp("service"), HandlerAuthority(by_header())) as found:
        yield found


@pytest.fixture
def user() -> str:
    """Somebody nobody has heard of."""
    return f"user-{uuid4()}"


@pytest_asyncio.fixture(loop_scope="module")
async def client(stand: Stand, user: str) -> AsyncGenerator[httpx.AsyncClient]:
    async with stand.client(user) as client:
        yield client
    for cron in await stand.service.store.crons.search(Access(user), limit=100):
        await stand.service.store.crons.delete(cron.cron_id)


async def made(client: httpx.AsyncClient, thread: str | None = None, **body: Any) -> dict[str, Any]:
    answered = await client.post(f"/threads/{thread}/runs/crons" if thread else "/runs/crons", json={**YEARLY, **body})
    assert answered.status_code == 200, answered.text
    found: dict[str, Any] = answered.json()
    return found


# --- over HTTP ---------------------------------------------------------------------------------------------


async def test_a_cron_is_made_as_the_reference_makes_it(client: httpx.AsyncClient, user: str) -> None:
    cron = await made(client, metadata={"m": 1})
    assert set(cron) == FIELDS
    assert UUID(cron["cron_id"]).version == 7
    assert (cron["assistant_id"], cron["thread_id"], cron["user_id"]) == (STEPS, None, user)
    assert (cron["enabled"], cron["on_run_completed"], cron["end_time"], cron["timezone"]) == (
        True,
        "delete",
        None,
        None,
    )
    assert cron["metadata"] == {"m": 1}
    assert cron["payload"] == {
        **YEARLY,
        "assistant_id": STEPS,
        "metadata": {"m": 1},
        "config": {"configurable": {"cron_id": cron["cron_id"]}},
    }
    assert cron["next_run_date"].endswith("-01-01T03:00:00+00:00")
    assert (await client.get(f"/runs/crons/{cron['cron_id']}")).json() == cron


async def test_a_cron_on_a_thread(client: httpx.AsyncClient) -> None:
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    cron = await made(client, thread)
    assert (cron["thread_id"], cron["on_run_completed"], cron["metadata"]) == (thread, None, {})
    refused = await client.post(f"/threads/{NOBODYS}/runs/crons", json=YEARLY)
    assert refused.status_code == 404
    assert (await made(client, NOBODYS, if_not_exists="create"))["thread_id"] == NOBODYS


async def test_what_may_be_said_of_a_cron(client: httpx.AsyncClient) -> None:
    cron = await made(
        client, timezone="Europe/Berlin", end_time="2099-01-01T00:00:00Z", enabled=False, on_run_completed="keep"
    )
    assert cron["next_run_date"].endswith("-01-01T02:00:00+00:00")
    assert cron["end_time"] == "2099-01-01T00:00:00.000000+00:00"
    assert (cron["enabled"], cron["on_run_completed"], cron["timezone"]) == (False, "keep", "Europe/Berlin")
    assert (await made(client, end_time="2020-01-01"))["next_run_date"] is None


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"schedule": "bad"}, 422, "expected five fields"), ({"schedule": ""}, 422, "expected five fields"),
        ({"schedule": "* * * * * *"}, 422, "6 fields"), ({"schedule": "61 * * * *"}, 422, "Bad minute"),
        ({"schedule": "0 0 31 2 *"}, 422, "Bad day-of-month"), ({"schedule": "@never"}, 422, "@daily"),
        ({"schedule": "* " * 200}, 422, "schedule"), ({"schedule": None}, 422, "schedule"),
        ({"schedule": 5}, 422, "schedule"), ({"timezone": "Mars/Base"}, 422, "Europe/Berlin"),
        ({"timezone": "../../etc/passwd"}, 422, "IANA"), ({"timezone": "Europe"}, 422, "IANA"),
        ({"timezone": 5}, 422, "timezone"), ({"end_time": "tomorrow"}, 422, "2030-01-31T18:00:00Z"),
        ({"end_time": 5}, 422, "end_time"), ({"enabled": "x"}, 422, "enabled"),
        ({"on_run_completed": "nope"}, 422, "on_run_completed"), ({"assistant_id": "nope"}, 404, "steps"),
        ({"assistant_id": NOBODYS}, 404, NOBODYS), ({"metadata": "x"}, 422, "metadata"),
        ({"webhook": "http://127.0.0.1/"}, 422, "webhook: expected a public host"),
        ({"command": {"resume": 1}}, 400, "resume"), ({"config": {"recursion_limit": 10_000}}, 422, "recursion_limit"),
        ({"config": {"configurable": {"a": 1}}, "context": {"b": 1}}, 400, "configurable and context"),
        ({"config": {"configurable": {"langgraph_auth_user": {"identity": "root"}}}}, 400, "langgraph_auth_user"),
        ({"stream_mode": "nope"}, 422, "stream_mode"),
    ],
)  # fmt: skip
async def test_what_cannot_run_is_refused_when_it_is_made(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, told: str
) -> None:
    answered = await client.post("/runs/crons", json={**YEARLY, **body})
    assert answered.status_code == status
    assert told in answered.json()["detail"]
    assert (await client.post("/runs/crons/count", json={})).json() == 0


async def test_crons_are_found_in_pages(client: httpx.AsyncClient) -> None:
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    first = await made(client, metadata={"team": "a"})
    second = await made(client, thread, schedule="@daily")
    third = await made(client, enabled=False, assistant_id="echo", schedule="0 0 1 * *")

    async def ids(**query: Any) -> list[str]:
        return [cron["cron_id"] for cron in (await client.post("/runs/crons/search", json=query)).json()]

    assert await ids() == [third["cron_id"], second["cron_id"], first["cron_id"]]
    assert await ids(metadata={"team": "a"}) == [first["cron_id"]]
    assert await ids(thread_id=thread) == [second["cron_id"]]
    assert await ids(enabled=False) == await ids(assistant_id="echo") == [third["cron_id"]]
    assert await ids(assistant_id=STEPS, sort_order="asc") == [first["cron_id"], second["cron_id"]]
    assert (await ids(sort_by="next_run_date", sort_order="asc"))[0] == second["cron_id"]
    page = await client.post("/runs/crons/search", json={"limit": 2, "select": ["cron_id", "enabled"]})
    assert (page.headers["x-pagination-total"], page.headers["x-pagination-next"]) == ("3", "2")
    assert page.json()[0] == {"cron_id": third["cron_id"], "enabled": False}
    assert (await client.post("/runs/crons/count", json={"thread_id": thread})).json() == 1
    for body in ({"sort_by": "nope"}, {"thread_id": "bad"}, {"assistant_id": "nope"}, {"limit": 0}):
        assert (await client.post("/runs/crons/search", json=body)).status_code == 422


async def test_a_cron_is_changed(client: httpx.AsyncClient) -> None:
    cron = await made(client, metadata={"m": 1}, end_time="2099-01-01T00:00:00Z")
    path = f"/runs/crons/{cron['cron_id']}"

    async def changed(**body: Any) -> dict[str, Any]:
        answered = await client.patch(path, json=body)
        assert answered.status_code == 200, answered.text
        found: dict[str, Any] = answered.json()
        return found

    off = await changed(enabled=False)
    assert off == {
        **cron, "enabled": False, "payload": {**cron["payload"], "enabled": False}, "updated_at": off["updated_at"],
    }  # fmt: skip
    assert (await changed(metadata={"n": 2}))["metadata"] == {"m": 1, "n": 2}
    assert (await changed(end_time=None))["end_time"] is None
    moved = await changed(schedule="0 12 24 12 *", timezone="Asia/Tokyo", input={"topic": "moved"})
    assert moved["next_run_date"].endswith("-12-24T03:00:00+00:00")
    assert moved["payload"]["input"] == {"topic": "moved"}
    assert (await changed(timezone=None))["next_run_date"].endswith("-12-24T12:00:00+00:00")
    configured = await changed(config={"configurable": {"x": 1}}, on_run_completed="keep")
    assert configured["payload"]["config"] == {"configurable": {"x": 1, "cron_id": cron["cron_id"]}}
    assert configured["on_run_completed"] == "keep"
    assert (await client.get(path)).json() == configured


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"schedule": "bad"}, 422), ({"schedule": None}, 422), ({"enabled": None}, 422),
        ({"timezone": "Mars/Base"}, 422), ({"end_time": "zz"}, 422), ({"webhook": "http://localhost/"}, 422),
        ({"config": {"configurable": {"x": 1}}, "context": {"y": 1}}, 400), ([], 422),
    ],
)  # fmt: skip
async def test_a_bad_change_changes_nothing(client: httpx.AsyncClient, body: Any, status: int) -> None:
    cron = await made(client)
    path = f"/runs/crons/{cron['cron_id']}"
    assert (await client.patch(path, json=body)).status_code == status
    assert (await client.get(path)).json() == cron


async def test_a_cron_is_deleted_and_what_is_not_there_is_404(client: httpx.AsyncClient) -> None:
    cron = await made(client)
    path = f"/runs/crons/{cron['cron_id']}"
    assert (await client.delete(path)).status_code == 204
    for answered in (
        await client.delete(path),
        await client.get(path),
        await client.patch(path, json={"enabled": True}),
    ):
        assert answered.status_code == 404
    assert (await client.get("/runs/crons/bad")).status_code == 422


async def test_a_cron_is_its_owners(stand: Stand, client: httpx.AsyncClient) -> None:
    cron = await made(client)
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    path = f"/runs/crons/{cron['cron_id']}"
    async with stand.client("somebody else") as other:
        assert (await other.get(path)).status_code == 404
        assert (await other.patch(path, json={"enabled": False})).status_code == 404
        assert (await other.delete(path)).status_code == 404
        assert (await other.post(f"/threads/{thread}/runs/crons", json=YEARLY)).status_code == 404
        assert (await other.post("/runs/crons/search", json={})).json() == []
        assert (await other.post("/runs/crons/count", json={})).json() == 0
    assert (await client.get(path)).json() == cron


async def test_auth_handlers_decide_about_crons(tmp_path: Path) -> None:
    auth = by_header()
    seen: list[tuple[str, str]] = []

    @auth.on.crons
    async def stamp(ctx: Auth.types.AuthContext, value: Any) -> Any:
        seen.append((ctx.action, ctx.user.identity))
        if ctx.user.identity == "barred":
            return False
        value.setdefault("metadata", {})["team"] = "a" if ctx.user.identity in ("ann", "bob") else "b"
        return {"team": value["metadata"]["team"]}

    async with standing(tmp_path, HandlerAuthority(auth)) as stand:
        async with stand.client("ann") as ann, stand.client("bob") as bob, stand.client("carl") as carl:
            cron = await made(ann)
            assert cron["metadata"] == {"team": "a"}
            path = f"/runs/crons/{cron['cron_id']}"
            assert (await bob.get(path)).status_code == 200
            assert (await bob.patch(path, json={"input": {"topic": "bob's"}})).json()["user_id"] == "ann"
            assert (await carl.get(path)).status_code == 404
        async with stand.client("barred") as barred:
            assert (await barred.post("/runs/crons", json=YEARLY)).status_code == 403
        (run,) = await stand.begun("2030-01-02T00:00:00Z", cron)
        assert (run.owner, run.kwargs["input"]) == ("ann", {"topic": "bob's"})
    assert seen[:2] == [("create", "ann"), ("read", "bob")]


async def test_the_sdk_works_unchanged(client: httpx.AsyncClient) -> None:
    sdk = LangGraphClient(client)
    cron: Any = await sdk.crons.create("steps", schedule="0 3 1 1 *", input={"topic": "x"}, timezone="Europe/Berlin")
    updated: Any = await sdk.crons.update(cron["cron_id"], enabled=False, end_time=datetime(2099, 1, 1, tzinfo=UTC))
    assert (updated["enabled"], updated["end_time"]) == (False, "2099-01-01T00:00:00.000000+00:00")
    assert [one["cron_id"] for one in await sdk.crons.search(enabled=False)] == [cron["cron_id"]]
    assert await sdk.crons.count() == 1
    await sdk.crons.delete(cron["cron_id"])


# --- when they run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "timezone", "after", "expected"),
    [
        ("*/15 * * * *", None, "2026-11-21T17:14:59Z", "2026-11-21T17:15:00Z"),
        ("*/15 * * * *", None, "2026-11-21T17:15:00Z", "2026-11-21T17:30:00Z"),
        ("0 7 * * 1-5", "Europe/Berlin", "2026-11-20T12:00:00Z", "2026-11-23T06:00:00Z"),
        ("0 0 29 2 *", None, "2026-11-21T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("@daily", "America/New_York", "2026-07-01T12:00:00Z", "2026-07-02T04:00:00Z"),
        ("@Weekly", None, "2026-11-21T12:00:00Z", "2026-11-22T00:00:00Z"),
        # 02:30 is left out on this day, and comes twice on that.
        ("30 2 * * *", "Europe/Berlin", "2027-03-28T00:00:00Z", "2027-03-28T01:00:00Z"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
    ],
)
async def test_the_next_time_of_a_schedule(schedule: str, timezone: str | None, after: str, expected: str) -> None:
    assert await asyncio.to_thread(next_time, schedule, timezone, moment(after)) == moment(expected)


async def test_a_schedule_that_never_comes_is_refused() -> None:
    with pytest.raises(InputError, match=r"found '0 0 \*/10 2 1#5': no such day"):
        await asyncio.to_thread(next_time, "0 0 */10 2 1#5", None, 0.0)


async def test_a_due_cron_runs_as_its_owner(stand: Stand, client: httpx.AsyncClient, user: str) -> None:
    cron = await made(client, metadata={"m": 1}, context={"topic": "context"})
    (run,) = await stand.begun("2030-05-05T00:00:00Z", cron)
    assert (run.status, run.owner, run.kwargs["input"]) == ("success", user, {"topic": "cron"})
    assert run.metadata.items() >= {"m": 1, "cron_id": cron["cron_id"]}.items()
    assert not run.interactive
    assert (await client.get(f"/threads/{run.thread_id}")).status_code == 404
    assert (await stand.kept(cron["cron_id"])).next_run_at == moment("2031-01-01T03:00:00Z")


async def test_a_workflow_finds_the_crons_id(stand: Stand, client: httpx.AsyncClient) -> None:
    cron = await made(client)
    (run,) = await stand.begun("2030-05-05T00:00:00Z", cron)
    config: Any = run.kwargs["config"]
    assert config["configurable"] == {"cron_id": cron["cron_id"]}


async def test_the_thread_of_a_run_is_kept_where_that_is_asked_for(stand: Stand, client: httpx.AsyncClient) -> None:
    cron = await made(client, on_run_completed="keep")
    (run,) = await stand.begun("2030-05-05T00:00:00Z", cron)
    kept = (await client.get(f"/threads/{run.thread_id}")).json()
    assert kept["values"]["trail"] == ["first", "second", "third cron"]


async def test_runs_on_a_thread_go_on_where_the_last_one_ended(stand: Stand, client: httpx.AsyncClient) -> None:
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    cron = await made(client, thread)
    for year in (2030, 2031):
        assert len(await stand.begun(f"{year}-05-05T00:00:00Z", cron)) == 1
    assert len((await client.get(f"/threads/{thread}/state")).json()["values"]["trail"]) == 6


async def test_times_that_were_missed_are_made_up_for_once(stand: Stand, client: httpx.AsyncClient) -> None:
    cron = await made(client, schedule="* * * * *")
    late = datetime.fromtimestamp((await stand.kept(cron["cron_id"])).next_run_at or 0.0, UTC).replace(year=2040)
    assert len(await stand.begun(late.isoformat(), cron)) == 1
    assert await stand.begun(late.isoformat(), cron) == []
    await client.delete(f"/runs/crons/{cron['cron_id']}")


async def test_several_clocks_begin_a_run_once(stand: Stand, client: httpx.AsyncClient) -> None:
    crons = [await made(client) for _ in range(5)]
    clocks = [CronClock(stand.service, Watch("2030-05-05T00:00:00Z")) for _ in range(4)]
    await asyncio.gather(*(clock.begin_due() for clock in clocks))
    for clock in clocks:
        await clock.settled()
    assert [len(await stand.runs(cron["cron_id"])) for cron in crons] == [1] * 5


async def test_a_cron_that_is_off_ended_or_deleted_does_not_run(stand: Stand, client: httpx.AsyncClient) -> None:
    off = await made(client, enabled=False)
    over = await made(client, end_time="2029-01-01T03:00:00Z", schedule="0 3 1 6 *")
    gone = await made(client)
    await client.delete(f"/runs/crons/{gone['cron_id']}")
    assert len(await stand.begun("2028-08-08T00:00:00Z", over)) == 1
    assert (await stand.kept(over["cron_id"])).next_run_at is None
    for cron in (off, over, gone):
        assert await stand.begun("2035-01-01T00:00:00Z", cron) == []


async def test_a_cron_that_is_turned_on_again_does_not_run_at_once(stand: Stand, client: httpx.AsyncClient) -> None:
    cron = await made(client, enabled=False)
    await stand.service.store.crons.update(cron["cron_id"], EVERYTHING, {"next_run_at": 1.0})
    on = (await client.patch(f"/runs/crons/{cron['cron_id']}", json={"enabled": True})).json()
    assert on["next_run_date"] == cron["next_run_date"]


async def test_a_cron_goes_with_its_thread(stand: Stand, client: httpx.AsyncClient) -> None:
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    cron = await made(client, thread)
    await client.delete(f"/threads/{thread}")
    assert await stand.begun("2030-05-05T00:00:00Z", cron) == []
    assert (await client.get(f"/runs/crons/{cron['cron_id']}")).status_code == 404


async def test_a_cron_whose_thread_cannot_be_seen_is_disabled(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    cron = await stand.service.store.crons.create(replace(kept_cron(7), thread_id=NOBODYS))
    assert await stand.begun("2030-05-05T00:00:00Z", cron) == []
    assert not (await stand.kept(cron.cron_id)).enabled
    assert f"its thread {NOBODYS} is gone" in caplog.text


async def test_a_cron_that_cannot_run_waits_for_its_next_time(
    stand: Stand, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    cron = await stand.service.store.crons.create(replace(kept_cron(8), assistant_id=NOBODYS))
    good = await made(client)
    assert len(await stand.begun("2030-05-05T00:00:00Z", good)) == 1
    assert await stand.runs(cron.cron_id) == []
    assert f"cron {cron.cron_id} did not run: " in caplog.text
    after = await stand.kept(cron.cron_id)
    assert (after.enabled, after.next_run_at) == (True, moment("2031-01-01T03:00:00Z"))


async def test_a_cron_that_cannot_run_is_turned_off_but_not_on(
    stand: Stand, client: httpx.AsyncClient, user: str
) -> None:
    cron = await stand.service.store.crons.create(replace(kept_cron(9), assistant_id=NOBODYS, owner=user))
    path = f"/runs/crons/{cron.cron_id}"
    assert (await client.patch(path, json={"enabled": False})).json()["enabled"] is False
    assert (await client.patch(path, json={"enabled": True})).status_code in (404, 422)
    assert (await client.get(path)).json()["enabled"] is False


async def test_a_thread_that_is_busy_may_refuse_a_run(
    stand: Stand, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "plait.service")
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    cron = await made(client, thread, multitask_strategy="reject")
    waiting = {"assistant_id": "steps", "input": {"topic": "x"}, "after_seconds": 1000}
    await client.post(f"/threads/{thread}/runs", json=waiting)
    assert await stand.begun("2030-05-05T00:00:00Z", cron) == []
    assert "its thread is busy" in caplog.text
    await client.delete(f"/threads/{thread}")


# --- keys, ends, the keeper --------------------------------------------------------------------------------


def key(**limits: Any) -> KeyRecord:
    return KeyRecord("plait_abcd", uuid4().hex, "ann", **limits)


def kept_cron(number: int, key_id: str = "") -> CronRecord:
    caller = Caller("ann", key_id=key_id)
    return CronRecord(
        f"01a1ff0c-6297-752f-9130-{number:012}", STEPS, "0 3 1 1 *", owner="ann",
        next_run_at=moment("2030-01-01T03:00:00Z"),
        payload={"input": {"topic": str(number)}, CALLER: kept_caller(caller)},
    )  # fmt: skip


async def test_runs_count_for_the_key_that_the_cron_was_made_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with standing(tmp_path) as stand:
        await stand.service.store.keys.create(key(runs_per_day=1))
        first = await stand.service.store.crons.create(kept_cron(1, "plait_abcd"))
        (run,) = await stand.begun("2030-05-05T00:00:00Z", first)
        assert (run.key_id, run.owner) == ("plait_abcd", "ann")
        second = await stand.service.store.crons.create(kept_cron(2, "plait_abcd"))
        assert await stand.begun("2030-05-05T00:00:00Z", second) == []
    assert "1 of 1 runs of this day" in caplog.text


@pytest.mark.parametrize("ended", [{"revoked_at": 5.0}, {"expires_at": 5.0}, None])
async def test_a_cron_ends_with_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ended: dict[str, float] | None
) -> None:
    async with standing(tmp_path) as stand:
        if ended is not None:
            await stand.service.store.keys.create(key(**ended))
        cron = await stand.service.store.crons.create(kept_cron(1, "plait_abcd"))
        assert await stand.begun("2030-05-05T00:00:00Z", cron) == []
        assert not (await stand.kept(cron.cron_id)).enabled
    assert "its API key plait_abcd..." in caplog.text


async def test_a_key_made_it_and_a_new_key_lets_it_run_again(tmp_path: Path) -> None:
    class Held(OpenAuthority):
        """Whoever asks is ann, with the key of the moment."""

        key_id = "first"

        async def authenticate(self, connection: HTTPConnection) -> Caller:
            return Caller("ann", key_id=self.key_id)

    held = Held()
    async with standing(tmp_path, held) as stand, stand.client() as client:
        cron = await made(client)
        assert CALLER not in cron["payload"]
        assert (await stand.kept(cron["cron_id"])).payload[CALLER] == {"key_id": "first", "permissions": []}
        held.key_id = "second"
        changed = await client.patch(f"/runs/crons/{cron['cron_id']}", json={"enabled": True, CALLER: {"key_id": "x"}})
        assert CALLER not in changed.json()["payload"]
        assert (await stand.kept(cron["cron_id"])).payload[CALLER] == {"key_id": "second", "permissions": []}


async def test_a_server_that_ends_leaves_the_time_to_the_next_one(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        cron = await stand.service.store.crons.create(kept_cron(1))
        await stand.service.runner.drain(0.0)
        assert await stand.begun("2030-05-05T00:00:00Z", cron) == []
        assert await stand.kept(cron.cron_id) == replace(cron, updated_at=(await stand.kept(cron.cron_id)).updated_at)
    async with standing(tmp_path) as stand:
        assert len(await stand.begun("2030-05-05T00:00:00Z", cron)) == 1


async def test_a_server_that_starts_runs_what_was_missed_and_tells_its_webhook(tmp_path: Path) -> None:
    async with receiving() as receiver:
        stand_in = standing(tmp_path, webhook_hosts=(receiver.host,))
        async with stand_in as stand, stand.client() as client:
            cron = await made(client, webhook=receiver.url)
            await stand.service.store.crons.update(cron["cron_id"], EVERYTHING, {"next_run_at": 1.0})
            told = await receiver.next()
            assert (told["status"], told["metadata"]["cron_id"]) == ("success", cron["cron_id"])
            assert (await client.get(f"/runs/crons/{cron['cron_id']}")).json()["next_run_date"] == cron["next_run_date"]

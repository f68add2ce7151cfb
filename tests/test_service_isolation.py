"""No caller reads or changes what is another one's, on any route; without credentials no route does anything."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from langgraph_sdk import Auth

from plait.service import ServiceOptions, create_app, create_router
from plait.service.apps import app_of
from plait.service.auth.rules import HandlerAuthority
from plait.service.services import Service
from plait.store.service import ServiceStore
from plait.store.service.key_texts import digest_of, id_of, new_key
from plait.store.service.records import KeyRecord
from tests.service_api import APP
from tests.service_attempts import TABLE
from tests.service_worlds import MARK, Attempt, World, made_world
from tests.serving import listening, settings_in

OPEN = {
    ("GET", "/ok"), ("GET", "/health"),
    ("GET", "/info"), ("GET", "/"), ("HEAD", "/"), ("GET", "/page/{name}"), ("HEAD", "/page/{name}"),
}  # fmt: skip
"""What is said of the service itself, and the page that asks people for their key."""
WAYS = ("keys", "auth", "host")
OPTIONS = ServiceOptions(grace_s=0.2)


@dataclass(frozen=True, slots=True)
class Stand:
    """A service with two owners, who say who they are in their own way."""

    url: str
    file: Path
    app: FastAPI
    headers: Mapping[str, Mapping[str, str]]

    def client(self, user: str | None) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers[user] if user else {}, timeout=20, verify=False)


@contextmanager
def standing(folder: Path, way: str) -> Iterator[Stand]:
    file = folder / "service.db"
    settings = settings_in(folder)
    headers: dict[str, dict[str, str]] = {name: {"x-user": name} for name in ("ada", "bob")}
    if way == "keys":
        headers = {name: {"x-api-key": asyncio.run(added_key(file, name))} for name in headers}
        app = create_app(APP, settings=settings, options=OPTIONS, store=file)
    elif way == "auth":
        app = app_of(
            Service(app=APP, settings=settings, address=file, options=OPTIONS, authority=HandlerAuthority(filtering()))
        )
    else:
        app = FastAPI()
        app.include_router(create_router(APP, owner=Depends(signed_in), settings=settings, options=OPTIONS, store=file))
    with listening(app, settings=settings) as served:
        yield Stand(served.url, file, app, headers)


async def added_key(file: Path, owner: str) -> str:
    key = new_key()
    async with ServiceStore(file) as store:
        await store.keys.create(KeyRecord(id_of(key), digest_of(key), owner, owner, created_at=time.time()))
    return key


def filtering() -> Auth:
    """As documented: everything has its owner in the metadata, and nothing else is let through."""
    auth = Auth()

    @auth.authenticate
    async def who(headers: dict[bytes, bytes]) -> str:
        return headers.get(b"x-user", b"").decode()

    @auth.on
    async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Auth.types.FilterType:
        value["metadata"] = {**(value.get("metadata") or {}), "owner": ctx.user.identity}
        return {"owner": ctx.user.identity}

    return auth


def signed_in(request: Request) -> str | None:
    return request.headers.get("x-user")


def routes_of(routes: Any) -> Iterator[tuple[str, str]]:
    """Method and path of every route, however deep FastAPI keeps them."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner.routes)
        elif (path := getattr(route, "path", None)) and path not in ("/openapi.json", "/docs", "/redoc"):
            yield from ((method, path) for method in route.methods if not path.startswith("/docs/"))


@pytest.fixture(scope="module", params=WAYS)
def stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp(request.param), request.param) as found:
        yield found


@pytest.fixture(scope="module")
def world(stand: Stand) -> World:
    with stand.client("ada") as ada, stand.client("bob") as bob:
        return made_world(ada, bob)


_KEPT = {
    "threads": "owner = 'ada'",
    "runs": "owner = 'ada'",
    "assistants": "owner IN ('ada', '')",
    "assistant_versions": "owner IN ('ada', '')",
    "crons": "owner = 'ada'",
    "item_namespaces": "owner = 'ada'",
    "items": "namespace_id IN (SELECT id FROM item_namespaces WHERE owner = 'ada')",
    "events": "run_id IN (SELECT run_id FROM runs WHERE owner = 'ada')",
    "checkpoints": "thread_id IN (SELECT thread_id FROM threads WHERE owner = 'ada')",
    "checkpoint_values": "thread_id IN (SELECT thread_id FROM threads WHERE owner = 'ada')",
    "checkpoint_writes": "thread_id IN (SELECT thread_id FROM threads WHERE owner = 'ada')",
}


def kept(file: Path) -> dict[str, list[Any]]:
    """All that the file holds of ada's, and of what is everybody's."""
    with closing(sqlite3.connect(file)) as connection:
        return {
            table: sorted(map(repr, connection.execute(f"SELECT * FROM {table} WHERE {where}")))
            for table, where in _KEPT.items()
        }


def tried(client: httpx.Client, attempt: Attempt) -> httpx.Response:
    return client.request(attempt.method, attempt.url, json=attempt.json, headers=dict(attempt.headers or {}))


def test_every_route_of_the_service_is_tried_here(stand: Stand) -> None:
    assert set(routes_of(stand.app.routes)) == TABLE.keys() | OPEN


@pytest.mark.parametrize("route", TABLE, ids=" ".join)
def test_a_stranger_reads_and_changes_nothing_of_an_owner(stand: Stand, world: World, route: tuple[str, str]) -> None:
    before = kept(stand.file)
    with stand.client("bob") as bob:
        for attempt in TABLE[route](world):
            answer = tried(bob, attempt)
            shown = f"{attempt} answered {answer.status_code} {answer.text[:500]}"
            assert answer.status_code in attempt.statuses, shown
            said = f"{attempt.url} {json.dumps(attempt.json)}"
            assert not [one for one in (MARK, *world.ids) if one in answer.text and one not in said], shown
            if attempt.answer is not None:
                assert answer.json() == attempt.answer, shown
            assert kept(stand.file) == before, shown


@pytest.mark.parametrize("route", TABLE, ids=" ".join)
def test_nobody_gets_anything_without_credentials(stand: Stand, world: World, route: tuple[str, str]) -> None:
    before = kept(stand.file)
    with stand.client(None) as nobody:
        for attempt in TABLE[route](world):
            answer = tried(nobody, attempt)
            assert answer.status_code == 401, f"{attempt} answered {answer.status_code} {answer.text[:500]}"
            assert not any(one in answer.text for one in (MARK, *world.ids))
    assert kept(stand.file) == before


def test_what_is_said_to_everybody_tells_nothing_of_owners(stand: Stand, world: World) -> None:
    with stand.client(None) as nobody:
        for url in ("/ok", "/info", "/", "/page/page.js", "/openapi.json"):
            answer = nobody.get(url)
            assert answer.status_code == 200
            assert not any(one in answer.text for one in (MARK, *world.ids, "Three nodes and a reducer"))


def test_the_owner_is_let_through_with_the_same_requests(tmp_path: Path) -> None:
    """What is refused above is refused for whose it is, not because the request is wrong."""
    with standing(tmp_path, "keys") as stand, stand.client("ada") as ada, stand.client("bob") as bob:
        world = made_world(ada, bob)
        # What only reads comes first; what changes something may use it up, and gets a new world.
        for (method, _), attempts in sorted(TABLE.items()):
            own = [number for number, attempt in enumerate(attempts(world)) if attempt.by_owner]
            for number in own if method == "GET" else own[:1]:
                answer = tried(ada, attempts(world)[number])
                assert answer.status_code < 300, f"{attempts(world)[number]} answered {answer.text[:500]}"
            world = world if method == "GET" else made_world(ada, bob)


def shared() -> Auth:
    """Everybody reads all threads; each changes their own."""
    auth = Auth()

    @auth.authenticate
    async def who(headers: dict[bytes, bytes]) -> str:
        return headers.get(b"x-user", b"").decode()

    @auth.on.threads
    async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Auth.types.FilterType:
        value["metadata"] = {**(value.get("metadata") or {}), "owner": ctx.user.identity}
        return {"owner": ctx.user.identity}

    @auth.on.threads.read
    async def anybody(ctx: Auth.types.AuthContext, value: Auth.types.ThreadsRead) -> bool:
        return True

    return auth


@pytest.fixture
def readable(tmp_path: Path) -> Iterator[Stand]:
    settings, file = settings_in(tmp_path), tmp_path / "service.db"
    service = Service(app=APP, settings=settings, address=file, options=OPTIONS, authority=HandlerAuthority(shared()))
    app = app_of(service)
    with listening(app, settings=settings) as served:
        yield Stand(served.url, file, app, {name: {"x-user": name} for name in ("ada", "bob")})


def test_who_may_only_read_a_thread_cannot_end_its_run_by_going_away(readable: Stand) -> None:
    with readable.client("ada") as ada, readable.client("bob") as bob:
        thread = ada.post("/threads", json={}).json()["thread_id"]
        body = {"assistant_id": "steps", "input": {}, "after_seconds": 1000}
        run = ada.post(f"/threads/{thread}/runs", json=body).json()["run_id"]
        url = f"/threads/{thread}/runs/{run}"
        assert bob.get(url).status_code == 200
        assert bob.get(f"{url}/stream?cancel_on_disconnect=true").status_code == 404
        with bob.stream("GET", f"{url}/stream") as answer:
            assert answer.status_code == 200
        assert ada.get(url).json()["status"] == "pending"
        with ada.stream("GET", f"{url}/stream?cancel_on_disconnect=true") as answer:
            assert answer.status_code == 200


def test_a_copy_of_what_one_may_read_is_ones_own(readable: Stand) -> None:
    with readable.client("ada") as ada, readable.client("bob") as bob:
        thread = ada.post("/threads", json={}).json()["thread_id"]
        copied = bob.post(f"/threads/{thread}/copy").json()
        assert copied["metadata"]["owner"] == "bob"
        with closing(sqlite3.connect(readable.file)) as connection:
            owners = dict(connection.execute("SELECT thread_id, owner FROM threads"))
        assert owners == {thread: "ada", copied["thread_id"]: "bob"}


def test_a_run_is_its_owners_also_where_they_say_so_themselves(readable: Stand) -> None:
    with readable.client("bob") as bob:
        body = {"assistant_id": "steps", "input": {}, "after_seconds": 1000, "metadata": {"owner": "bob"}}
        run = bob.post("/runs", json=body).json()
        assert bob.post(f"/threads/{run['thread_id']}/runs/{run['run_id']}/cancel").status_code == 202


def test_what_is_no_workflow_is_told_of_without_the_servers_paths(stand: Stand) -> None:
    with stand.client("bob") as bob:
        for name in (f"{__file__}:graph", "../states.py:steps", "os:system", "x" * 1_000_000):
            thread = bob.post("/threads", json={"metadata": {"graph_id": name}}).json()["thread_id"]
            for answer in (bob.get(f"/threads/{thread}/state"), bob.post(f"/threads/{thread}/state", json={})):
                assert answer.status_code == 404
                assert str(APP.root) not in answer.text
                assert len(answer.text) < 1000

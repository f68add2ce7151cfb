"""Who may use the service: open, API keys and their limits, an app's Auth, the host's users."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypedDict, cast
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph_sdk import Auth

from plait.app import App, find_app
from plait.errors import AppError, SettingsError
from plait.flow.usage import Tokens, Usage
from plait.prices import Price, Prices
from plait.service.auth.authorities import HostAuthority, OpenAuthority, authority_for, note_user
from plait.service.auth.binds import check_bind
from plait.service.auth.configurables import checked_configurable
from plait.service.auth.keyrings import FRESH_S, KeyAuthority
from plait.service.auth.quotas import KeyLimits
from plait.service.auth.rules import HandlerAuthority
from plait.service.auth.users import KnownUser, known_user
from plait.service.callers import Authority, Caller
from plait.store.service import ServiceStore
from plait.store.service.key_texts import digest_of, id_of, is_key, new_key
from plait.store.service.keys import Keys
from plait.store.service.records import EVERYTHING, Access, KeyRecord
from tests.clocks import FakeClock

NOBODY = object()
AUTH_PAGE = Path(__file__).parents[1] / "docs" / "auth.md"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class CountedKeys(Keys):
    """The store's keys; `reads` counts the lookups of one."""

    reads = 0

    async def by_digest(self, digest: str) -> KeyRecord | None:
        self.reads += 1
        return await super().by_digest(digest)


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncGenerator[CountedKeys]:
    async with ServiceStore(tmp_path / "service.db") as store:
        yield CountedKeys(store.keys._database)


async def add_key(keys: Keys, owner: str = "ada", **limits: Any) -> str:
    key = new_key()
    record = KeyRecord(key_id=id_of(key), digest=digest_of(key), owner=owner, name="test", created_at=1.0)
    await keys.create(dataclasses.replace(record, **limits))
    return key


def serving(authority: Authority, *, user: object = NOBODY) -> httpx.AsyncClient:
    """A client of an app that says who the authority takes callers for, and what it lets them see."""
    app = FastAPI()

    @app.api_route("/threads/{thread_id}", methods=["GET", "POST"])
    async def who(request: Request, thread_id: str) -> dict[str, object]:
        if user is not NOBODY:
            note_user(request, user)
        caller = await authority.authenticate(request)
        return {
            "identity": caller.identity,
            "address": caller.address,
            "permissions": caller.permissions,
            "key_id": caller.key_id,
            "user": getattr(caller.user, "identity", None),
        }

    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=("10.1.2.3", 99)), base_url="http://service")


async def asked(authority: Authority, *, user: object = NOBODY, **headers: str) -> httpx.Response:
    async with serving(authority, user=user) as client:
        return await client.get("/threads/t1", headers={name.replace("_", "-"): text for name, text in headers.items()})


# --- open ----------------------------------------------------------------------------------------------


async def test_an_open_service_knows_callers_by_their_address_and_shows_them_everything() -> None:
    found = (await asked(OpenAuthority())).json()
    assert (found["identity"], found["address"]) == ("", "10.1.2.3")
    assert await OpenAuthority().authorize(Caller(), "threads", "read", {}) == EVERYTHING


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.9.1", "localhost", "LocalHost.", "::1", "[::1]", "::ffff:127.0.0.1", "unix:/run/x.sock"],
)
def test_an_open_service_may_listen_where_only_this_machine_reaches_it(host: str) -> None:
    check_bind(host, OpenAuthority(), insecure=False)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "", "::", "10.0.0.4", "::ffff:10.0.0.4", "example.com", "localhost.example.com", "127.0.0.1.a"]
)
def test_an_open_service_must_not_listen_elsewhere_unless_told_so(host: str, keys: CountedKeys) -> None:
    with pytest.raises(SettingsError, match=r"plait keys create NAME.*--insecure"):
        check_bind(host, OpenAuthority(), insecure=False)
    check_bind(host, OpenAuthority(), insecure=True)
    check_bind(host, KeyAuthority(keys, FakeClock()), insecure=False)


# --- keys ----------------------------------------------------------------------------------------------


async def test_a_key_is_found_in_either_header_and_its_owner_is_the_caller(keys: CountedKeys, clock: FakeClock) -> None:
    key, authority = await add_key(keys), KeyAuthority(keys, clock)
    expected = {"identity": "ada", "address": "10.1.2.3", "permissions": [], "key_id": key[:12], "user": "ada"}
    assert (await asked(authority, X_Api_Key=key)).json() == expected
    assert (await asked(authority, Authorization=f"bearer {key}")).json() == expected
    # langgraph_sdk sends the key of LangSmith by itself.
    assert (await asked(authority, X_Api_Key="lsv2_pt_1", Authorization=f"Bearer {key}")).json() == expected
    assert await authority.authorize(Caller("ada"), "threads", "search", {}) == Access(owner="ada")


async def test_what_is_no_valid_key_is_refused_with_the_reason(keys: CountedKeys, clock: FakeClock) -> None:
    authority = KeyAuthority(keys, clock)
    revoked = await add_key(keys, revoked_at=5.0)
    expired = await add_key(keys, expires_at=clock.wall())
    cases = [
        ("", "found none: `plait keys create NAME`"),
        ("lsv2_pt_0123456789", "a key of something else"),
        ("plait_short", "cut short"),
        (f"{new_key()}x", "cut short"),
        (new_key(), "not known here"),
        (revoked, f"{revoked[:12]}... was revoked"),
        (expired, f"{expired[:12]}... expired on 2023-11-14 22:13 UTC"),
    ]
    for key, reason in cases:
        answer = await asked(authority, **({"X_Api_Key": key} if key else {}))
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert reason in answer.json()["detail"]
        assert not key or key not in answer.text
    assert (await asked(authority, Authorization=f"Basic {expired}")).status_code == 401


async def test_a_key_is_read_once_in_a_while_and_a_revoked_one_ends_then(keys: CountedKeys, clock: FakeClock) -> None:
    key, authority = await add_key(keys), KeyAuthority(keys, clock)
    async with serving(authority) as client:

        async def status() -> int:
            return (await client.get("/threads/t1", headers={"x-api-key": key})).status_code

        assert [await status() for _ in range(3)] == [200] * 3
        assert keys.reads == 1
        await keys.revoke(key[:12], clock.wall())
        assert await status() == 200
        clock.advance(FRESH_S)
        assert [await status() for _ in range(2)] == [401] * 2
        assert keys.reads == 2


async def test_many_requests_at_once_read_a_key_that_must_be_read_again_once(
    keys: CountedKeys, clock: FakeClock
) -> None:
    key, authority = await add_key(keys), KeyAuthority(keys, clock)
    async with serving(authority) as client:
        await client.get("/threads/t1", headers={"x-api-key": key})
        clock.advance(FRESH_S)
        answers = await asyncio.gather(*(client.get("/threads/t1", headers={"x-api-key": key}) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert keys.reads == 2


async def test_when_a_key_was_last_used_is_noted_to_the_minute(keys: CountedKeys, clock: FakeClock) -> None:
    key, authority = await add_key(keys), KeyAuthority(keys, clock)

    async def last_used() -> float | None:
        await asked(authority, X_Api_Key=key)
        await keys.charge(key[:12], "2023-11-14")  # is durable only after what was noted before
        return (await keys.list())[0].last_used_at

    first = clock.wall()
    assert await last_used() == first
    clock.advance(30)
    assert await last_used() == first
    clock.advance(31)
    assert await last_used() == first + 61


def test_keys_are_random_and_shown_nowhere_but_by_their_beginning() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(is_key(key) and len(key) == 49 and id_of(key) == key[:12] for key in made)
    assert not any(is_key(wrong) for wrong in ("", "plait_", f"{new_key()}\n", new_key().replace("plait_", "Plait_")))


# --- limits of keys ------------------------------------------------------------------------------------

GPT = Prices({"gpt": Price(input_usd=1.0, output_usd=10.0)})


async def refusal(limits: KeyLimits, caller: Caller) -> HTTPException:
    with pytest.raises(HTTPException) as caught:
        await limits.admit(caller)
    return caught.value


def caller_of(key: str) -> Caller:
    return Caller("ada", key_id=id_of(key))


async def test_runs_a_minute_are_bounded_in_every_minute(keys: CountedKeys, clock: FakeClock) -> None:
    caller, limits = caller_of(await add_key(keys, rpm=3)), KeyLimits(keys, clock)
    for _ in range(3):
        await limits.admit(caller)
        clock.advance(10)
    refused = await refusal(limits, caller)
    assert (refused.status_code, refused.headers) == (429, {"Retry-After": "30"})
    assert "3 of 3 runs a minute" in refused.detail
    clock.advance(29.5)
    assert (await refusal(limits, caller)).headers == {"Retry-After": "1"}
    clock.advance(0.5)
    await limits.admit(caller)
    assert (await refusal(limits, caller)).headers == {"Retry-After": "10"}


async def test_a_rate_below_one_a_minute_is_a_longer_wait(keys: CountedKeys, clock: FakeClock) -> None:
    caller, limits = caller_of(await add_key(keys, rpm=0.5)), KeyLimits(keys, clock)
    await limits.admit(caller)
    clock.advance(60)
    assert (await refusal(limits, caller)).headers == {"Retry-After": "60"}


async def test_runs_a_day_are_bounded_also_at_once_and_the_next_day_begins_anew(
    keys: CountedKeys, clock: FakeClock
) -> None:
    key = await add_key(keys, runs_per_day=5)
    limits = KeyLimits(keys, clock)
    found = await asyncio.gather(*(limits.admit(caller_of(key)) for _ in range(8)), return_exceptions=True)
    assert sum(each is None for each in found) == 5
    # The fake clock stands at 22:13:20 UTC.
    refused = await refusal(KeyLimits(keys, clock), caller_of(key))
    assert (refused.status_code, refused.headers) == (429, {"Retry-After": str(106 * 60 + 40)})
    assert "5 of 5 runs of this day (UTC)" in refused.detail
    assert "2023-11-15 00:00 UTC, in 107 min" in refused.detail
    clock.advance(106 * 60 + 40)
    await limits.admit(caller_of(key))


@pytest.mark.parametrize(
    ("limit", "shown"),
    [({"tokens_per_day": 150}, "150 of 150 tokens"), ({"usd_per_day": 0.0006}, "$0.0006 of $0.0006")],
)
async def test_tokens_and_dollars_are_counted_when_runs_are_over(
    limit: dict[str, Any], shown: str, keys: CountedKeys, clock: FakeClock
) -> None:
    key = await add_key(keys, **limit)
    limits = KeyLimits(keys, clock, prices=GPT)
    usage = Usage()
    usage.add_tokens("gpt", Tokens(input=100, output=50))
    await limits.admit(caller_of(key))
    await limits.admit(caller_of(key))
    await limits.charge(id_of(key), usage)
    refused = await refusal(limits, caller_of(key))
    assert (refused.status_code, "Retry-After" in (refused.headers or {})) == (429, True)
    assert shown in refused.detail
    used = await keys.used(id_of(key), "2023-11-14")
    assert (used.runs, used.tokens, round(used.usd, 6)) == (2, 150, 0.0006)


async def test_a_limit_in_dollars_lets_no_run_through_that_nobody_can_price(
    keys: CountedKeys, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    rich, free = await add_key(keys, usd_per_day=5), await add_key(keys, tokens_per_day=1000)
    limits = KeyLimits(keys, clock, prices=GPT)
    usage = Usage()
    usage.add_tokens("homemade", Tokens(input=10))
    for key in (rich, free):
        await limits.admit(caller_of(key))
        await limits.charge(id_of(key), usage)
    refused = await refusal(limits, caller_of(rich))
    assert (refused.status_code, "homemade has no price" in refused.detail) == (403, True)
    assert "no price for homemade" in caplog.text
    await limits.admit(caller_of(free))


async def test_runs_at_once_are_known_of_keys_that_were_used_or_loaded(keys: CountedKeys, clock: FakeClock) -> None:
    key, other = await add_key(keys, max_running=2), await add_key(keys, owner="bob", max_running=7)
    limits = KeyLimits(keys, clock)
    assert limits.max_running(id_of(key)) is None
    await limits.admit(caller_of(key))
    assert (limits.max_running(id_of(key)), limits.max_running(id_of(other))) == (2, None)
    await limits.load()
    assert (limits.max_running(id_of(other)), limits.max_running("")) == (7, None)


async def test_callers_without_a_key_have_no_limits(keys: CountedKeys, clock: FakeClock) -> None:
    limits = KeyLimits(keys, clock)
    await limits.admit(Caller("ada"))
    await limits.charge("", Usage())
    assert not await keys.list()


# --- the host's users ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("ada", "ada"),
        (7, "7"),
        (SimpleNamespace(identity="ada", id=3), "ada"),
        (SimpleNamespace(id=UUID(int=1)), str(UUID(int=1))),
        ({"sub": "auth0|1", "name": "Ada"}, "auth0|1"),
        ({"id": 12}, "12"),
    ],
)
async def test_the_hosts_user_is_the_caller_whatever_shape_it_has(user: object, identity: str) -> None:
    found = (await asked(HostAuthority(), user=user)).json()
    assert (found["identity"], found["user"]) == (identity, identity)
    assert await HostAuthority().authorize(Caller(identity), "threads", "read", {}) == Access(owner=identity)


@pytest.mark.parametrize(
    "user", [NOBODY, None, "", {"sub": ""}, {"id": None}, SimpleNamespace(is_authenticated=False, identity="x")]
)
async def test_without_a_user_of_the_host_nobody_gets_in(user: object) -> None:
    assert (await asked(HostAuthority(), user=user)).status_code == 401


@pytest.mark.parametrize("user", [{"name": "Ada"}, SimpleNamespace(), {"id": ["a"]}, True])
async def test_a_user_that_cannot_be_told_from_others_is_the_hosts_mistake(user: object) -> None:
    answer = await asked(HostAuthority(), user=user)
    assert answer.status_code == 500
    assert "owner=Depends(...)" in answer.json()["detail"]


async def test_a_user_with_an_identity_reaches_nodes_as_the_hosts_own_object() -> None:
    user = SimpleNamespace(identity="ada", team="a")
    caller = await HostAuthority().authenticate(noting(user))
    assert caller.user is user


def noting(user: object) -> Request:
    request = Request({"type": "http", "headers": [], "client": None, "path": "/"})
    note_user(request, user)
    return request


# --- an app's Auth -------------------------------------------------------------------------------------


def auth_of(found: object) -> Auth:
    """An Auth whose authenticate function returns this, or raises it."""
    auth = Auth()

    @auth.authenticate
    async def authenticate() -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    return auth


async def test_authenticate_gets_the_parameters_it_names() -> None:
    auth, seen = Auth(), {}

    @auth.authenticate
    async def authenticate(
        request: Request,
        body: dict[str, object],
        path: str,
        method: str,
        path_params: dict[str, str],
        query_params: dict[str, str],
        headers: dict[bytes, bytes],
        authorization: str | None,
        other: str = "default",
    ) -> str:
        seen.update(locals())
        return "ada"

    async with serving(HandlerAuthority(auth)) as client:
        answer = await client.post("/threads/t1?a=b", json={"input": 1}, headers={"Authorization": "Bearer me"})
    assert answer.json()["identity"] == "ada"
    assert isinstance(seen["request"], Request)
    assert seen["headers"][b"authorization"] == b"Bearer me"
    wanted = ("body", "path", "method", "path_params", "query_params", "authorization", "other")
    assert [seen[name] for name in wanted] == [
        {"input": 1}, "/threads/t1", "POST", {"thread_id": "t1"}, {"a": "b"}, "Bearer me", "default",
    ]  # fmt: skip


async def test_authenticate_may_be_a_plain_function_that_blocks() -> None:
    auth = Auth()

    @auth.authenticate  # type: ignore[type-var]
    def authenticate(authorization: str | None, body: dict[str, object]) -> dict[str, object]:
        subprocess.run(["true"], check=True)  # the loop's thread would refuse it
        assert authorization is None
        assert body == {}
        return {"identity": "ada", "permissions": ["read", "write"]}

    found = (await asked(HandlerAuthority(auth))).json()
    assert (found["identity"], found["permissions"]) == ("ada", ["read", "write"])


@pytest.mark.parametrize(
    ("raised", "status", "detail"),
    [
        (Auth.exceptions.HTTPException(detail="no such token"), 401, "no such token"),
        (Auth.exceptions.HTTPException(status_code=418), 418, "I'm a Teapot"),
        (HTTPException(402, "pay first"), 402, "pay first"),
        (AssertionError("bearer only"), 401, "bearer only"),
        (KeyError("secret"), 500, "the app's Auth failed in authenticate (KeyError): see the server's log"),
        (None, 401, "the app's authenticate function knows no user of this request: sign in"),
    ],
)
async def test_who_is_not_known_is_refused_as_the_app_says(raised: object, status: int, detail: str) -> None:
    answer = await asked(HandlerAuthority(auth_of(raised)))
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)


async def test_a_user_that_has_no_identity_is_a_failure_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await asked(HandlerAuthority(auth_of({"id": "ada"})))
    assert answer.status_code == 500
    assert "'identity'" in caplog.text


async def test_an_auth_that_only_authenticates_keeps_callers_apart() -> None:
    authority = HandlerAuthority(auth_of("ada"))
    assert await authority.authorize(Caller("ada"), "threads", "search", {}) == Access(owner="ada")


async def test_the_most_specific_function_decides() -> None:
    auth = auth_of("ada")
    names = (("threads", "create"), ("threads", None), (None, "create"), (None, None))
    for resource, action in names:

        @auth.on(resources=resource, actions=action)
        async def rule(
            ctx: Auth.types.AuthContext, value: object, name: str = f"{resource}.{action}"
        ) -> dict[str, str]:
            return {"rule": f"{name} for {ctx.resource}.{ctx.action}"}

    authority = HandlerAuthority(auth)

    async def decided(resource: Any, action: Any) -> object:
        return (await authority.authorize(Caller("ada"), resource, action, {})).filters["rule"]

    assert await decided("threads", "create") == "threads.create for threads.create"
    assert await decided("threads", "read") == "threads.None for threads.read"
    assert await decided("assistants", "create") == "None.create for assistants.create"
    assert await decided("store", "put") == "None.None for store.put"


async def test_what_no_function_is_for_is_let_through() -> None:
    auth = auth_of("ada")

    @auth.on.threads.delete
    async def rule(ctx: Auth.types.AuthContext, value: object) -> bool:
        return False

    assert await HandlerAuthority(auth).authorize(Caller("ada"), "threads", "read", {}) == EVERYTHING


@pytest.mark.parametrize(
    ("found", "access"),
    [
        (None, EVERYTHING),
        (True, EVERYTHING),
        ({"owner": "ada"}, Access(filters={"owner": "ada"})),
        ({"team": {"$contains": ["a"]}}, Access(filters={"team": {"$contains": ["a"]}})),
        ({"a": "b", "c": {"$eq": "d"}}, Access(filters={"a": "b", "c": {"$eq": "d"}})),
    ],
)
async def test_what_a_function_returns_is_what_may_be_seen(found: Any, access: Access) -> None:
    assert await ruled(found).authorize(Caller("ada"), "threads", "read", {}) == access


def ruled(found: Any) -> HandlerAuthority:
    auth = auth_of("ada")

    @auth.on
    async def rule(ctx: Auth.types.AuthContext, value: object) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    return HandlerAuthority(auth)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (False, 403),
        (AssertionError("not yours"), 403),
        (Auth.exceptions.HTTPException(status_code=404), 404),
        (ValueError("bug"), 500),
        ("ada", 500),
        ({"owner": {"$ne": "ada"}}, 500),
        ({"owner": {}}, 500),
        ({1: "ada"}, 500),
        (0, 500),
    ],
)
async def test_anything_else_lets_nothing_through(found: Any, status: int) -> None:
    with pytest.raises(HTTPException) as caught:
        await ruled(found).authorize(Caller("ada"), "threads", "read", {})
    assert caught.value.status_code == status


async def test_a_function_knows_the_user_and_may_change_what_is_asked_for() -> None:
    auth = auth_of({"identity": "ada", "permissions": ["threads:write"], "org": "math"})

    @auth.on.threads.create
    async def rule(ctx: Auth.types.AuthContext, value: Auth.types.ThreadsCreate) -> None:
        user: Any = ctx.user
        assert (ctx.permissions, user["org"], user.org, "org" in user) == (["threads:write"], "math", "math", True)
        value.setdefault("metadata", {})["owner"] = user.identity

    authority = HandlerAuthority(auth)
    caller = await authority.authenticate(noting(None))
    value: dict[str, object] = {}
    assert await authority.authorize(caller, "threads", "create", value) == EVERYTHING
    assert value == {"metadata": {"owner": "ada"}}


async def test_the_documented_auth_keeps_users_apart() -> None:
    names: dict[str, Any] = {}
    code = re.search(r'^```python title="auth.py"\n(.*?)^```$', AUTH_PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert code is not None
    exec(code[1], names)
    authority = HandlerAuthority(names["auth"])
    assert (await asked(authority)).json()["detail"] == "expected a token"
    assert (await asked(authority, Authorization="Bearer token-of-bob")).json()["identity"] == "bob"
    value: dict[str, object] = {}
    ada = Caller("ada")
    assert await authority.authorize(ada, "threads", "create", value) == Access(filters={"owner": "ada"})
    assert value == {"metadata": {"owner": "ada"}}
    with pytest.raises(HTTPException, match="403"):
        await authority.authorize(ada, "threads", "delete", {})


def test_an_auth_that_cannot_be_asked_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match=r"@auth\.authenticate, found none"):
        HandlerAuthority(Auth())
    auth = Auth()

    @auth.authenticate
    async def authenticate(token: str) -> str:
        return token

    with pytest.raises(ValueError, match="found 'token'"):
        HandlerAuthority(auth)


def test_a_user_is_langgraphs_kind_of_user_and_plain_json() -> None:
    user = known_user({"identity": "ada", "org": "math"})
    assert isinstance(user, KnownUser)
    assert isinstance(user, Auth.types.BaseUser)
    assert json.loads(json.dumps(dict(user))) == {
        "identity": "ada", "org": "math", "display_name": "ada", "is_authenticated": True, "permissions": [],
    }  # fmt: skip
    with pytest.raises(AttributeError, match="no 'team'"):
        _ = user.team
    with pytest.raises(KeyError):
        _ = KnownUser("ada", SimpleNamespace(_secret=1))["_secret"]


class Text(TypedDict):
    text: str


async def test_nodes_find_the_user_and_a_remote_graph_among_them_does_not_forward_it() -> None:
    from langgraph.graph import END, START, StateGraph
    from langgraph.pregel.remote import RemoteGraph
    from langgraph.runtime import Runtime

    seen: dict[str, Any] = {}

    def node(state: Text, config: RunnableConfig, runtime: Runtime) -> Text:
        assert runtime.server_info is not None
        seen.update(user=runtime.server_info.user)
        remote = RemoteGraph("story", url="http://127.0.0.1:9")
        seen.update(sent=remote._sanitize_config(config).get("configurable"))
        return {"text": ""}

    graph = StateGraph(Text)
    graph.add_node("node", cast("Any", node))  # it may take both a config and a runtime
    graph.add_edge(START, "node").add_edge("node", END)
    user = KnownUser("ada", {"org": "math"})
    set_by_service = {"thread_id": "t", "langgraph_auth_user": user, "langgraph_auth_user_id": "ada"}
    await graph.compile().ainvoke({"text": ""}, {"configurable": {"tone": "kind", **set_by_service}})
    assert (seen["user"].identity, seen["user"]["org"]) == ("ada", "math")
    assert seen["sent"]["langgraph_auth_user_id"] == "ada"
    assert checked_configurable(seen["sent"]) == {"tone": "kind"}


# --- which of them -------------------------------------------------------------------------------------


def app_at(folder: Path, **section: object) -> App:
    file = folder / "langgraph.json"
    file.write_text(json.dumps({"dependencies": ["."], "graphs": {"a": "./a.py:graph"}, **section}))
    return find_app(folder)


async def test_a_service_is_open_until_it_has_a_key_and_not_again_when_the_last_one_ended(
    tmp_path: Path, keys: CountedKeys, clock: FakeClock
) -> None:
    app = await asyncio.to_thread(app_at, tmp_path)
    assert isinstance(await authority_for(app, keys, clock), OpenAuthority)
    assert isinstance(await authority_for(app, keys, clock, require_keys=True), KeyAuthority)
    await add_key(keys, revoked_at=1.0, expires_at=1.0)
    assert isinstance(await authority_for(app, keys, clock), KeyAuthority)


async def test_keys_are_not_asked_for_beside_the_apps_own_auth(
    tmp_path: Path, keys: CountedKeys, clock: FakeClock
) -> None:
    app = await asyncio.to_thread(app_at, tmp_path, auth={"path": "./auth.py:auth", "disable_studio_auth": True})
    with pytest.raises(SettingsError, match="--auth keys"):
        await authority_for(app, keys, clock, require_keys=True)


@pytest.mark.parametrize(
    ("auth", "found"),
    [
        ("./auth.py:auth", "expected an object such as"),
        ([], "found a list"),
        ({}, '"path": expected text'),
        ({"path": 5}, "found a number"),
        ({"path": ""}, "found nothing"),
        (False, "found a boolean"),
    ],
)
def test_an_auth_in_langgraph_json_that_cannot_be_meant_is_never_overlooked(
    auth: object, found: str, tmp_path: Path
) -> None:
    with pytest.raises(AppError) as caught:
        app_at(tmp_path, auth=auth)
    assert str(caught.value).startswith(f'{tmp_path / "langgraph.json"}: "auth":')
    assert found in str(caught.value)


LOADS = """
import asyncio, json, sys
from pathlib import Path
from plait.app import App
from plait.errors import AppError
from plait.flow.clock import SystemClock
from plait.service.auth.authorities import authority_for

async def load(path):
    root = Path(sys.argv[1])
    app = App(root / "langgraph.json", root, {}, import_folders=(root,), auth={"path": path})
    try:
        return type(await authority_for(app, None, SystemClock())).__name__
    except AppError as error:
        return str(error)

print(json.dumps([asyncio.run(load(path)) for path in sys.argv[2:]]))
"""


def test_the_apps_auth_is_loaded_from_its_folder_and_from_nowhere_else(tmp_path: Path) -> None:
    source = "from langgraph_sdk import Auth\nauth, empty, text = Auth(), Auth(), 'x'\n"
    source += "@auth.authenticate\nasync def who(authorization): return 'ada'\n"
    (tmp_path / "my_auth.py").write_text(source)
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    expected = {
        "./my_auth.py:auth": "HandlerAuthority",
        "my_auth:auth": "HandlerAuthority",
        "./my_auth.py:text": "to be a langgraph_sdk.Auth, found str",
        "./my_auth.py:nothing": "to be a langgraph_sdk.Auth, found nothing",
        "./my_auth.py:empty": "@auth.authenticate, found none",
        "./broken.py:auth": "no_such_module",
        "./gone.py:auth": "expected a file",
        "../my_auth.py:auth": "expected a path inside",
        "no colon": "expected 'package.module:variable'",
    }
    words = [sys.executable, "-c", LOADS, str(tmp_path), *expected]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for path, found in zip(expected, json.loads(done.stdout), strict=True):
        assert expected[path] in found, (path, found)


# --- configurable --------------------------------------------------------------------------------------


def test_what_unchanged_clients_send_of_a_parents_run_is_left_out() -> None:
    sent: Mapping[str, object] = {
        "tone": "kind",
        "user_id": "mine",
        "thread_id": "t",
        "run_id": "r",
        "assistant_id": "a",
        "graph_id": "g",
        "checkpoint_id": "c",
        "checkpoint_ns": "",
        "checkpoint_map": {},
        "__pregel_resuming": True,
        "__request_start_time_ms__": 5,
        "langgraph_auth_user": None,
        "langgraph_auth_user_id": "",
        "langgraph_auth_permissions": [],
        "langgraph_request_id": "q",
    }
    assert checked_configurable(sent) == {"tone": "kind", "user_id": "mine"}


@pytest.mark.parametrize("user", ["root", {"identity": "root"}, {}, 0, False])
def test_a_client_that_says_who_the_user_is_is_refused(user: object) -> None:
    with pytest.raises(HTTPException) as caught:
        checked_configurable({"tone": "kind", "langgraph_auth_user": user})
    assert caught.value.status_code == 400
    assert "langgraph_auth_user is set by the service" in caught.value.detail
    assert "thread_id" in caught.value.detail


@given(st.dictionaries(st.text(), st.integers()))
def test_no_reserved_key_is_ever_left(sent: dict[str, int]) -> None:
    sent = {key: value for key, value in sent.items() if key != "langgraph_auth_user"}
    kept = checked_configurable({**sent, "__pregel_send": 1})
    assert kept.items() <= sent.items()
    assert not any(key.startswith(("__", "checkpoint_", "langgraph_")) or key == "thread_id" for key in kept)

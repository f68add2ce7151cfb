"""A web page of somebody else cannot use a service that asks nobody who they are, by any name or kind of request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import Depends, FastAPI

from plait.service import ServiceOptions, create_router
from plait.service.auth.pages import refusal
from plait.store.service import ServiceStore
from tests.service_api import APP
from tests.serving import listening, served, settings_in
from tests.test_service_isolation import added_key, signed_in

RUN = b'{"assistant_id": "steps", "input": {}}'
EVIL = "http://evil.example"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(APP, settings=settings_in(tmp_path_factory.mktemp("open"))) as found:
        yield found.url


@pytest.mark.parametrize("path", ["/", "/ok", "/runs/recent", "/threads/search"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8123", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.4"])
def test_a_name_that_is_pointed_at_this_machine_gets_no_answer(url: str, path: str, host: str) -> None:
    answer = httpx.request("POST" if "search" in path else "GET", f"{url}{path}", headers={"host": host})
    assert (answer.status_code, "--allow-host" in answer.json()["detail"]) == (421, True)


@pytest.mark.parametrize(
    "host", ["localhost:1", "LOCALHOST.", "127.0.0.1", "127.1.2.3:80", "[::1]:8123", "a.localhost"]
)
def test_this_machines_own_names_are_answered(url: str, host: str) -> None:
    assert httpx.get(f"{url}/runs/recent", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost.evil.example", "https://127.0.0.1.evil.example"])
@pytest.mark.parametrize("kind", [None, "text/plain", "application/json"])
def test_a_page_of_another_origin_begins_no_run_with_any_kind_of_request(
    url: str, origin: str, kind: str | None
) -> None:
    headers = {"origin": origin} | ({"content-type": kind} if kind else {})
    answer = httpx.post(f"{url}/runs", content=RUN, headers=headers)
    assert (answer.status_code, "--cors-origin" in answer.json()["detail"]) == (403, True)
    assert "access-control-allow-origin" not in answer.headers
    assert httpx.get(f"{url}/runs/recent").json() == {"runs": []}


def test_pages_of_this_machine_and_programs_may_begin_runs(url: str) -> None:
    for headers in ({}, {"origin": "http://localhost:3000"}, {"origin": url}):
        answer = httpx.post(f"{url}/threads", json={}, headers=headers)
        assert answer.status_code == 200, answer.text


def test_the_operator_may_allow_names_and_pages() -> None:
    sent = httpx.Headers({"host": "plait.internal:8123", "origin": EVIL})
    allowed = {"hosts": ("local", "plait.internal"), "origins": ("local", EVIL)}
    assert refusal("POST", sent, **allowed) is None  # type: ignore[arg-type]
    assert refusal("POST", sent, hosts=("*",), origins=("*",)) is None  # type: ignore[arg-type]
    assert (refusal("POST", sent, hosts=("local",), origins=("*",)) or (0,))[0] == 421  # type: ignore[arg-type]
    assert (refusal("POST", sent, hosts=("*",), origins=("local",)) or (0,))[0] == 403  # type: ignore[arg-type]


async def test_a_service_with_keys_is_answered_under_any_name(tmp_path: Path) -> None:
    key = await added_key(tmp_path / "service.db", "ada")
    with served(APP, settings=settings_in(tmp_path)) as found:
        async with httpx.AsyncClient(base_url=found.url, headers={"host": "plait.example", "x-api-key": key}) as client:
            assert (await client.get("/runs/recent")).status_code == 200
            assert (await client.post("/threads", json={}, headers={"origin": EVIL})).status_code == 200
    async with ServiceStore(tmp_path / "service.db") as store:
        assert await store.threads.count() == 1


def test_a_body_that_a_page_sends_unasked_is_not_read_where_a_cookie_says_who_it_is(tmp_path: Path) -> None:
    app = FastAPI()
    settings = settings_in(tmp_path)
    app.include_router(
        create_router(APP, owner=Depends(signed_in), settings=settings, options=ServiceOptions(grace_s=0.2))
    )
    with listening(app, settings=settings) as found:
        for kind, status in ((None, 415), ("text/plain", 415), ("application/json", 200)):
            headers = {"x-user": "ada", "origin": EVIL} | ({"content-type": kind} if kind else {})
            assert httpx.post(f"{found.url}/runs", content=RUN, headers=headers).status_code == status

"""Tests the page at `/` as people meet it: in Chromium, from a server, with a simulated provider behind it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from blockbuster import BlockBuster
from fastapi import FastAPI
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from plait.service import create_app, create_router
from plait.settings import Settings
from plait.simulator import Profile, Simulator, running, scripted
from plait.store.service import ServiceStore
from plait.store.service.key_texts import digest_of, id_of, new_key
from plait.store.service.records import KeyRecord
from tests.report_data import FLAGS
from tests.serving import listening, settings_in

Open = Callable[..., Page]
T = TypeVar("T")
ROOT = Path(__file__).parents[1]
STATES = ROOT / "tests" / "apps" / "service_app" / "states.py"
EVIL = "<img src=x onerror='document.title=1'><b>bold</b>"
APP = {
    "dependencies": ["."],
    "graphs": {
        "stories": {"path": "graphs.stories:graph", "description": "Write several stories at once"},
        "ask": "graphs.ask:graph",
        "approve": "./page_states.py:approve",
        "broken": "./page_states.py:broken",
        "gone": "./nothing.py:graph",
    },
}


class Relay:
    """Stands between the page and the server, and can hang up."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        server = self._do(asyncio.start_server(self._pass_on, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def cut(self) -> None:
        """Break every connection."""

        async def hang_up() -> None:
            for writer in self._open:
                writer.transport.abort()

        self._do(hang_up())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(5)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, server = await asyncio.open_connection("127.0.0.1", self._port)
        self._open |= {writer, server}
        await asyncio.gather(_copy(reader, server), _copy(upstream, writer), return_exceptions=True)
        self._open -= {writer, server}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.close()


@pytest.fixture(autouse=True)
def blocking_calls(no_blocking_calls: BlockBuster) -> None:
    """Playwright's synchronous half keeps a loop of its own under these tests, which block on purpose."""
    no_blocking_calls.deactivate()


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    # A page on a busy machine takes its time.
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture(scope="module")
def provider() -> Generator[Simulator]:
    """Writes for a minute about what is endless, says something evil about evil."""
    rules = [
        ("numbers", " ".join(f"n{number}" for number in range(60))),
        ("endless", "on and " * 1000),
        ("evil", EVIL),
        ("about (a|the) (?P<what>[^.]+)", r"Once upon \g<what>."),
    ]
    with running(Profile(ttft_s=0.05, gap_s=0.05), answer=scripted(rules)) as found:
        yield found


@pytest.fixture(scope="module")
def settings(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_in(tmp_path_factory.mktemp("home"), base_url=provider.base_url)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    # Under a name of its own: this process may have loaded the other app, whose modules are called the same.
    shutil.copy(STATES, folder / "page_states.py")
    (folder / "langgraph.json").write_text(json.dumps(APP))
    return folder


@pytest.fixture(scope="module")
def url(app: Path, settings: Settings) -> Generator[str]:
    with listening(create_app(app, settings=settings), settings=settings) as found:
        yield found.url


@pytest.fixture
def relay(url: str) -> Generator[Relay]:
    with Relay(url) as found:
        yield found


@pytest.fixture
def open_page(browser: Browser, url: str) -> Generator[Open]:
    """Opens a workflow; a page that logs an error, breaks its policy or asks another host fails the test."""
    contexts, wrong = [], []

    def open_it(
        workflow: str = "", *, at: str = url, width: int = 1280, scheme: Literal["light", "dark"] = "light"
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if _is_wrong(message.text) else None)
        page.on("request", lambda request: None if request.url.startswith(at) else wrong.append(request.url))
        page.goto(f"{at}/#/workflows/{workflow}")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not wrong


def _is_wrong(text: str) -> bool:
    # Chromium logs every answer that is an error; those are looked at on the page.
    return not text.startswith("Failed to load resource")


def elsewhere(work: Coroutine[Any, Any, None]) -> None:
    """Playwright has a loop in this thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def run_of(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=f"Run of {name}")


def status_of(page: Page, name: str) -> Locator:
    return run_of(page, name).get_by_role("status")


def serious(page: Page) -> list[object]:
    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}]


def test_three_streams_fill_at_once_and_stop_when_the_run_is_cancelled(open_page: Open, provider: Simulator) -> None:
    page = open_page("stories")
    topics = page.get_by_label("topics")
    topics.fill("an endless night\nan endless road\nan endless winter")
    topics.press("Control+Enter")
    panes = page.locator(".pane")
    expect(panes.locator("h3")).to_have_text(["an endless night", "an endless road", "an endless winter"])
    before = []
    for number in range(3):
        expect(panes.nth(number).locator(".stream")).to_contain_text("on and on")
        before.append(panes.nth(number).locator(".stream").inner_text())
    for number in range(3):
        expect(panes.nth(number).locator(".stream")).not_to_have_text(before[number])
    assert provider.in_flight == 3
    assert status_of(page, "stories").inner_text() == "running"
    expect(run_of(page, "stories").get_by_label("Nodes and their states")).to_contain_text("running 3 of 3")
    run_of(page, "stories").get_by_role("button", name="Cancel").click()
    expect(status_of(page, "stories")).to_have_text("cancelled")
    elsewhere(provider.idle())
    expect(panes.locator(".state")).to_have_text(["stopped"] * 3)
    expect(page.locator("#recents li").first).to_contain_text("cancelled")


def test_a_page_that_is_closed_pays_for_nothing_more(open_page: Open, provider: Simulator) -> None:
    page = open_page("stories")
    page.get_by_label("topics").fill("an endless summer")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".stream")).to_contain_text("on and on")
    assert provider.in_flight == 1
    page.close()
    elsewhere(provider.idle())


def test_results_stand_in_order_with_what_they_took_and_can_be_opened_again(open_page: Open) -> None:
    page = open_page("stories")
    page.get_by_label("topics").fill("the sea\nthe evil\nthe moon")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(status_of(page, "stories")).to_have_text("success")
    results = run_of(page, "stories").get_by_role("region", name="Results").locator(".values > li")
    expect(results).to_have_count(3)
    told = results.all_inner_texts()
    assert all(topic in text for topic, text in zip(["the sea", EVIL, "the moon"], told, strict=True))
    assert page.locator("#main img").count() == 0
    expect(run_of(page, "stories").locator(".bar")).to_contain_text("3 model calls")
    times = run_of(page, "stories").get_by_role("row", name=re.compile("^write"))
    expect(times).to_contain_text("streaming")
    expect(page.locator("#limits")).to_contain_text("in flight")
    where = page.url
    page.reload()
    assert page.url == where
    expect(status_of(page, "stories")).to_have_text("success")
    assert results.all_inner_texts() == told
    page.get_by_text("Inputs", exact=True).click()
    expect(page.locator(".given")).to_contain_text("the moon")
    page.get_by_role("button", name="Use these again").click()
    assert page.get_by_label("topics").input_value() == "the sea\nthe evil\nthe moon"
    assert page.locator(".pane").count() == 3


def test_a_run_of_somebody_else_is_joined_while_it_runs(open_page: Open, url: str, provider: Simulator) -> None:
    with httpx.Client(base_url=url, timeout=30) as client:
        thread = client.post("/threads", json={}).json()["thread_id"]
        body = {
            "assistant_id": "stories",
            "input": {"topics": ["an endless day"]},
            "stream_mode": ["plait"],
            "stream_resumable": True,
        }
        assert client.post(f"/threads/{thread}/runs", json=body).status_code == 200
    page = open_page("ask")
    expect(page.get_by_role("heading", name="ask")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.get_by_role("heading", name="ask")).to_be_visible()
    recent = page.locator("#recents li").first
    expect(recent).to_contain_text("running")
    recent.get_by_role("link").click()
    expect(page.locator(".stream")).to_contain_text("on and on")
    page.locator("#recents li").first.get_by_role("button", name="Cancel").click()
    expect(status_of(page, "stories")).to_have_text("cancelled")
    elsewhere(provider.idle())


def test_a_broken_connection_loses_and_repeats_nothing(open_page: Open, relay: Relay) -> None:
    page = open_page("stories", at=relay.url)
    page.get_by_label("topics").fill("the numbers")
    page.get_by_text("Options").click()
    page.get_by_label("keep running when this page is closed").check()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".stream")).to_contain_text("n9")
    relay.cut()
    expect(page.locator(".stream")).to_contain_text("n30")
    relay.cut()
    expect(status_of(page, "stories")).to_have_text("success")
    assert page.locator(".stream").inner_text() == " ".join(f"n{number}" for number in range(60))


def test_what_is_wrong_in_a_form_is_said_before_anything_runs(open_page: Open, provider: Simulator) -> None:
    page = open_page("stories")
    received = provider.counters.received
    page.get_by_label("words").fill("5")
    page.get_by_role("button", name="Run", exact=True).click()
    topics = page.get_by_label("topics")
    expect(topics).to_be_focused()
    expect(topics).to_have_attribute("aria-invalid", "true")
    assert page.locator(".wrong:visible").all_inner_texts() == ["expected a value", "expected at least 10, found 5"]
    topics.fill("the sea")
    page.get_by_label("words").fill("20")
    assert page.locator(".wrong:visible").count() == 0
    page.get_by_role("navigation").get_by_role("link", name="ask").click()
    questions = page.get_by_label("questions")
    questions.fill('{"name": ')
    expect(page.locator(".wrong:visible")).to_contain_text("expected JSON")
    questions.fill("[]")
    expect(page.locator(".wrong:visible")).to_contain_text("expected an object")
    page.get_by_role("navigation").get_by_role("link", name="gone").click()
    expect(page.locator("#main .problem")).to_contain_text("nothing.py")
    page.get_by_role("navigation").get_by_role("link", name="stories").click()
    assert topics.input_value() == "the sea"
    assert run_of(page, "stories").count() == 0
    assert provider.counters.received == received


def test_an_interrupt_is_answered_and_an_error_says_why(open_page: Open) -> None:
    page = open_page("approve")
    page.get_by_label("text", exact=True).fill("hello")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(status_of(page, "approve")).to_have_text("waiting for an answer")
    answer = page.get_by_role("form", name="Answer")
    expect(answer).to_contain_text("publish?")
    expect(run_of(page, "approve").get_by_label("Nodes and their states")).to_contain_text("publish not run")
    expect(page.locator("#recents li").first).to_contain_text("waits for an answer")
    answer.get_by_label("Your answer").fill("true")
    answer.get_by_role("button", name="Resume").click()
    expect(status_of(page, "approve")).to_have_text("success")
    expect(run_of(page, "approve").get_by_role("region", name="Results")).to_contain_text("published")
    page.get_by_role("navigation").get_by_role("link", name="broken").click()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(status_of(page, "broken")).to_have_text("error")
    expect(run_of(page, "broken").get_by_role("alert")).to_contain_text("this graph always fails")
    expect(run_of(page, "broken").get_by_label("Nodes and their states")).to_contain_text("fail failed")


def test_a_server_that_wants_a_key_is_given_one(open_page: Open, app: Path, settings: Settings, tmp_path: Path) -> None:
    key, file = new_key(), tmp_path / "service.db"
    elsewhere(_keep(file, KeyRecord(id_of(key), digest_of(key), owner="ana", created_at=time.time())))
    made = create_app(app, settings=settings, store=file, require_keys=True)
    with listening(made) as server:
        page = open_page("approve", at=server.url)
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        assert page.locator("#frame").is_hidden()
        field.fill(new_key())
        field.press("Enter")
        expect(page.locator("#key-words")).to_contain_text("not accepted")
        field.fill(key)
        field.press("Enter")
        expect(page.get_by_role("heading", name="approve")).to_be_visible()
        expect(field).to_be_hidden()
        page.reload()
        expect(page.get_by_role("heading", name="approve")).to_be_visible()
        assert page.evaluate("() => JSON.stringify([{...localStorage}, document.cookie])") == '[{},""]'
        page.get_by_role("button", name="Forget").click()
        expect(field).to_be_visible()


async def _keep(file: Path, record: KeyRecord) -> None:
    async with ServiceStore(file) as store:
        await store.keys.create(record)


def test_it_fits_a_phone_and_axe_finds_nothing_serious(open_page: Open) -> None:
    for width, scheme in ((1280, "dark"), (390, "light")):
        page = open_page("stories", width=width, scheme=scheme)
        page.get_by_text("Options").click()
        page.get_by_label("topics").fill(f"the sea\nthe {'w' * 80}")
        page.get_by_role("button", name="Run", exact=True).click()
        expect(status_of(page, "stories")).to_have_text("success")
        expect(page.locator("#recents li").first).to_contain_text("done")
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        assert serious(page) == []


def test_it_works_under_a_prefix_and_its_files_are_checked_anew(
    open_page: Open, app: Path, settings: Settings, tmp_path: Path
) -> None:
    made = FastAPI()
    made.include_router(create_router(app, settings=settings, store=tmp_path / "service.db"), prefix="/plait")
    with listening(made) as server:
        page = open_page("approve", at=f"{server.url}/plait")
        page.get_by_label("text", exact=True).fill("hello")
        page.get_by_label("text", exact=True).press("Control+Enter")
        expect(status_of(page, "approve")).to_have_text("waiting for an answer")
        with httpx.Client(base_url=f"{server.url}/plait") as client:
            first = client.get("/page/page.css")
            assert first.headers["content-type"] == "text/css; charset=utf-8"
            again = client.get("/page/page.css", headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            policy = client.get("/").headers["content-security-policy"]
            assert policy.startswith("default-src 'none'")
            assert "unsafe" not in policy
            for name in ("nothing.js", "index.html", "..%2Fproblems.py", "%2e%2e/problems.py"):
                assert client.get(f"/page/{name}").status_code == 404


def test_every_file_of_the_page_is_served() -> None:
    from plait.service.routes.pages import _TYPES

    assert {file.name for file in (ROOT / "src" / "plait" / "service" / "page").iterdir()} == set(_TYPES)

"""The service under fire, in a short form: servers killed and drained, clients gone, streams resumed, bad input.

`make reliability` runs the full form; its figures are in docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from plait.app import find_app
from plait.service.options import ServiceOptions
from plait.service.running.requests import Part
from plait.service.services import Service
from plait.simulator import Behaviour, Body, Profile, Simulator, running
from plait.simulator.prompts import last_user_message
from plait.store.service.records import EVERYTHING
from tests.reliability.service_checks import Calls, all_over, runs_in
from tests.reliability.service_graphs import CALLS
from tests.reliability.service_kills import Plan, kill_servers
from tests.reliability.service_processes import PATIENCE_S, Servers, until
from tests.serving import served, settings_in
from tests.test_service_runs import asking

STOCK = find_app(Path(__file__).parent.parent)
SMALL = find_app(Path(__file__).parent / "apps" / "service_app")
SEED = 7


# --- killed ------------------------------------------------------------------------------------------


def test_no_run_is_forgotten_or_paid_again_when_its_server_is_killed(tmp_path: Path) -> None:
    # The first kill leaves one of two servers, which takes over; the second leaves none, until another one starts.
    figures = kill_servers(tmp_path, Plan(runs=24, seed=SEED, kills=2, servers=2, keep=1))
    assert figures.kills == 2
    assert figures.statuses["success"] == figures.runs >= 24
    assert figures.events > 0


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with running() as provider, Servers(tmp_path, provider, "--grace", "1h") as found:
        yield found


async def test_a_server_that_ends_finishes_what_it_can_and_leaves_the_rest_for_the_next_start(servers: Servers) -> None:
    calls, provider = Calls(), servers.provider
    ending, lasting = asyncio.Event(), asyncio.Event()

    def behave(body: Body, number: int) -> Behaviour | None:
        calls.note(body, number)
        return Behaviour(hold=lasting if "topic-00002" in last_user_message(body) else ending)

    provider.answer, provider.behave = calls.answer, behave
    first = await asyncio.to_thread(servers.start)
    async with httpx.AsyncClient(base_url=first.url, timeout=PATIENCE_S) as client:
        thread = str(uuid4())
        waiting = asyncio.create_task(client.post(f"/threads/{thread}/runs/wait", json=turn(0)))
        await provider.arrived(1)
        (await client.post(f"/threads/{thread}/runs", json=turn(1))).raise_for_status()  # behind it
        (await client.post(f"/threads/{uuid4()}/runs", json=turn(2))).raise_for_status()
        await provider.arrived(2)
        first.signal(signal.SIGTERM)
        refused = await refusal(client)
        assert int(refused.headers["retry-after"]) >= 1
        assert "shutting down" in refused.json()["detail"]
        provider.release(ending)
        assert (await waiting).json()["told"] == ["Tell topic-00000 answer-topic-00000"]
    first.signal(signal.SIGTERM)  # a second time: what still runs is parked at once
    code = await asyncio.to_thread(servers.end, first)
    assert code == 0, first.log()
    found = {run.topic: (run.status, run.attempt) for run in await asyncio.to_thread(runs_in, servers.address)}
    assert found["topic-00000"] == ("success", 1)
    assert found["topic-00001"] == found["topic-00002"] == ("pending", 0)
    assert calls.asked == {"topic-00000": CALLS, "topic-00002": 1}

    provider.release(lasting)
    await asyncio.to_thread(servers.start)
    await until(lambda: asyncio.to_thread(all_over, servers.address))
    assert {run.status for run in await asyncio.to_thread(runs_in, servers.address)} == {"success"}
    assert calls.asked == {"topic-00000": CALLS, "topic-00001": CALLS, "topic-00002": CALLS + 1}


def turn(number: int) -> dict[str, object]:
    return {"assistant_id": "turns", "input": {"topic": f"topic-{number:05d}"}, "if_not_exists": "create"}


async def refusal(client: httpx.AsyncClient) -> httpx.Response:
    """What a server that drains answers to who asks for a run; before that its thread is missed."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await client.post(f"/threads/{uuid4()}/runs", json={"assistant_id": "turns"})
            if answer.status_code == 503:
                return answer
            assert answer.status_code == 404


async def test_a_server_whose_run_was_taken_over_does_not_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "plait.service")
    async with service_of(SMALL, tmp_path) as one, service_of(SMALL, tmp_path) as other:
        run = await one.runner.start(asking("slow", {"steps": 6}, str(uuid4()), kwargs={"resumable": True}))
        reading = asyncio.create_task(all_of(one, run.run_id))
        course = one.runner.course(run.run_id)
        assert course is not None
        await until(lambda: is_running(one, run.run_id))
        adopted = await other.store.runs.adopt(one.runner.server, other.runner.server, max_attempts=3)
        await course.topic.ended.wait()  # its own attempt is over
        assert (course.lost, course.outcome) == (True, None)
        waiting = asyncio.create_task(one.runner.outcome(run.run_id))
        other.runner.take_over(adopted.resumed[0], temporary=False)
        outcome = await waiting
        assert outcome is not None
        assert (outcome.status, outcome.values) == ("success", {"steps": 6, "count": 6})
        # What its own attempt still did is in nobody's stream, and its readers go on at the other one.
        whole = await all_of(other, run.run_id)
        assert await reading == whole
        counts = [json.loads(part.data).get("count") for part in whole if part.event == "values"]
        assert counts.count(6) == 1
        assert [json.loads(part.data)["attempt"] for part in whole if part.event == "metadata"] == [1, 2]
    assert caplog.messages.count("another server has the run now") == 1


async def test_a_run_that_is_handed_to_the_server_that_runs_it_already_is_run_once(tmp_path: Path) -> None:
    async with service_of(SMALL, tmp_path) as one:
        run = await one.runner.start(asking("slow", {"steps": 6}, str(uuid4())))
        course = one.runner.course(run.run_id)
        assert course is not None
        await until(lambda: is_running(one, run.run_id))
        one.runner.take_over(run, temporary=False)
        assert (one.runner.course(run.run_id), one.runner.queued) == (course, 0)
        outcome = await one.runner.outcome(run.run_id)
        assert outcome is not None
        assert (outcome.status, outcome.values) == ("success", {"steps": 6, "count": 6})
        found = await one.store.runs.get(run.run_id)
        assert found is not None
        assert (found.status, found.attempt) == ("success", 1)


async def test_a_run_that_killed_its_servers_leaves_the_state_that_it_got_to(tmp_path: Path) -> None:
    async with service_of(SMALL, tmp_path) as one, service_of(SMALL, tmp_path) as other:
        thread = str(uuid4())
        run = await one.runner.start(asking("slow", {"steps": 6}, thread, kwargs={"resumable": True}))
        await until(lambda: has_counted(one, thread))
        runs = other.store.runs
        for dead, server in pairwise([one.runner.server, "second", "third"]):
            assert (await runs.adopt(dead, server, max_attempts=3)).resumed
            assert await runs.claim(run.run_id, server) == "claimed"
        adopted = await runs.adopt("third", other.runner.server, max_attempts=3)
        other.runner.take_over(adopted.resumed[0], temporary=False)
        outcome = await other.runner.outcome(run.run_id)
        assert outcome is not None
        said = "the server died while it ran, 3 times; start it again to go on"
        assert (outcome.status, outcome.error) == ("error", {"error": "ServerDied", "message": said})
        left = await other.store.threads.get(thread, EVERYTHING)
        assert left is not None
        (last, *_) = [item async for item in other.saver.alist({"configurable": {"thread_id": thread}}, limit=1)]
        assert 0 < last.checkpoint["channel_values"]["count"] < 6
        assert left.values == {"steps": 6, "count": last.checkpoint["channel_values"]["count"]}
        assert (left.status, left.error) == ("error", outcome.error)
        ended = await runs.get(run.run_id)
        assert ended is not None
        assert (ended.status, ended.usage, ended.timings) == ("error", None, None)  # nobody knows what was paid
        whole = await all_of(other, run.run_id)
        assert [part.event for part in whole if part.event in ("metadata", "error")] == ["metadata", "error"]
        assert json.loads(whole[-1].data) == outcome.error


async def test_a_server_whose_run_was_taken_over_writes_no_checkpoint_of_it(tmp_path: Path) -> None:
    async with service_of(SMALL, tmp_path) as one, service_of(SMALL, tmp_path) as other:
        thread = str(uuid4())
        run = await one.runner.start(asking("slow", {"steps": 6}, thread))
        await until(lambda: is_running(one, run.run_id))
        course = one.runner.course(run.run_id)
        assert course is not None
        adopted = await other.store.runs.adopt(one.runner.server, other.runner.server, max_attempts=3)
        other.runner.take_over(adopted.resumed[0], temporary=False)
        outcome = await other.runner.outcome(run.run_id)
        assert outcome is not None
        await course.topic.ended.wait()  # the old attempt is over as well, maybe later
        found = [item async for item in one.saver.alist({"configurable": {"thread_id": thread}})]
        attempts = [(item.metadata or {}).get("run_attempt") for item in found]  # the newest first
        assert attempts == sorted(attempts, key=lambda attempt: -int(str(attempt)))
        counts = [item.checkpoint["channel_values"].get("count", 0) for item in found]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] == 6


async def all_of(service: Service, run_id: str) -> list[Part]:
    return [part async for parts in service.runner.follow(run_id, after="-1") for part in parts]


async def has_counted(service: Service, thread_id: str) -> bool:
    found = await service.saver.aget_tuple({"configurable": {"thread_id": thread_id}})
    return found is not None and found.checkpoint["channel_values"].get("count", 0) > 1


async def is_running(service: Service, run_id: str) -> bool:
    found = await service.store.runs.get(run_id)
    return found is not None and found.status == "running"


# --- clients that leave ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Iterator[Simulator]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def stock(model: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = settings_in(tmp_path_factory.mktemp("stock"), base_url=model.base_url)
    with served(STOCK, settings=settings) as found:
        yield found.url


@pytest.fixture
def rested(model: Simulator) -> Simulator:
    model.reset()
    model.gate = None
    return model


@pytest.fixture
async def client(stock: str, rested: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stock, timeout=PATIENCE_S) as found:
        yield found


TOPICS = ["a", "b", "c", "d"]
EVENTS = {"accept": "text/event-stream"}
STREAM = {"assistant_id": "stories", "input": {"topics": TOPICS}, "config": {"max_concurrency": 2}}
GENERATE = {"workflow": "stories", "inputs": {"topics": TOPICS}, "max_concurrency": 2}
CHAT = {"model": "story", "messages": [{"role": "user", "content": "a cat"}], "stream": True}


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/runs/stream", {**STREAM, "on_disconnect": "cancel"}, {}),
        ("/runs/wait", {**STREAM, "on_disconnect": "cancel"}, {}),
        ("/generate", GENERATE, {}),
        ("/generate", GENERATE, EVENTS),
        ("/v1/chat/completions", CHAT, {}),
        ("/v1/chat/completions", {**CHAT, "stream": False}, {}),
    ],
    ids=["stream", "wait", "generate", "generate streamed", "chat streamed", "chat"],
)
async def test_a_run_whose_client_is_gone_stops_paying(
    path: str,
    body: dict[str, Any],
    headers: dict[str, str],
    client: httpx.AsyncClient,
    model: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = 1 if path.startswith("/v1") else 2
    model.close_gate()
    asked = asyncio.create_task(client.post(path, json=body, headers=headers))
    await model.arrived(expected)
    asked.cancel()
    await model.idle()
    model.open_gate()
    await until(lambda: nothing_runs(client))
    assert model.counters.received == model.counters.closed_early == expected
    assert errors_in(caplog) == []


async def test_a_run_whose_client_is_gone_goes_on_where_it_shall(client: httpx.AsyncClient, model: Simulator) -> None:
    model.close_gate()
    thread = str(uuid4())
    body = {**STREAM, "on_disconnect": "continue", "if_not_exists": "create"}
    asked = asyncio.create_task(client.post(f"/threads/{thread}/runs/stream", json=body))
    await model.arrived(2)
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked
    model.open_gate()
    await until(lambda: nothing_runs(client))
    [run] = (await client.get(f"/threads/{thread}/runs")).json()
    assert run["status"] == "success"
    assert (model.counters.received, model.counters.closed_early) == (len(TOPICS), 0)


async def nothing_runs(client: httpx.AsyncClient) -> bool:
    runs = (await client.get("/runs/recent")).json()["runs"]
    return all(run["status"] not in ("pending", "running") for run in runs)


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno > logging.WARNING]


# --- a quota -----------------------------------------------------------------------------------------


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[str]:
    with (
        running(Profile(rpd=1)) as provider,
        served(STOCK, settings=settings_in(tmp_path, base_url=provider.base_url)) as found,
    ):
        yield found.url


async def test_a_day_s_quota_that_is_used_up_is_a_429_that_says_when_it_begins_anew(
    limited: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with httpx.AsyncClient(base_url=limited, timeout=PATIENCE_S) as client:
        body = {"workflow": "story", "inputs": {"topic": "a cat"}}
        assert (await client.post("/generate", json=body)).status_code == 200
        refused = await client.post("/generate", json={**body, "inputs": {"topic": "a dog"}})
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 86_400
        assert "daily quota" in refused.json()["detail"]
        wanted = {"assistant_id": "story", "input": {"topic": "a fox"}}
        waited = await client.post("/runs/wait", json=wanted)
        assert (waited.status_code, waited.json()["__error__"]["error"]) == (200, "QuotaReached")
        chat = await client.post("/v1/chat/completions", json={**CHAT, "stream": False})
        assert (chat.status_code, "retry-after" in chat.headers) == (429, True)
    assert errors_in(caplog) == []


# --- streams that are read in pieces -----------------------------------------------------------------


CHATTER = """
import asyncio
from typing import TypedDict
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
class State(TypedDict):
    bursts: list[int]
async def chatter(state: State) -> State:
    number = 0
    for burst in state["bursts"]:
        for _ in range(burst):
            get_stream_writer()(number)
            number += 1
        await asyncio.sleep(0.001)
    return {"bursts": []}
graph = StateGraph(State).add_node(chatter).add_edge(START, "chatter").compile()
"""


@pytest.fixture
def chatter(tmp_path: Path) -> Any:
    (tmp_path / "fuzzed_chatter.py").write_text(CHATTER)
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"chatter": "./fuzzed_chatter.py:graph"}}))
    return find_app(tmp_path)


def service_of(app: Any, folder: Path) -> Service:
    options = ServiceOptions(grace_s=0.05)
    return Service(app=app, settings=settings_in(folder), address=folder / "service.db", options=options)


async def test_readers_that_come_and_go_get_every_event_once_whatever_they_do(chatter: Any, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    async with service_of(chatter, tmp_path) as one, service_of(chatter, tmp_path) as other:
        for _ in range(8):
            bursts = [chance.choice([1, 2, 30, 1200]) for _ in range(chance.randint(1, 12))]
            wanted = {"resumable": True, "stream_mode": ["custom"]}
            run = await one.runner.start(asking("chatter", {"bursts": bursts}, str(uuid4()), kwargs=wanted))
            readers = [Reader([one, other], random.Random(chance.random())) for _ in range(6)]
            await asyncio.gather(*(reader.read(run.run_id) for reader in readers))
            whole = await all_of(other, run.run_id)
            numbers = [json.loads(part.data) for part in whole if part.event == "custom"]
            assert numbers == list(range(sum(bursts)))
            for reader in readers:
                assert reader.parts == whole


class Reader:
    """Reads some events at one of the servers, leaves, and comes back behind the last one it has seen."""

    def __init__(self, services: list[Service], chance: random.Random) -> None:
        self.parts: list[Part] = []
        self._services = services
        self._chance = chance

    async def read(self, run_id: str) -> None:
        """Until the stream is over, and one look more."""
        while not await self._some(run_id):
            if self._chance.random() < 0.3:
                await asyncio.sleep(0.01)
        assert await self._some(run_id, limit=10**9)

    async def _some(self, run_id: str, limit: int | None = None) -> bool:
        most = self._chance.choice([1, 3, 100, 2000]) if limit is None else limit
        last = self.parts[-1].id if self.parts else "-1"
        runner = self._chance.choice(self._services).runner
        async with aclosing(runner.follow(run_id, after=last)) as following:
            async for parts in following:
                # A connection may break anywhere in what is sent at once.
                self.parts += parts[:most]
                most -= len(parts)
                if most <= 0:
                    return False
                if self._chance.random() < 0.1:
                    await asyncio.sleep(0.01)
        return True


# --- bad input ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ServiceOptions(max_body_bytes=100_000)
    with served(SMALL, settings=settings_in(tmp_path_factory.mktemp("small")), options=options) as found:
        yield found.url


NOBODY = "00000000-0000-4000-8000-000000000000"
THREAD = f"/threads/{NOBODY}"
DEEP = "[" * 5000 + "]" * 5000
STEPS = {"assistant_id": "steps", "input": {}}
BAD: dict[str, tuple[int, str, str, Any]] = {
    "unknown thread": (404, "GET", THREAD, None),
    "unknown thread's state": (404, "GET", f"{THREAD}/state", None),
    "unknown thread's run": (404, "POST", f"{THREAD}/runs", STEPS),
    "unknown run": (404, "GET", f"{THREAD}/runs/{NOBODY}", None),
    "unknown run's stream": (404, "GET", f"/runs/{NOBODY}/stream", None),
    "unknown assistant": (404, "GET", f"/assistants/{NOBODY}", None),
    "unknown workflow": (404, "POST", "/generate", {"workflow": "nothing"}),
    "unknown graph": (422, "POST", "/runs", {"assistant_id": "nothing"}),
    "unknown cron": (404, "DELETE", f"/runs/crons/{NOBODY}", None),
    "an id that is none": (422, "GET", "/threads/nonsense", None),
    "an id with a NUL": (422, "GET", "/threads/%00", None),
    "an id that is no UTF-8": (422, "GET", "/threads/%ff%fe", None),
    "a path upwards": (404, "GET", "/assistants/..%2f..%2fetc%2fpasswd", None),
    "a huge body": (413, "POST", "/runs", b'{"assistant_id": "' + b"a" * 200_000 + b'"}'),
    "a huge body in pieces": (413, "POST", "/generate", b" " * 200_000),
    "deep JSON": (422, "POST", "/runs", f'{{"assistant_id": "steps", "input": {DEEP}}}'),
    "deep JSON that is cut off": (422, "POST", "/threads", "[" * 50_000),
    "no JSON": (422, "POST", "/runs/wait", "{"),
    "no object": (422, "POST", "/runs/wait", "3"),
    "null": (422, "POST", "/threads", "null"),
    "no UTF-8": (422, "POST", "/runs/wait", b'{"assistant_id": "\xff\xfe"}'),
    "UTF-16": (422, "POST", "/runs/wait", '{"assistant_id": "steps"}'.encode("utf-16")),
    "a NUL": (422, "POST", "/runs/wait", '{"assistant_id": "st\\u0000eps"}'),
    "half a surrogate": (422, "POST", "/runs/wait", '{"assistant_id": "\\ud800"}'),
    "half a surrogate in a search": (422, "POST", "/threads/search", '{"metadata": {"\\ud800": 1}}'),
    "a huge int": (422, "POST", "/runs/wait", f'{{"assistant_id": "steps", "after_seconds": {"9" * 400}}}'),
    "an int of too many digits": (422, "POST", "/runs/wait", f'{{"assistant_id": {"9" * 5000}}}'),
    "not a number": (422, "POST", "/runs/wait", '{"assistant_id": "steps", "after_seconds": NaN}'),
    "infinity": (422, "POST", "/generate", '{"workflow": "steps", "timeout_s": 1e999}'),
    "a huge limit": (422, "POST", "/threads/search", {"limit": 10**30}),
    "a huge offset": (422, "POST", "/threads/search", {"offset": 2**64}),
    "a huge offset in a query": (422, "GET", f"{THREAD}/runs?offset=99999999999999999999", None),
    "a bad checkpoint": (422, "POST", f"{THREAD}/runs", {**STEPS, "checkpoint_id": "nonsense"}),
    "a bad place in the history": (404, "POST", f"{THREAD}/history", {"before": "nonsense"}),
    "a recursion without end": (422, "POST", "/runs/wait", {**STEPS, "config": {"recursion_limit": 10**9}}),
    "a batch of nothing": (422, "POST", "/runs/batch", "[]"),
    "a store's key with a NUL": (422, "PUT", "/store/items", {"namespace": ["a"], "key": "\0", "value": {}}),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_a_4xx_with_a_text_and_no_noise(
    name: str, small: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, method, path, body = BAD[name]
    content = json.dumps(body) if isinstance(body, dict) else body
    pieces = _pieces(content) if name.endswith("in pieces") else content
    async with httpx.AsyncClient(base_url=small, timeout=PATIENCE_S) as client:
        answer = await client.request(method, path, content=pieces, headers={"content-type": "application/json"})
    assert (answer.status_code, errors_in(caplog)) == (status, []), answer.text[:500]
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    assert 5 < len(detail) < 1000


async def test_a_filter_that_is_sql_finds_nothing(small: str) -> None:
    async with httpx.AsyncClient(base_url=small, timeout=PATIENCE_S) as client:
        await client.post("/threads", json={"metadata": {"a": 1}})
        for text in ("a') OR 1=1 --", 'a") OR 1=1 --', "$.a", "a%"):
            for metadata in ({text: 1}, {"a": text}):
                answer = await client.post("/threads/search", json={"metadata": metadata})
                assert (answer.status_code, answer.json()) == (200, [])


async def _pieces(content: Any) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 10_000):
        yield content[start : start + 10_000]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", ""])
@pytest.mark.parametrize("path", ["/runs/wait", "/generate", "/threads", "/v1/chat/completions"])
async def test_a_body_that_is_no_json_is_a_415(path: str, kind: str, small: str) -> None:
    async with httpx.AsyncClient(base_url=small, timeout=PATIENCE_S) as client:
        answer = await client.post(path, content=b"{}", headers={"content-type": kind})
    said = answer.json()
    detail = said["detail"] if "detail" in said else said["error"]["message"]  # as OpenAI's clients read it
    assert (answer.status_code, "Content-Type" in detail) == (415, True)


@pytest.mark.parametrize(
    "cursor", ["nonsense", "1", "1-", "-1-1", "1-1-1", "9" * 40 + "-1", "\u00b2-1", "1-" + "9" * 5000]
)
@pytest.mark.parametrize("resumable", [True, False])
async def test_a_cursor_that_is_none_is_refused_before_the_stream_begins(
    cursor: str, resumable: bool, small: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with httpx.AsyncClient(base_url=small, timeout=PATIENCE_S) as client:
        body = {**STEPS, "if_not_exists": "create", "stream_resumable": resumable}
        made = await client.post(f"/threads/{uuid4()}/runs/wait", json=body)
        place = made.headers["content-location"]
        answer = await client.get(f"{place}/stream", headers=[(b"last-event-id", cursor.encode())])
    assert (answer.status_code, errors_in(caplog)) == (422, [])
    assert "Last-Event-ID" in answer.json()["detail"]

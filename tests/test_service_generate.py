"""`POST /generate` over real HTTP: outputs, streams, errors, clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from plait.service import ServiceOptions, create_app
from plait.service.clients import EventStream
from plait.service.routes.generate import wants_stream
from plait.simulator import Behaviour, Simulator
from plait.simulator import running as simulating
from tests.serving import listening, settings_in

APP = Path(__file__).parent / "apps" / "service_app"
EVENTS = {"accept": "text/event-stream"}


@pytest.fixture(scope="module")
def model() -> Iterator[Simulator]:
    with simulating() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def bundled(model: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """plait's own workflows, whose model is simulated."""
    settings = settings_in(tmp_path_factory.mktemp("bundled"), base_url=model.base_url)
    with listening(create_app(Path(__file__).parents[1], settings=settings)) as found:
        yield found.url


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Small graphs without models; at most two of their runs at once, and one waits."""
    settings = settings_in(tmp_path_factory.mktemp("small"))
    options = ServiceOptions(max_running=2, max_queued=1)
    with listening(create_app(APP, settings=settings, options=options)) as found:
        yield found.url


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh(model: Simulator) -> None:
    model.reset()


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.split("\r\n\r\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


async def test_a_workflow_answers_with_its_outputs_usage_and_timings(bundled: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{bundled}/generate", json={"workflow": "story", "inputs": {"topic": "a cat"}})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert found["outputs"] == {"story": "Answer to: Write a story of about 150 words about a cat."}
    assert found["usage"]["calls"] == 1
    assert found["usage"]["tokens"] == {"sim": {"input": 24, "cached": 0, "output": 12}}
    assert found["timings"]["write"]["calls"] == 1
    assert found["run_id"]
    assert found["duration_s"] > 0


async def test_an_event_stream_has_the_tokens_and_ends_with_the_outputs(
    bundled: str, client: httpx.AsyncClient
) -> None:
    body = {"workflow": "story", "inputs": {"topic": "a cat"}}
    answer = await client.post(f"{bundled}/generate", json=body, headers=EVENTS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    found = events(answer.text)
    tokens = [data["text"] for kind, data in found if kind == "token"]
    assert len(tokens) > 5
    kinds = [kind for kind, _ in found]
    assert kinds[-3:] == ["update", "usage", "end"]
    end = found[-1][1]
    assert end["status"] == "success"
    assert end["outputs"] == {"story": "".join(tokens)}
    assert end["run_id"] == answer.headers["x-run-id"]
    assert found[-2][1]["usage"]["output_tokens"] == 12


async def test_wrong_inputs_are_refused_with_a_line_for_each(bundled: str, client: httpx.AsyncClient) -> None:
    body = {"workflow": "story", "inputs": {"words": "many", "topics": "a cat"}}
    answer = await client.post(f"{bundled}/generate", json=body)
    assert answer.status_code == 422
    lines = answer.json()["detail"].splitlines()
    assert [line.partition(":")[0] for line in lines] == ["topic", "words", "topics"]


async def test_wrong_context_is_refused(bundled: str, client: httpx.AsyncClient) -> None:
    body = {"workflow": "story", "inputs": {"topic": "a cat"}, "context": {"modle": "x"}}
    answer = await client.post(f"{bundled}/generate", json=body)
    assert answer.status_code == 422
    assert "modle" in answer.json()["detail"]


async def test_unknown_fields_of_the_body_are_refused(bundled: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{bundled}/generate", json={"workflow": "story", "input": {}})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("input:")


async def test_an_unknown_workflow_is_a_404_that_lists_those_there_are(bundled: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{bundled}/generate", json={"workflow": "stroy"})
    assert answer.status_code == 404
    assert "'stroy'" in answer.json()["detail"]
    assert "story, stories" in answer.json()["detail"]


async def test_a_refused_call_is_a_502_that_names_the_run(
    bundled: str, client: httpx.AsyncClient, model: Simulator
) -> None:
    model.script(Behaviour(status=401))
    answer = await client.post(f"{bundled}/generate", json={"workflow": "story", "inputs": {"topic": "a cat"}})
    assert answer.status_code == 502
    assert answer.json()["run_id"]
    assert "401" in answer.json()["detail"]


async def test_a_workflow_that_raises_is_a_500_that_names_the_run(small: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{small}/generate", json={"workflow": "broken"})
    assert answer.status_code == 500
    assert answer.json()["run_id"]
    assert "this graph always fails" in answer.json()["detail"]


async def test_a_stream_of_a_workflow_that_raises_says_so_before_its_end(small: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{small}/generate", json={"workflow": "broken"}, headers=EVENTS)
    found = events(answer.text)
    assert [kind for kind, _ in found] == ["update", "error", "usage", "end"]
    assert found[1][1]["message"] == "this graph always fails"
    assert found[-1][1]["status"] == "error"


async def test_a_run_that_takes_longer_than_it_may_is_a_504(small: str, client: httpx.AsyncClient) -> None:
    body = {"workflow": "slow", "inputs": {"steps": 1000}, "timeout_s": 0.2}
    answer = await client.post(f"{small}/generate", json=body)
    assert answer.status_code == 504
    assert "0.2 s" in answer.json()["detail"]


async def test_a_stream_that_takes_longer_than_it_may_ends_with_a_timeout(
    small: str, client: httpx.AsyncClient
) -> None:
    body = {"workflow": "slow", "inputs": {"steps": 1000}, "timeout_s": 0.2}
    found = events((await client.post(f"{small}/generate", json=body, headers=EVENTS)).text)
    assert found[-3][0] == "error"
    assert found[-3][1]["error"] == "RunTimeout"
    assert found[-1][1]["status"] == "timeout"


async def test_a_workflow_that_asks_something_is_a_409_with_the_question(small: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{small}/generate", json={"workflow": "approve", "inputs": {"text": "hello"}})
    assert answer.status_code == 409
    found = answer.json()
    assert found["interrupts"][0]["value"] == {"question": "publish?", "text": "hello!"}
    assert found["thread_id"] is None
    assert "thread_id" in found["detail"]


async def test_on_a_thread_a_question_can_be_answered(small: str, client: httpx.AsyncClient) -> None:
    thread_id = str(uuid4())
    body = {"workflow": "approve", "inputs": {"text": "hello"}, "thread_id": thread_id}
    asked = await client.post(f"{small}/generate", json=body)
    assert asked.status_code == 409
    assert asked.json()["thread_id"] == thread_id
    answer = {"assistant_id": "approve", "command": {"resume": True}}
    resumed = await client.post(f"{small}/threads/{thread_id}/runs/wait", json=answer)
    assert resumed.json()["result"] == "published"


async def test_a_client_that_leaves_a_stream_stops_the_calls_of_its_run(
    bundled: str, client: httpx.AsyncClient, model: Simulator
) -> None:
    hold = asyncio.Event()
    model.script(Behaviour(hold=hold, hold_after_chunks=2))
    body = {"workflow": "story", "inputs": {"topic": "a cat"}}
    async with client.stream("POST", f"{bundled}/generate", json=body, headers=EVENTS) as answer:
        async for line in answer.aiter_lines():
            if line == "event: token":
                break
    await model.reach(lambda found: found.closed_early == 1)


async def test_a_client_that_leaves_before_the_answer_stops_the_calls_of_its_run(
    bundled: str, client: httpx.AsyncClient, model: Simulator
) -> None:
    model.script(Behaviour(stall=True))
    body = {"workflow": "story", "inputs": {"topic": "a cat"}}
    asking = asyncio.create_task(client.post(f"{bundled}/generate", json=body))
    await model.arrived(1)
    asking.cancel()
    await model.reach(lambda found: found.closed_early == 1)


async def test_max_concurrency_bounds_the_calls_of_the_run(
    bundled: str, client: httpx.AsyncClient, model: Simulator
) -> None:
    body = {"workflow": "stories", "inputs": {"topics": ["a", "b", "c", "d"]}, "max_concurrency": 1}
    answer = await client.post(f"{bundled}/generate", json=body)
    assert len(answer.json()["outputs"]["stories"]) == 4
    assert model.peak == 1


async def test_a_full_queue_is_a_429_that_says_when_to_come_back(small: str, client: httpx.AsyncClient) -> None:
    body = {"workflow": "slow", "inputs": {"steps": 1000}}
    async with AsyncExitStack() as streams:
        for _ in range(3):
            stream = client.stream("POST", f"{small}/generate", json=body, headers=EVENTS)
            assert (await streams.enter_async_context(stream)).status_code == 200
        answer = await client.post(f"{small}/generate", json=body)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "wait already" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/event-stream", True),
        ("Text/Event-Stream; q=0.9", True),
        ("application/json, text/event-stream", False),
        ("text/event-stream, application/json;q=0.5", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=nonsense", False),
        ("text/event-stream, */*", True),
    ],
)
def test_the_accept_header_decides_what_comes(accept: str, streams: bool) -> None:
    assert wants_stream(accept) is streams


async def test_a_silent_stream_is_kept_alive_with_comments() -> None:
    beaten = asyncio.Event()
    sent: list[bytes] = []

    async def chunks() -> AsyncIterator[bytes]:
        await beaten.wait()
        yield b"event: end\r\n\r\n"

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        if message.get("body", b"").startswith(b": heartbeat"):
            beaten.set()

    async def left() -> None:
        raise AssertionError("nobody left")

    await EventStream(chunks(), left=left, heartbeat_s=0.001)({"type": "http"}, receive, send)
    assert b": heartbeat\r\n\r\n" in sent
    assert sent[-2:] == [b"event: end\r\n\r\n", b""]


async def test_a_client_that_is_gone_is_noticed_while_nothing_is_sent() -> None:
    left: list[bool] = []

    async def chunks() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """Nobody reads it."""

    async def leave() -> None:
        left.append(True)

    await EventStream(chunks(), left=leave)({"type": "http"}, receive, send)
    assert left == [True]

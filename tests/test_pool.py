"""The pool notes how long connections took to open."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

import httpx2
import pytest

from plait.flow.exchange import CONNECTED
from plait.flow.pool import BlockingPool, Network, Pool
from plait.simulator import Behaviour, Simulator, running

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def connect_s(client: httpx2.AsyncClient, provider: Simulator) -> float | None:
    response = await client.post(f"{provider.base_url}/chat/completions", json=BODY)
    assert response.is_success
    found = response.request.extensions.get(CONNECTED)
    return None if found is None else float(found)


async def test_only_the_call_that_opens_a_connection_is_told_its_time(provider: Simulator) -> None:
    async with httpx2.AsyncClient(transport=Pool(Network())) as client:
        first = await connect_s(client, provider)
        assert first is not None
        assert 0 < first < 5
        assert await connect_s(client, provider) is None


async def test_a_repeated_request_forgets_the_connection_of_its_first_attempt(provider: Simulator) -> None:
    provider.script(Behaviour(status=500))
    async with httpx2.AsyncClient(transport=Pool(Network())) as client:
        request = client.build_request("POST", f"{provider.base_url}/chat/completions", json=BODY)
        assert (await client.send(request)).status_code == 500
        assert CONNECTED in request.extensions
        assert (await client.send(request)).status_code == 200
        assert CONNECTED not in request.extensions


def test_synchronous_clients_are_told_too_and_keep_their_own_trace() -> None:
    heard: list[str] = []
    with running() as provider, httpx2.Client(transport=BlockingPool(Network())) as client:
        url = f"{provider.base_url}/chat/completions"
        first = client.post(url, json=BODY)
        assert first.request.extensions[CONNECTED] > 0
        assert "trace" not in first.request.extensions
        assert CONNECTED not in client.post(url, json=BODY).request.extensions
        client.post(url, json=BODY, extensions={"trace": lambda event, _: heard.append(event)})
    assert heard


@contextmanager
def refusing_tls() -> Generator[int]:
    """A port that accepts connections and closes them before any TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


async def test_a_connection_that_fails_leaves_no_time() -> None:
    with refusing_tls() as port:
        async with httpx2.AsyncClient(transport=Pool(Network())) as client:
            request = client.build_request("POST", f"https://127.0.0.1:{port}/v1/chat/completions", json=BODY)
            with pytest.raises(httpx2.TransportError):
                await client.send(request)
        assert CONNECTED not in request.extensions

"""Webhooks: how a run ended, told to a URL; never to one that is not public, unless the operator allows it."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import subprocess
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from plait.app import find_app
from plait.cli.serve import Options, serve
from plait.errors import InputError
from plait.flow.install import install
from plait.flow.registry import gate_for
from plait.service.apps import app_of
from plait.service.options import ServiceOptions
from plait.service.services import Service
from plait.service.webhook_targets import check_host, is_public, target_of
from plait.service.webhooks import Resolve, Webhooks
from plait.store.service.records import RunRecord
from tests.clocks import FakeClock
from tests.serving import settings_in
from tests.webhook_receiver import Receiver, receiving

APP = find_app(Path(__file__).parent / "apps" / "service_app")
CATS = {"topic": "cats", "trail": ["first", "second", "third cats"], "total": 3}


def ended(url: str, **more: Any) -> RunRecord:
    return RunRecord(str(uuid4()), str(uuid4()), str(uuid4()), kwargs={"webhook": url}, status="success", **more)


def at(*addresses: str) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receiving() as found:
        yield found


# --- runs ----------------------------------------------------------------------------------------------


class Stand:
    """A service with a receiver that its operator allows."""

    def __init__(self, client: httpx.AsyncClient, receiver: Receiver) -> None:
        self.client = client
        self.receiver = receiver

    async def run(self, graph: str, given: object, path: str = "/runs/wait", **more: Any) -> httpx.Response:
        body = {"assistant_id": graph, "input": given, "webhook": self.receiver.url, **more}
        return await self.client.post(path, json=body)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stand]:
    folder = tmp_path_factory.mktemp("service")
    async with receiving() as receiver:
        options = ServiceOptions(grace_s=0.05, webhook_hosts=(receiver.host,))
        service = Service(app=APP, settings=settings_in(folder), address=folder / "service.db", options=options)
        async with service:
            transport = httpx.ASGITransport(app=app_of(service))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                yield Stand(client, receiver)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_webhook_gets_the_run_and_how_it_ended(stand: Stand) -> None:
    thread = (await stand.client.post("/threads", json={})).json()["thread_id"]
    begun = await stand.run("steps", {"topic": "cats"}, f"/threads/{thread}/runs", metadata={"m": 1})
    told = await stand.receiver.next()
    kept = (await stand.client.get(f"/threads/{thread}/runs/{begun.json()['run_id']}")).json()
    assert (told["status"], told["values"]) == ("success", CATS)
    assert "error" not in told
    assert told["run_started_at"] <= told["run_ended_at"] <= told["webhook_sent_at"]
    times = {"updated_at", "run_started_at", "run_ended_at", "webhook_sent_at", "values"}
    assert {key: told[key] for key in told.keys() - times} == {key: kept[key] for key in kept.keys() - times}
    assert stand.receiver.headers[-1]["content-type"] == "application/json"
    assert stand.receiver.headers[-1]["host"] == stand.receiver.host


@pytest.mark.asyncio(loop_scope="module")
async def test_a_failed_run_tells_its_error_and_a_stateless_one_its_values(stand: Stand) -> None:
    await stand.run("broken", {"topic": "x"})
    told = await stand.receiver.next()
    assert (told["status"], told["error"]["error"]) == ("error", "ValueError")
    await stand.run("steps", {"topic": "cats"})
    assert (await stand.receiver.next())["values"] == CATS


@pytest.mark.asyncio(loop_scope="module")
async def test_a_run_that_is_cancelled_before_its_turn_is_told_too(stand: Stand) -> None:
    begun = (await stand.run("steps", {"topic": "x"}, "/runs", after_seconds=1000)).json()
    await stand.client.post(f"/threads/{begun['thread_id']}/runs/{begun['run_id']}/cancel?wait=true")
    told = await stand.receiver.next()
    assert (told["run_id"], told["status"]) == (begun["run_id"], "interrupted")
    assert told["run_started_at"] is None


@pytest.mark.asyncio(loop_scope="module")
async def test_a_receiver_that_never_answers_holds_up_nobody(stand: Stand) -> None:
    stand.receiver.free.clear()
    try:
        assert (await stand.run("steps", {"topic": "cats"})).json() == CATS
        assert (await stand.receiver.next())["status"] == "success"
        assert (await stand.run("steps", {"topic": "cats"})).json() == CATS
        await stand.receiver.next()
    finally:
        stand.receiver.free.set()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://localhost/", "/threads", "ftp://example.com/", "http:"])
@pytest.mark.parametrize("path", ["/runs", "/runs/wait", "/runs/stream", "/runs/batch"])
async def test_a_run_with_a_hostile_webhook_is_not_begun(stand: Stand, url: str, path: str) -> None:
    body: Any = {"assistant_id": "steps", "input": {"topic": "x"}, "webhook": url}
    answered = await stand.client.post(path, json=[body] if path.endswith("batch") else body)
    assert answered.status_code == 422
    assert answered.json()["detail"].startswith("webhook: expected")


# --- where they may go -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "", "not a url", "/hook", "//example.com/hook", "http:///hook", "https://", "ftp://example.com/", "file:///etc",
        "gopher://example.com/", "javascript:alert(1)", "http://user@example.com/", "http://u:p@example.com/",
        "http://example.com\\@127.0.0.1/", "http://127.0.0.1%2f@example.com/", "http://%31%32%37.0.0.1/",
        "http://exa mple.com/", "http://example.com:99999/", "http://example.com:0/", "http://a..b/", "http://\u2460/",
        "http://example.com/\r\nX-Evil: 1", f"http://{'a' * 64}.com/", f"http://example.com/{'a' * 5000}",
        "http://localhost/", "http://LOCALHOST:8000/", "http://localhost./", "http://a.localhost/",
        "http://127.0.0.1/", "http://127.0.0.1./", "http://127.1/", "http://127.255.255.254/", "http://0/",
        "http://0.0.0.0/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://017700000001/",
        "http://0177.0.0.1/", "http://10.1.2.3/", "http://172.16.0.1/", "http://172.31.255.255/",
        "http://192.168.1.1:8080/", "http://169.254.169.254/latest/meta-data/", "http://2852039166/",
        "http://100.64.0.1/", "http://100.100.100.200/", "http://192.0.0.192/", "http://168.63.129.16/",
        "http://198.18.0.1/", "http://192.0.2.1/", "http://203.0.113.7/", "http://224.0.0.1/", "http://240.0.0.1/",
        "http://255.255.255.255/", "http://[::]/", "http://[::1]/", "http://[0:0:0:0:0:0:0:1]/", "http://[fe80::1]/",
        "http://[fe80::1%25eth0]/", "http://[fc00::1]/", "http://[fd00:ec2::254]/", "http://[ff02::1]/",
        "http://[fec0::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::ffff:8.8.8.8]/",
        "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::a00:1]/", "http://[2002:7f00:1::]/",
        "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/", "http://[2001:db8::1]/", "http://[100::1]/",
    ],
)  # fmt: skip
def test_a_hostile_url_is_refused_before_the_run(url: str) -> None:
    with pytest.raises(InputError, match=r"^webhook: expected"):
        target_of(url)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://Example.COM/hook?a=b", "example.com", 443), ("http://example.com./", "example.com", 80),
        ("http://8.8.8.8:9000/", "8.8.8.8", 9000), ("http://[2606:4700::1111]/", "2606:4700::1111", 80),
        ("http://my_host.example:8080", "my_host.example", 8080), ("http://172.32.0.1/", "172.32.0.1", 80),
        ("http://b\u00fccher.example/", "xn--bcher-kva.example", 80), ("http://100.128.0.1/", "100.128.0.1", 80),
    ],
)  # fmt: skip
def test_public_urls_are_targets(url: str, host: str, port: int) -> None:
    found = target_of(url)
    assert (found.host, found.port, found.allowed) == (host, port, False)


@pytest.mark.parametrize(
    ("allowed", "url", "fits"),
    [
        ("127.0.0.1:9000", "http://127.0.0.1:9000/x", True), ("127.0.0.1:9000", "http://127.1:9000/x", True),
        ("127.0.0.1:9000", "http://127.0.0.1:9001/x", False), ("127.0.0.1:9000", "http://localhost:9000/", False),
        ("127.0.0.1", "http://127.0.0.1:9001/", True), ("127.0.0.1", "http://127.0.0.2/", False),
        ("[::1]:9", "http://[::1]:9/", True), ("::1", "http://[0:0::1]:9/", True),
        ("LocalHost", "http://localhost/", True),
        ("localhost:443", "https://localhost/", True), ("localhost:443", "http://localhost/", False),
        ("localhost", "http://a.localhost/", False),
    ],
)  # fmt: skip
def test_an_operator_allows_a_host_or_one_of_its_ports(allowed: str, url: str, fits: bool) -> None:
    assert check_host(allowed) == allowed
    if fits:
        assert target_of(url, [allowed]).allowed
    else:
        with pytest.raises(InputError, match="--webhook-host"):
            target_of(url, [allowed])


@pytest.mark.parametrize("text", ["", "http://x", "a b", "x:y", "x:99999", "[::1", "[::1]x", "*", "x/y", "10.0.0.0/8"])
def test_what_is_no_host_cannot_be_allowed(text: str) -> None:
    with pytest.raises(InputError, match="expected a host such as"):
        check_host(text)


@pytest.mark.parametrize("text", ["http://hooks.internal/", "hooks.internal:x"])
def test_a_bad_host_is_told_before_anything_is_served(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"^--webhook-host: expected a host such as"):
        serve(Options(app=APP.root, webhook_hosts=(text,)))
    with pytest.raises(InputError, match="expected a host such as"):
        Webhooks([text])


def test_what_is_no_address_is_not_public() -> None:
    assert not is_public("example.com")
    assert is_public("1.1.1.1")


# --- sending ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("169.254.169.254",),
        ("8.8.8.8", "127.0.0.1"),
        ("::1",),
        ("::ffff:127.0.0.1",),
        ("fe80::1%eth0",),
    ],
)
async def test_a_name_that_stands_for_an_inner_address_gets_nothing(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, addresses: tuple[str, ...]
) -> None:
    async with Webhooks(resolve=at(*addresses)) as webhooks:
        webhooks.tell(ended(f"http://hooks.example:{receiver.port}/secret"))
        await webhooks.settled()
    assert receiver.received == []
    assert "which is not public" in caplog.text
    assert "secret" not in caplog.text


async def test_the_addresses_that_were_checked_are_connected_to(receiver: Receiver) -> None:
    asked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    async with Webhooks(["hooks.example"], resolve=resolve) as webhooks:
        webhooks.tell(ended(f"http://Hooks.example:{receiver.port}/hook?a=b"))
        await webhooks.settled()
    assert asked == [("hooks.example", receiver.port)]
    assert receiver.headers[0]["host"] == f"hooks.example:{receiver.port}"
    assert receiver.paths == ["/hook?a=b"]


async def test_the_next_address_is_tried_where_one_does_not_answer(receiver: Receiver) -> None:
    clock = FakeClock()
    async with Webhooks(["hooks.example"], clock=clock, resolve=at("::1", "127.0.0.1")) as webhooks:
        webhooks.tell(ended(f"http://hooks.example:{receiver.port}/hook"))
        await webhooks.settled()
    assert len(receiver.received) == 1
    assert clock.waits == []


@pytest.mark.parametrize(
    ("statuses", "waits"), [([500, 503, 200], [1.5, 5.5]), ([429, 200], [1.5]), ([500] * 4, [1.5, 5.5, 25.5])]
)
async def test_a_receiver_in_trouble_is_asked_again(
    receiver: Receiver, statuses: list[int], waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = list(statuses)
    clock = FakeClock()
    async with Webhooks([receiver.host], clock=clock) as webhooks:
        webhooks.tell(ended(receiver.url))
        await webhooks.settled()
    assert len(receiver.received) == len(statuses)
    assert clock.waits == waits
    assert ("given up: it answered 500" in caplog.text) == (statuses[-1] == 500)


@pytest.mark.parametrize("status", [302, 307, 400, 404, 410])
async def test_a_refusal_or_a_redirect_is_the_end(
    receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = status
    async with Webhooks([receiver.host], clock=FakeClock()) as webhooks:
        webhooks.tell(ended(receiver.url))
        await webhooks.settled()
    assert receiver.paths == ["/hook"]
    assert f"answered {status}" in caplog.text


async def test_nobody_there_is_tried_four_times(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    async with Webhooks(["::1"], clock=clock) as webhooks:
        webhooks.tell(ended(f"http://[::1]:{receiver.port}/hook"))
        await webhooks.settled()
    assert clock.waits == [1.5, 5.5, 25.5]
    assert "given up: ConnectError" in caplog.text


async def test_a_name_that_nobody_knows_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with Webhooks(clock=FakeClock(), resolve=resolve) as webhooks:
        webhooks.tell(ended("http://hooks.example/hook"))
        await webhooks.settled()
    assert "given up: OSError: no such name" in caplog.text


async def test_the_machines_own_names_are_looked_up(receiver: Receiver) -> None:
    async with Webhooks([f"localhost:{receiver.port}"], clock=FakeClock()) as webhooks:
        webhooks.tell(ended(f"http://localhost:{receiver.port}/hook"))
        await webhooks.settled()
    assert len(receiver.received) == 1


async def test_a_webhook_is_no_model_call_whatever_its_path(receiver: Receiver, tmp_path: Path) -> None:
    receiver.status = 500
    with install(gate_for(settings_in(tmp_path))):
        async with Webhooks([receiver.host], clock=FakeClock()) as webhooks:
            webhooks.tell(ended(f"http://{receiver.host}/v1/chat/completions"))
            await webhooks.settled()
    assert len(receiver.received) == 4


async def test_what_is_under_way_is_sent_before_the_end_and_the_rest_is_dropped(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    async with Webhooks([receiver.host]) as webhooks:
        webhooks.tell(ended(receiver.url))
    assert len(receiver.received) == 1
    receiver.free.clear()
    async with Webhooks([receiver.host], closing_s=0.05) as webhooks:
        webhooks.tell(ended(receiver.url))
        webhooks.tell(ended(receiver.url))
    assert "since the server ends: 2" in caplog.text


async def test_values_of_any_kind_are_sent(receiver: Receiver) -> None:
    async with Webhooks([receiver.host]) as webhooks:
        webhooks.tell(ended(receiver.url), values={"when": {1, 2}, "text": "\ud800"})
        webhooks.tell(RunRecord("r", "t", "a", kwargs={"webhook": None}))
        await webhooks.settled()
    assert receiver.received[0]["values"]["when"] == [1, 2]
    assert len(receiver.received) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
async def test_a_certificate_is_checked_against_the_name_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hooks.example"]
    command += ["-addext", "subjectAltName=DNS:hooks.example", "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    caplog.set_level(logging.INFO)
    async with receiving(tls=tls) as receiver:
        hosts = ["hooks.example", "other.example"]
        async with Webhooks(hosts, clock=FakeClock(), resolve=at("127.0.0.1")) as webhooks:
            webhooks.tell(ended(f"https://hooks.example:{receiver.port}/good"))
            webhooks.tell(ended(f"https://other.example:{receiver.port}/bad"))
            await webhooks.settled()
        assert receiver.paths == ["/good"]
    assert "other.example" in caplog.text
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text

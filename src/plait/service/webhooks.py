"""Webhooks: tells a URL that the client gave how its run ended, after the run and besides it."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import httpx2

from plait.errors import InputError
from plait.flow.clock import Clock, SystemClock
from plait.service.json_texts import dumps
from plait.service.run_requests import run_json
from plait.service.snapshots import iso
from plait.service.webhook_targets import Target, check_host, is_public, target_of
from plait.store.service.records import RunRecord

logger = logging.getLogger("plait.service")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host and port. Raises OSError where there are none."""

_TIMEOUT_S = 10.0
_CONNECT_S = 4.0
_WAITS_S = (1.0, 5.0, 25.0)
"""Before the second, third and fourth attempt."""
_AT_ONCE = 50
_PENDING = 1000
_LOOKUPS = 4
_ADDRESSES = 4


class Webhooks:
    """Sends webhooks in the background, each within ten seconds and up to four times.

    `hosts` are those that the operator allows, as for `target_of`; InputError for what is none. Leaving the block
    waits `closing_s` for what is not sent yet, and drops the rest. What cannot be sent is logged, without the path of
    its URL, which may be a secret.
    """

    def __init__(
        self,
        hosts: Sequence[str] = (),
        *,
        clock: Clock | None = None,
        resolve: Resolve | None = None,
        closing_s: float = 5.0,
    ) -> None:
        self._hosts = [check_host(host) for host in hosts]
        self._clock = clock or SystemClock()
        self._resolve = resolve or self._look_up
        self._closing_s = closing_s
        # Threads of their own: names whose servers never answer must not keep the store's reads waiting.
        self._lookups = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="plait-webhook")
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._opening = asyncio.Lock()
        self._transport: httpx2.AsyncHTTPTransport | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=self._closing_s)
        left = list(self._sending)
        for one in left:
            one.cancel()
        if left:
            await asyncio.wait(left)
            logger.warning("webhooks that were not sent, since the server ends: %d", len(left))
        if self._transport is not None:
            await self._transport.aclose()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def tell(self, run: RunRecord, *, values: object = None, started_at: float | None = None) -> None:
        """Tell the run's webhook, if it has one, how it ended: soon, returns at once.

        What is sent is what the Agent Server sends: the run, `values`, `error` where there is one, `run_started_at`
        (None for a run that was cancelled before its turn), `run_ended_at` and `webhook_sent_at`.
        """
        url = run.kwargs.get("webhook")
        if not isinstance(url, str):
            return
        if len(self._sending) >= _PENDING:
            logger.error("webhook of run %s: dropped, since %d wait already", run.run_id, _PENDING)
            return
        payload = _payload(run, values, started_at)
        found = asyncio.create_task(self._deliver(url, payload, run.run_id), name=f"plait webhook {run.run_id}")
        self._sending.add(found)
        found.add_done_callback(self._sending.discard)

    async def settled(self) -> None:
        """Wait until everything is sent, or given up."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def _deliver(self, url: str, payload: Mapping[str, object], run_id: str) -> None:
        try:
            target = target_of(url, self._hosts)
            body = dumps({**payload, "webhook_sent_at": iso(time.time())})
            why = await self._attempt(target, body)
            for wait_s in _WAITS_S:
                if why is None:
                    return
                logger.info("webhook of run %s to %s: %s; again in %g s", run_id, target.host, why, wait_s)
                await self._clock.sleep(wait_s + self._clock.uniform(0.5))
                why = await self._attempt(target, body)
            if why is not None:
                logger.error("webhook of run %s to %s: given up: %s", run_id, target.host, why)
        except (InputError, _Refused) as error:
            logger.error("webhook of run %s: not sent: %s", run_id, error)
        except Exception:
            logger.exception("webhook of run %s: not sent", run_id)

    async def _attempt(self, target: Target, body: bytes) -> str | None:
        """None where it was taken, else what went wrong, if another attempt may help. Raises _Refused otherwise."""
        async with self._slots:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    status = await self._post(target, body)
            except (httpx2.TransportError, OSError) as error:
                return f"{type(error).__name__}: {error}".removesuffix(": ")
        if 200 <= status < 300:
            return None
        if status == 429 or status >= 500:
            return f"it answered {status}"
        hint = " (redirects are not followed)" if 300 <= status < 400 else ""
        raise _Refused(f"{target.host} answered {status}{hint}")

    async def _post(self, target: Target, body: bytes) -> int:
        transport = await self._opened()
        failure: Exception = OSError(f"{target.host} has no address")
        for address in await self._addresses(target):
            request = _request(target, address, body)
            try:
                response = await transport.handle_async_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
                continue
            # The status is all that matters; a body may have no end.
            await response.aclose()
            return response.status_code
        raise failure

    async def _addresses(self, target: Target) -> Sequence[str]:
        """The addresses to connect to, all of them checked: a name that is looked up again may stand for others."""
        found = [target.literal] if target.literal else list(await self._resolve(target.host, target.port))
        if not target.allowed and (inner := [one for one in found if not is_public(one)]):
            raise _Refused(f"{target.host} stands for {inner[0]}, which is not public; see plait serve --webhook-host")
        return found[:_ADDRESSES]

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._lookups, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def _opened(self) -> httpx2.AsyncHTTPTransport:
        async with self._opening:
            if self._transport is None:
                certificates = await asyncio.to_thread(httpx2.create_ssl_context)
                # No connection is used twice: an address may serve many names, each with its own certificate. And no
                # proxy: it would look the name up again.
                limits = httpx2.Limits(max_connections=_AT_ONCE, max_keepalive_connections=0)
                self._transport = httpx2.AsyncHTTPTransport(verify=certificates, trust_env=False, limits=limits)
            return self._transport


class _Refused(Exception):
    """It makes no sense to try again."""


def _request(target: Target, address: str, body: bytes) -> httpx2.Request:
    """A POST to an address, which is otherwise a request to the target's name."""
    timeout = httpx2.Timeout(_TIMEOUT_S, connect=_CONNECT_S)
    return httpx2.Request(
        "POST",
        target.at(address),
        headers={"Host": target.url.netloc.decode("ascii"), "Content-Type": "application/json", "User-Agent": "plait"},
        content=body,
        extensions={
            "sni_hostname": target.literal or target.host,
            "timeout": timeout.as_dict(),
            # Past the gate, whatever the path is called: see plait.flow.exchange.is_marked.
            "plait": True,
        },
    )


def _payload(run: RunRecord, values: object, started_at: float | None) -> dict[str, object]:
    now = iso(time.time())
    found: dict[str, object] = {
        **run_json(run),
        "updated_at": now,
        "run_started_at": None if started_at is None else iso(started_at),
        "run_ended_at": now,
        "values": values,
    }
    return {**found, "error": run.error} if run.error else found

"""An OpenAI-compatible provider on loopback, with the limits, latencies and faults of real ones.

    async with Simulator(Profile(rpm=600)) as simulator:     # in the running loop
    with running(Profile(rpm=600)) as simulator:             # in a thread of its own: sync clients, subprocesses

`simulator.base_url` ends in /v1; the Anthropic SDK wants `simulator.origin`. Every model answers
"Answer to: <last user message>", a JSON value where a schema is asked for, a tool call where one is forced, unless
`answer` says otherwise. Tokens are words. On one core it answers over 10,000 plain requests a second
(`python -m benchmarks simulator`), which is well above what one client process can send.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from plait.errors import SettingsError
from plait.simulator.answers import Answering
from plait.simulator.behaviours import Behaviour, Body, Request
from plait.simulator.clocks import Clock
from plait.simulator.controls import control
from plait.simulator.counters import Counters
from plait.simulator.desks import Desk, read
from plait.simulator.profiles import Profile
from plait.simulator.waits import PATIENCE_S, Waits

_MOST_REQUESTS = 10_000


class Simulator:
    """The server; see the module's docstring.

    `record` keeps the latest requests (5,000 at least) in `requests`; turn it off for long loads with large bodies.
    `port` 0 is one that is free. Entering raises SettingsError where the address cannot be listened at.
    """

    def __init__(
        self,
        profile: Profile | None = None,
        *,
        answer: Answering | None = None,
        clock: Clock | None = None,
        record: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.clock = clock or Clock()
        self.requests: list[Request] = []
        self._desk = Desk(profile or Profile(), self.clock, answer)
        self._record = record
        self._host = host
        self._port = port
        self._runner: web.ServerRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waits: Waits | None = None

    @property
    def origin(self) -> str:
        """Without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def base_url(self) -> str:
        """What OPENAI_BASE_URL wants."""
        return f"{self.origin}/v1"

    @property
    def profile(self) -> Profile:
        """How requests are treated now; `change` changes it."""
        return self._desk.profile

    @property
    def counters(self) -> Counters:
        """What came in and what became of it."""
        return self._desk.counters

    @property
    def in_flight(self) -> int:
        """Requests that are here now."""
        return self.counters.in_flight

    @property
    def peak(self) -> int:
        """The most that were here at once."""
        return self.counters.peak

    @property
    def closed_early(self) -> int:
        """Requests whose client left before the end."""
        return self.counters.closed_early

    # --- its life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._waits = Waits(self.counters, self._loop)
        self._desk.changed = self._waits.look
        listener = _listen(self._host, self._port)
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        # 0 would mean "wait for ever for open requests" to aiohttp.
        self._runner = web.ServerRunner(server, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.SockSite(self._runner, listener, backlog=2048).start()
        self._port = listener.getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._desk.closing = True
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        raw = await http.content.read()
        if http.path.startswith("/simulator/"):
            return control(self, http.method, http.path, raw)
        request = read(http, raw)
        if self._record:
            self.requests.append(request)
            if len(self.requests) > _MOST_REQUESTS:
                del self.requests[: _MOST_REQUESTS // 2]
        counters, waits = self.counters, self._running_waits()
        counters.received += 1
        counters.in_flight += 1
        counters.peak = max(counters.peak, counters.in_flight)
        waits.look()
        try:
            return await self._desk.treat(http, request, raw)
        except (asyncio.CancelledError, ConnectionError):
            counters.closed_early += not self._desk.closing
            raise
        finally:
            counters.in_flight -= 1
            waits.look()

    # --- changing it while it runs -----------------------------------------------------------------

    def change(self, **changes: Any) -> None:
        """Replace settings of the profile, from any thread: `change(rpm=300)`. What is used of a limit stays used.

        Raises SettingsError for an unknown name or a bad value, and changes nothing then.
        """
        profile = self.profile.but(**changes)
        self._on_loop(lambda: self._desk.change(profile))

    def reset(self) -> None:
        """Counters at nothing, limits rested, no body seen, nothing cached or recorded; from any thread."""

        def clear() -> None:
            self.counters.clear()
            self.requests.clear()
            self._desk.forget()

        self._on_loop(clear)

    @property
    def answer(self) -> Answering | None:
        """What the model says: request body -> text."""
        return self._desk.answering

    @answer.setter
    def answer(self, found: Answering | None) -> None:
        self._desk.answering = found

    def script(self, *steps: Behaviour) -> None:
        """Queue behaviours; each is used by one request, in order of arrival, before `behave` is asked."""
        self._desk.script.extend(steps)

    @property
    def behave(self) -> Callable[[Body, int], Behaviour | None] | None:
        """Asked when the script is empty: (body, index of the request from 0) -> Behaviour; None: chance decides."""
        return self._desk.behave

    @behave.setter
    def behave(self, found: Callable[[Body, int], Behaviour | None] | None) -> None:
        self._desk.behave = found

    @property
    def gate(self) -> asyncio.Event | None:
        """While unset, no model call is answered; `open_gate` sets it from any thread."""
        return self._desk.gate

    @gate.setter
    def gate(self, found: asyncio.Event | None) -> None:
        self._desk.gate = found

    def close_gate(self) -> None:
        """From now on requests pile up, until `open_gate`."""
        self.gate = asyncio.Event()

    def open_gate(self) -> None:
        """Let all requests through that wait at the gate, from any thread."""
        if self.gate is not None:
            self.release(self.gate)

    def release(self, event: asyncio.Event) -> None:
        """Set an event that requests are held by, from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(event.set)

    def _on_loop(self, work: Callable[[], None]) -> None:
        loop = self._loop
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if loop is None or not loop.is_running() or here is loop:
            work()
            return

        async def run() -> None:
            work()

        asyncio.run_coroutine_threadsafe(run(), loop).result(PATIENCE_S)

    # --- waiting for what clients do; usable from any loop -----------------------------------------

    async def reach(self, reached: Callable[[Counters], bool]) -> None:
        """Wait until the counters are so."""
        await self._running_waits().reach(reached)

    async def arrived(self, count: int) -> None:
        """Wait until `count` requests are in flight at once."""
        await self.reach(lambda found: found.in_flight >= count)

    async def received(self, count: int) -> None:
        """Wait until `count` requests have come in since the start."""
        await self.reach(lambda found: found.received >= count)

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        await self.reach(lambda found: found.in_flight == 0)

    def wait_received(self, count: int) -> None:
        """`received` for a thread without a loop (only with `running`)."""
        self._running_waits().reach_from_thread(lambda found: found.received >= count)

    def wait_arrived(self, count: int) -> None:
        """`arrived` for a thread without a loop (only with `running`)."""
        self._running_waits().reach_from_thread(lambda found: found.in_flight >= count)

    def _running_waits(self) -> Waits:
        if self._waits is None:
            raise RuntimeError("the simulator does not run: enter it with `async with`, or use running()")
        return self._waits


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"cannot listen at {host} port {port}: {why.lower()}; another port may be free") from None


@contextmanager
def running(
    profile: Profile | None = None,
    *,
    answer: Answering | None = None,
    clock: Clock | None = None,
    record: bool = True,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Generator[Simulator]:
    """A simulator in a thread and loop of its own, stopped at the end of the block; arguments as for `Simulator`."""
    simulator = Simulator(profile, answer=answer, clock=clock, record=record, host=host, port=port)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        try:
            await simulator.__aenter__()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            started.set_exception(error)
            return
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        await simulator.__aexit__(None, None, None)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="simulator", daemon=True)
    thread.start()
    loop, stop = started.result(PATIENCE_S)
    try:
        yield simulator
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_S)

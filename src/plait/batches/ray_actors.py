"""The worker inside a Ray actor: its loop in a thread of its own, its messages taken and brought by method calls.

This module runs on Ray's machines; it needs nothing of Ray. The actor's own event loop only talks, so that a node which
blocks the worker's does not make the worker look dead.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import platform
import select
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plait.batches.channels import Orders
    from plait.settings import Settings

__all__ = ["RayWorker", "versions"]

_GATHER_S = 0.02
"""Messages are let gather, because each call costs more than each message."""
_POLL_S = 10.0
_ANSWER_BYTES = 4 * 2**20
_UNHEARD_BYTES = 32 * 2**20
"""Of messages that the batch has not taken, before no further row begins."""
_ORPHAN_S = 120.0
"""Without a word from the batch's process, which asks every few seconds: nobody will take the results."""
_HOMES = ("HOME", "PLAIT_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")


def versions() -> dict[str, str]:
    """Of what must be the same on both sides, by name."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"plait": version("plait"), "Python": python, "langgraph": version("langgraph")}


class RayWorker:
    """A worker; all methods are called by the batch that hired it."""

    def __init__(self) -> None:
        self._talk = _ActorTalk()
        self._heard = time.monotonic()
        self._thread: threading.Thread | None = None

    async def greet(self) -> dict[str, str]:
        """Who this is: its versions, and where it runs."""
        return await asyncio.to_thread(versions) | {"host": socket.gethostname(), "pid": str(os.getpid())}

    async def begin(self, orders: bytes, parcel: bytes | None, where: str, batch: int | None) -> None:
        """Begin to work.

        `parcel` is the pickled app, where this machine does not have its folder; `batch` the id of the batch's process,
        where it runs on this machine.
        """
        threading.Thread(target=self._watch, daemon=True, name="plait watch").start()
        if batch is not None and hasattr(os, "pidfd_open"):
            threading.Thread(target=_die_with, args=(batch,), daemon=True, name="plait lifeline").start()
        self._thread = threading.Thread(
            target=self._run, args=(orders, parcel, where), daemon=True, name="plait worker"
        )
        self._thread.start()

    async def tell(self, messages: list[bytes]) -> None:
        """Messages of the batch, in order."""
        self._heard = time.monotonic()
        self._talk.put(messages)

    async def hear(self) -> tuple[list[bytes], str | None]:
        """What there is to say, as soon as there is something; and how the worker ended, once it has."""
        self._heard = time.monotonic()
        return await self._talk.taken()

    async def pulse(self) -> None:
        """Answered by whoever lives."""
        self._heard = time.monotonic()

    def _watch(self) -> None:
        while time.monotonic() - self._heard < _ORPHAN_S:
            time.sleep(1.0)
        os._exit(1)

    def _run(self, orders: bytes, parcel: bytes | None, where: str) -> None:
        # LangChain and LangGraph: not while the actor is to say that it lives.
        from plait.batches.worker import work  # noqa: PLC0415
        from plait.process import run_loop  # noqa: PLC0415

        fate = "it ended by itself"
        try:
            found: Orders = pickle.loads(orders)  # noqa: S301 - from the batch
            logging.getLogger("plait").addHandler(_Voice(self._talk))
            os.environ.update({name: value for name, value in found.environment.items() if name not in os.environ})
            if parcel is not None:
                found = _moved(found, parcel)
            run_loop(self._talk.served(work(self._talk, found, where=where)))
        except BaseException as error:  # noqa: BLE001 - its last words
            traceback.print_exc()
            fate = f"{type(error).__name__}: {error}"
        self._talk.end(fate)


def _die_with(batch: int) -> None:
    # Ray ends the actors of a dead process, too, but a second later: a second of calls that nobody takes.
    with suppress(OSError), open(os.pidfd_open(batch), "rb") as lifeline:
        select.select([lifeline], [], [])
        os._exit(1)


class _ActorTalk:
    """A Talk between the worker's thread and the actor's event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out: deque[bytes] = deque()
        self._unheard = 0
        self._fate: str | None = None
        self._said = asyncio.Event()
        """On the actor's loop."""
        self._actor: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.AbstractEventLoop | None = None
        self._in: asyncio.Queue[object] | None = None
        self._room: asyncio.Event | None = None
        self._early: list[bytes] = []

    async def served(self, working: Coroutine[Any, Any, None]) -> None:
        """Await `working` on this loop, the worker's."""
        with self._lock:
            self._worker, self._in, self._room = asyncio.get_running_loop(), asyncio.Queue(), asyncio.Event()
            early, self._early = self._early, []
        self._receive(early)
        await working

    # --- the worker's side -------------------------------------------------------------------------------

    def send(self, message: object) -> None:
        content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        with self._lock:
            first = not self._out
            self._out.append(content)
            self._unheard += len(content)
        if first:
            self._wake()

    async def flushed(self) -> None:
        assert self._room is not None
        while self._unheard > _UNHEARD_BYTES:
            self._room.clear()
            if self._unheard > _UNHEARD_BYTES:
                await self._room.wait()

    async def receive(self) -> object | None:
        assert self._in is not None
        return await self._in.get()

    def end(self, fate: str) -> None:
        self._fate = fate
        self._wake()

    def _wake(self) -> None:
        actor = self._actor
        if actor is not None:
            actor.call_soon_threadsafe(self._said.set)

    def _receive(self, messages: list[bytes]) -> None:
        assert self._in is not None
        for message in messages:
            self._in.put_nowait(pickle.loads(message))  # noqa: S301 - from the batch

    # --- the actor's side --------------------------------------------------------------------------------

    def put(self, messages: list[bytes]) -> None:
        with self._lock:
            if self._worker is None:
                self._early += messages
                return
        if self._fate is None and not self._worker.is_closed():
            self._worker.call_soon_threadsafe(self._receive, messages)

    async def taken(self) -> tuple[list[bytes], str | None]:
        self._actor = asyncio.get_running_loop()
        self._said.clear()
        if not self._out and self._fate is None:
            try:
                async with asyncio.timeout(_POLL_S):
                    await self._said.wait()
            except TimeoutError:
                return [], None
        if self._fate is None:
            await asyncio.sleep(_GATHER_S)
        fate, found, size = self._fate, [], 0
        with self._lock:
            while self._out and size < _ANSWER_BYTES:
                found.append(self._out.popleft())
                size += len(found[-1])
            self._unheard -= size
            whole = not self._out
        if self._worker is not None and self._room is not None and not self._worker.is_closed():
            self._worker.call_soon_threadsafe(self._room.set)
        return found, fate if whole else None


class _Voice(logging.Handler):
    """Sends warnings to the batch: what a Ray worker prints ends in a file that nobody reads."""

    def __init__(self, talk: _ActorTalk) -> None:
        super().__init__(logging.WARNING)
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        from plait.batches.channels import Said  # noqa: PLC0415 - as above

        self._talk.send(Said(record.levelno, record.getMessage()))


def _moved(orders: Orders, parcel: bytes) -> Orders:
    """Orders for a machine that is not the batch's: with folders of its own."""
    from plait.batches.parcels import Parcel, unpack  # noqa: PLC0415 - as above

    found: Parcel | None = pickle.loads(parcel)  # noqa: S301 - from the batch
    app = unpack(found) if found is not None else None
    return replace(orders, app=app, settings=_at_home(orders.settings))


def _at_home(settings: Settings) -> Settings:
    from plait.settings import from_env  # noqa: PLC0415 - as above

    here = from_env({name: os.environ[name] for name in _HOMES if name in os.environ})
    home = here.home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        import tempfile  # noqa: PLC0415

        home = Path(tempfile.mkdtemp(prefix="plait-home-"))
    return replace(settings, home=home, cache=here.cache)

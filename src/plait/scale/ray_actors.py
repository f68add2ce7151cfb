"""A worker inside a Ray actor: its loop in a thread of its own, its messages taken and brought by method calls.

This module runs on Ray's machines and needs of Ray no more than an address, and nothing of what the worker does: it is
there at once. The actor's own event loop only talks, so that a node which blocks the worker's does not make the worker
look dead.
"""

from __future__ import annotations

import asyncio
import importlib
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
from importlib.metadata import version
from typing import Any

__all__ = ["ActorTalk", "RayWorker", "versions"]

_GATHER_S = 0.02
"""Messages are let gather, because each call costs more than each message."""
_POLL_S = 10.0
_ANSWER_BYTES = 4 * 2**20
_UNHEARD_BYTES = 32 * 2**20
"""Of messages that nobody has taken, before no further row begins."""


def versions() -> dict[str, str]:
    """Of what must be the same on both sides, by name."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"plait": version("plait"), "Python": python, "langgraph": version("langgraph")}


class RayWorker:
    """A worker; all methods are called by whoever hired it."""

    def __init__(self) -> None:
        self._talk = ActorTalk()
        self._heard = time.monotonic()

    async def greet(self) -> dict[str, str]:
        """Who this is: its versions, and where it runs."""
        address = importlib.import_module("ray.util").get_node_ip_address()
        where = {"host": socket.gethostname(), "address": address, "pid": str(os.getpid())}
        return await asyncio.to_thread(versions) | where

    async def begin(self, entry: str, orders: bytes, parcel: bytes | None, batch: int | None, silence_s: float) -> None:
        """Await `entry`, the coroutine function `pkg.module:name`, with an ActorTalk, `orders` and `parcel`.

        `batch` is the id of the batch's process, where that runs on this machine. The process ends after `silence_s`
        without a word from there.
        """
        self._heard = time.monotonic()
        threading.Thread(target=self._watch, args=(silence_s,), daemon=True, name="plait watch").start()
        if batch is not None and hasattr(os, "pidfd_open"):
            threading.Thread(target=_die_with, args=(batch,), daemon=True, name="plait lifeline").start()
        words = (entry, orders, parcel)
        threading.Thread(target=self._run, args=words, daemon=True, name="plait worker").start()

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

    def _watch(self, silence_s: float) -> None:
        # The batch asks several times in it, and gives up who does not answer for as long: the rows go to others then.
        while (left_s := self._heard + silence_s - time.monotonic()) > 0:
            time.sleep(left_s)
        os._exit(1)

    def _run(self, entry: str, orders: bytes, parcel: bytes | None) -> None:
        try:
            import uvloop  # noqa: PLC0415 - where the actor runs, not where it is hired

            module, _, name = entry.partition(":")
            work = getattr(importlib.import_module(module), name)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._talk.served(work(self._talk, orders, parcel)))
        except BaseException as error:  # noqa: BLE001 - its last words
            traceback.print_exc()
            self._talk.end(_fate_of(error))


def _fate_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _die_with(batch: int) -> None:
    # Ray ends the actors of a dead process, too, but a second later: a second of calls that nobody takes.
    with suppress(OSError), open(os.pidfd_open(batch), "rb") as lifeline:
        select.select([lifeline], [], [])
        os._exit(1)


class ActorTalk:
    """A Talk (see plait.batches.channels) between the worker's thread and the actor's event loop."""

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
        """Await `working` on this loop, the worker's, and end with it."""
        with self._lock:
            self._worker, self._in, self._room = asyncio.get_running_loop(), asyncio.Queue(), asyncio.Event()
            early, self._early = self._early, []
        self._receive(early)
        # Not once the loop is closed: that waits for threads, of nodes that timed out as well.
        try:
            await working
        except BaseException as error:
            self.end(_fate_of(error))
            raise
        self.end("it ended by itself")

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
        """Nothing more will be said; the first `fate` counts."""
        self._fate = self._fate or fate
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

"""A batch's end of its talk with a worker in a Ray actor."""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

from plait.batches.workplaces import NO_WORD, NO_WORD_S

__all__ = ["RayLink", "RemoteWorker", "first_words"]

_PULSES = 6
"""Asked for in the time of silence after which a worker is given up."""


class _Method(Protocol):
    def remote(self, *given: object) -> Awaitable[Any]: ...


class RemoteWorker(Protocol):
    """Ray's handle of a `plait.scale.ray_actors.RayWorker`."""

    greet: _Method
    begin: _Method
    tell: _Method
    hear: _Method
    pulse: _Method


class RayLink:
    """A Link to an actor of `plait.scale.ray_actors`; `kill` ends it and may block.

    An actor that does not answer for `silence_s` is given up, as is a worker in it that says nothing for `no_word_s`.
    """

    def __init__(
        self,
        actor: RemoteWorker,
        *,
        kill: Callable[[], None],
        ray_error: type[Exception],
        silence_s: float,
        no_word_s: float = NO_WORD_S,
    ) -> None:
        self._actor = actor
        self._kill = kill
        self._ray_error = ray_error
        self._silence_s = silence_s
        self._no_word_s = no_word_s
        self._in: deque[bytes] = deque()
        self._out: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._sent = asyncio.Event()
        self._fate: str | None = None
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._tasks = [asyncio.create_task(each, name="plait ray") for each in (self._tell(), self._watch())]

    def send(self, message: object) -> None:
        if self._fate is None:
            self._out.append(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))
            self._news.set()

    async def flushed(self) -> None:
        while self._out and self._fate is None:
            self._sent.clear()
            await self._sent.wait()

    async def receive(self) -> object | None:
        until = self._loop.time() + self._no_word_s
        while not self._in and self._fate is None:
            hearing = asyncio.create_task(self._hear(), name="plait ray")
            try:
                left_s = until - self._loop.time()
                await asyncio.wait([hearing, self._lost], timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                hearing.cancel()
            if not self._in and self._loop.time() >= until:
                self.lose(NO_WORD.format(self._no_word_s))  # its actor answers all the while
        if not self._in:
            return None
        message: object = pickle.loads(self._in.popleft())  # noqa: S301 - from our own worker
        return message

    async def dismissed(self) -> str:
        self.lose("it was sent away")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._kill)
        return self._fate or ""

    async def _hear(self) -> None:
        try:
            messages, fate = await self._actor.hear.remote()
        except self._ray_error as error:
            self.lose(first_words(error))
            return
        self._in.extend(messages)
        if fate is not None:
            self.lose(fate)

    async def _tell(self) -> None:
        # One call at a time: the order of calls that are made at once is not Ray's promise.
        while True:
            await self._news.wait()
            self._news.clear()
            messages = list(self._out)
            try:
                await self._actor.tell.remote(messages)
            except self._ray_error as error:
                self.lose(first_words(error))
                return
            for _ in messages:
                self._out.popleft()
            self._sent.set()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._silence_s / _PULSES)
            try:
                async with asyncio.timeout(self._silence_s):
                    await self._actor.pulse.remote()
            except TimeoutError:
                self.lose(f"no answer for {self._silence_s:g} s")
                return
            except self._ray_error as error:
                self.lose(first_words(error))
                return

    async def left(self, fate: str, *, last: object, within_s: float) -> None:
        """Give the worker up, after a `last` message where it can be had in time; `fate` says why."""
        self.send(last)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.flushed()
        self.lose(fate)

    def lose(self, fate: str) -> None:
        """Give the worker up; `fate` says why."""
        self._fate = self._fate or fate
        self._sent.set()
        if not self._lost.done():
            self._lost.set_result(None)


def first_words(error: BaseException) -> str:
    """The line of one of Ray's errors that says what happened; of an actor's death the first sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(_TELLING)]
    words = telling[-1] if telling else lines[0] if lines else type(error).__name__
    return words.partition(". ")[0] if words.startswith("The actor") else words


_TELLING = (
    "ModuleNotFoundError",
    "ImportError",
    "The actor is dead",
    "The actor died because",
    "RuntimeError",
    "Exception",
)

"""Waiting for what clients do, from any loop or thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from plait.simulator.counters import Counters

PATIENCE_S = 60.0
"""How long a wait lasts before it gives up."""


class Waits:
    """Conditions on the counters of a simulator that runs in `loop`. They raise TimeoutError after PATIENCE_S."""

    def __init__(self, counters: Counters, loop: asyncio.AbstractEventLoop) -> None:
        self._counters = counters
        self._loop = loop
        self._waiting: list[tuple[Callable[[Counters], bool], asyncio.Future[None]]] = []

    def look(self) -> None:
        """To be called when the counters have changed."""
        for waiter in [each for each in self._waiting if each[0](self._counters)]:
            self._waiting.remove(waiter)
            if not waiter[1].done():
                waiter[1].set_result(None)

    async def reach(self, reached: Callable[[Counters], bool]) -> None:
        """Wait until it is so; from any loop."""
        if asyncio.get_running_loop() is not self._loop:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.reach(reached), self._loop))
            return
        if reached(self._counters):
            return
        waiter = (reached, self._loop.create_future())
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await waiter[1]
        except TimeoutError:
            found = self._counters
            raise TimeoutError(
                f"the simulator waited {PATIENCE_S:.0f} s; it received {found.received} requests, "
                f"{found.in_flight} are in flight, the peak was {found.peak}"
            ) from None
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def reach_from_thread(self, reached: Callable[[Counters], bool]) -> None:
        """`reach` for a thread without a loop; never on the simulator's own."""
        asyncio.run_coroutine_threadsafe(self.reach(reached), self._loop).result(PATIENCE_S + 1)

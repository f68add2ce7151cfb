"""Kills servers with runs in flight, starts them again, and holds what came of it against what was promised."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from plait.simulator import Profile, running
from tests.reliability.service_checks import (
    Calls,
    Ledger,
    all_end,
    check_ends,
    check_states,
    check_streams,
    check_turns,
    count_open,
    known,
    runs_in,
)
from tests.reliability.service_clients import Clients
from tests.reliability.service_graphs import CALLS
from tests.reliability.service_processes import PATIENCE_S, Servers
from tests.servers import Server

_STOPPED_S = 12.0
"""Longer than a server may be silent before others take its runs over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is killed, how often, with how many runs that are not over."""

    runs: int
    seed: int
    kills: int = 1
    servers: int = 1
    keep: int = 1
    """Servers are started after a kill until there are so many."""
    latency_s: float = 0.1
    """The provider's."""
    stop: bool = False
    """Stop a server for a while (SIGSTOP) in place of killing it."""
    outage: float | None = None
    """Stop the database for so many seconds in place of a server."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """What came of it."""

    runs: int = 0
    kills: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    needed: int = 0
    """Calls of uninterrupted runs."""
    received: int = 0
    """Requests at the provider."""
    in_flight: int = 0
    """Calls that were sent and not kept when their server died, and paid again."""
    events: int = 0
    """Of resumable streams, each read once."""
    seconds: float = 0.0


def kill_servers(folder: Path, plan: Plan, *, database: Server | None = None) -> Figures:
    """Let clients ask, kill a server at a random moment, start another one, as often as the plan says; check it all.

    The servers' store is in the PostgreSQL `database`, else in a file.
    """
    began, calls = time.monotonic(), Calls()
    profile = Profile(latency_s=plan.latency_s, latency_law="lognormal", gap_s=0.02, seed=plan.seed)
    with running(profile, answer=calls.answer, record=False) as provider:
        provider.behave = calls.note
        address = database.url if database is not None else None
        with Servers(folder, provider, "--grace", "1s", address=address) as servers:
            ledger = Ledger(calls, servers.address)
            attack = Attack(servers, ledger, random.Random(plan.seed), plan, database)
            figures = asyncio.run(_attacked(servers, attack, plan))
            figures.received = provider.counters.received
            _check(figures, servers, ledger, plan)
    figures.seconds = time.monotonic() - began
    return figures


async def _attacked(servers: Servers, attack: Attack, plan: Plan) -> Figures:
    await asyncio.gather(*(asyncio.to_thread(servers.start) for _ in range(plan.servers)))
    async with Clients(servers, plan.seed) as clients:
        for _ in range(plan.kills):
            clients.ask(plan.runs - await asyncio.to_thread(count_open, servers.address))
            await attack.moment()
            await attack.strike()
        await clients.done()
        await all_end(servers.address)
        await check_states(clients)
        known(clients.asked, await asyncio.to_thread(runs_in, servers.address))
        return Figures(kills=plan.kills, events=await check_streams(clients))


class Attack:
    """Kills and stops servers; `ledger` is closed whenever none is left."""

    def __init__(
        self, servers: Servers, ledger: Ledger, chance: random.Random, plan: Plan, database: Server | None
    ) -> None:
        self._servers = servers
        self._provider = servers.provider
        self._database = database
        self._ledger = ledger
        self._chance = chance
        self._plan = plan
        self._deaths = 0
        self._cuts = 0

    async def moment(self) -> None:
        """Return at a random moment of the runs that were asked for last."""
        counters = self._provider.counters
        target = counters.received + self._chance.uniform(0.1, 0.9) * CALLS * self._plan.runs
        # Not for ever: less may be needed than was counted on.
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S / 6):
                await self._provider.reach(lambda found: found.received >= target)
        await asyncio.sleep(self._chance.uniform(0.0, 0.05))

    async def strike(self) -> None:
        """What the plan says."""
        if self._plan.outage is not None:
            await self.cut()
        elif self._plan.stop:
            await self.stop()
        else:
            await self.kill()

    async def cut(self) -> None:
        """Stop the database, in good order and by kill -9 in turn, and start it again after a while."""
        assert self._database is not None
        assert self._plan.outage is not None
        self._cuts += 1
        await asyncio.to_thread(self._database.stop, kill=self._cuts % 2 == 0)
        await asyncio.sleep(self._plan.outage)
        await asyncio.to_thread(self._database.start)

    async def kill(self) -> None:
        """kill -9 one of them, and start as many as are to be kept."""
        await asyncio.to_thread(self._servers.kill, self._chance.choice(self._servers.running))
        self._deaths += 1
        if not self._servers.running:
            await self._provider.idle()
            await asyncio.to_thread(self._ledger.close, self._deaths)
            self._deaths = 0
        while len(self._servers.running) < self._plan.keep:
            await asyncio.to_thread(self._servers.start)

    async def stop(self) -> None:
        """Let one sleep until others have taken its runs over, and wake it up."""
        victim = self._servers.running.pop(0)
        victim.signal(signal.SIGSTOP)
        await asyncio.sleep(_STOPPED_S)
        victim.signal(signal.SIGCONT)
        self._servers.running.append(victim)


def _check(figures: Figures, servers: Servers, ledger: Ledger, plan: Plan) -> None:
    figures.statuses = check_ends(servers.address)
    figures.runs = figures.statuses.total()
    figures.needed = CALLS * figures.runs
    figures.in_flight = figures.received - figures.needed
    ledger.check()
    if plan.servers == plan.keep == 1 and not plan.stop:
        ledger.check_lost()
    if not plan.stop:
        check_turns(servers.notes)

"""The replica in the kill matrix: a server of a shared store dies, and another one finishes what it ran."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

from plait.simulator import Profile, running
from tests.reliability.cluster_attacks import Figures
from tests.reliability.service_checks import OVER, Calls, Ledger, all_end, check_ends, check_streams, runs_in
from tests.reliability.service_clients import Clients
from tests.reliability.service_graphs import AT_ONCE, CALLS
from tests.reliability.service_processes import Servers
from tests.servers import postgres_server

_LATENCY_S = 0.2
_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """Two servers on one PostgreSQL, one of which is killed and replaced, again and again."""

    runs: int
    """That are not over at each kill."""
    kills: int
    seed: int
    limit_s: float = 15.0
    """So long after a kill the runs that were under way are over, their own calls included."""
    part: str = "replica"
    where: str = "plait serve, 2 on PostgreSQL"


def attacked_replicas(folder: Path, scenario: Replicas) -> Figures:
    """Play it through; what was not kept is said in the figures' `violation`. A row is a run here."""
    figures = Figures(part=scenario.part, where=scenario.where, rows=0, limit_s=scenario.limit_s)
    folder.mkdir(parents=True)
    calls, began = Calls(), time.monotonic()
    profile = Profile(latency_s=_LATENCY_S, latency_law="lognormal", gap_s=0.02, seed=scenario.seed)
    with postgres_server() as database, running(profile, answer=calls.answer, record=False) as provider:
        provider.behave = calls.note
        with Servers(folder, provider, "--grace", "1s", address=database.url) as servers:
            try:
                asyncio.run(_kill(servers, calls, scenario, figures))
            except (AssertionError, TimeoutError) as error:
                figures.violation = str(error) or "waited in vain"
        figures.received = provider.counters.received
    figures.seconds = time.monotonic() - began
    return figures


async def _kill(servers: Servers, calls: Calls, scenario: Replicas, figures: Figures) -> None:
    chance, ledger = random.Random(scenario.seed), Ledger(calls, servers.address)
    await asyncio.gather(*(asyncio.to_thread(servers.start) for _ in range(2)))
    async with Clients(servers, scenario.seed) as clients:
        for _ in range(scenario.kills):
            under_way = servers.provider.counters.received + scenario.runs
            clients.ask(scenario.runs)
            await servers.provider.received(under_way)
            await asyncio.sleep(chance.uniform(0.0, _LATENCY_S))
            await asyncio.to_thread(servers.kill, chance.choice(servers.running))
            figures.kills += 1
            await _finished(servers, figures)
            await asyncio.to_thread(servers.start)
        await clients.done()
        await all_end(servers.address)  # some clients wait for no answer
        await check_streams(clients)
    ends = await asyncio.to_thread(check_ends, servers.address)
    await asyncio.to_thread(ledger.check)
    assert ends == {"success": ends.total()}, f"runs ended as {dict(ends)}"
    figures.rows = len(calls.asked)  # stateless runs are removed a minute after their end
    figures.needed = CALLS * figures.rows
    attempts = sum(run.attempt - 1 for run in await asyncio.to_thread(runs_in, servers.address))
    figures.in_flight = AT_ONCE * attempts


async def _finished(servers: Servers, figures: Figures) -> None:
    """Wait until the runs that a server had begun when one of them died are over."""
    at = time.monotonic()
    found = await asyncio.to_thread(runs_in, servers.address)
    begun = {run.run_id for run in found if run.status == "running"}
    while begun:
        took_s = time.monotonic() - at
        assert took_s <= figures.limit_s, f"{len(begun)} runs are not over {figures.limit_s:g} s after the kill"
        await asyncio.sleep(_POLL_S)
        found = await asyncio.to_thread(runs_in, servers.address)
        begun -= {run.run_id for run in found if run.status in OVER}
    figures.recovered_s = max(figures.recovered_s, time.monotonic() - at)

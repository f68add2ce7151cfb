"""How many requests a second the simulator answers: what a client may be measured against."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from functools import partial

from benchmarks.load import answers_per_second
from benchmarks.measure import interleave, print_ratios
from plait.simulator import Profile, running

ROUNDS = 5
CONNECTIONS = 64
SECONDS = 2.0
PEER = "no limits"
PROFILES = {
    PEER: Profile(),
    "four limits": Profile(rpm=6e6, tpm=6e8, rpd=10**9, tpd=10**12),
    "every request refused": Profile(rpm=1, burst=1),
}


def main() -> None:
    """Print answers a second, plain chat completions, the load coming from another process."""
    print(f"answers per second over {CONNECTIONS} connections; one process of AsyncOpenAI sends 360 to 700")
    subjects = {name: partial(rate, profile) for name, profile in PROFILES.items()}
    print_ratios(interleave(subjects, rounds=ROUNDS), PEER, unit="/s", scale=1)


def rate(profile: Profile) -> float:
    """One measurement with a fresh simulator."""
    with running(profile, record=False) as simulator, multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(load, (int(simulator.origin.rpartition(":")[2]),))


def load(port: int) -> float:
    """In the process of the load."""
    time.sleep(0.1)  # the other side's garbage of the start
    return asyncio.run(answers_per_second(port, connections=CONNECTIONS, seconds=SECONDS))

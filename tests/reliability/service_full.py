"""The full form of the service's reliability tests, whose figures stand in docs/reliability.md: `make reliability`."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from tests.reliability.service_kills import Figures, Plan, kill_servers
from tests.servers import postgres_server

SEED = 1
PLANS = {
    "one server, killed": Plan(runs=100, kills=25, seed=SEED),
    "two servers, one of them killed": Plan(runs=100, kills=15, seed=SEED, servers=2, keep=2),
    "two servers, then one, then none": Plan(runs=100, kills=10, seed=SEED, servers=2),
    "two servers, one of them asleep": Plan(runs=60, kills=3, seed=SEED, servers=2, stop=True, latency_s=1.0),
}

ON_POSTGRES = {
    "two on PostgreSQL, one of them killed": Plan(runs=100, kills=15, seed=SEED, servers=2, keep=2),
    "three on PostgreSQL, then two, one, none": Plan(runs=100, kills=10, seed=SEED, servers=3),
    "two on PostgreSQL, one of them asleep": Plan(runs=60, kills=3, seed=SEED, servers=2, stop=True, latency_s=1.0),
    "two; PostgreSQL is stopped or killed, for 3 s": Plan(runs=60, kills=8, seed=SEED, servers=2, keep=2, outage=3.0),
}


def main() -> None:
    """Run everything; writes Markdown, raises AssertionError where something was lost, paid twice or told twice."""
    logging.getLogger("aiohttp.server").disabled = True  # clients that are killed are no news
    _say(f"Seed {SEED}.\n")
    _say("| servers | kills | runs | success | given up | calls needed | requests received | events read once | s |")
    _say("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for number, (words, plan) in enumerate([*PLANS.items(), *ON_POSTGRES.items()]):
            folder = Path(name) / str(number)
            folder.mkdir()
            if words in PLANS:
                _say(_line(words, kill_servers(folder, plan)))
                continue
            with postgres_server() as database:
                _say(_line(words, kill_servers(folder, plan, database=database)))


def _line(words: str, found: Figures) -> str:
    numbers = (
        found.kills,
        found.runs,
        found.statuses["success"],
        found.statuses["error"],
        found.needed,
        found.received,
        found.events,
    )
    return f"| {words} | {' | '.join(f'{number:,}' for number in numbers)} | {found.seconds:.0f} |"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

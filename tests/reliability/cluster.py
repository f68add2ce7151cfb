"""The kill matrix of `make reliability`: each part of a cluster is killed in turn while a batch runs on it.

    python -m tests.reliability.cluster [--rows 20000] [--only WORD ...] [--seed N] [--json FILE]

Real processes, PostgreSQL, Redis and Ray on this machine. Prints a line a scenario and a table at the end; exit code 1
where a promise was not kept.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest

from tests.reliability import cluster_strikes as strikes
from tests.reliability.cluster_attacks import Figures, Scenario, attacked
from tests.reliability.cluster_grounds import Needs
from tests.reliability.cluster_replicas import Replicas, attacked_replicas

ROWS = 20_000
SEED = 1
DRIVER_S, WORKER_S, SERVER_S, RAYLET_S, HEAD_S = 30.0, 15.0, 60.0, 30.0, 90.0
"""Limits, in s; of what must be started again, beyond the time of a first start. A batch whose cluster is gone looks
for places on it for 60 s (--ray-timeout) before it pauses."""


def scenarios(rows: int, seed: int) -> list[Scenario]:
    """The matrix; scenarios with Ray take a fifth of the rows, since each of their blows costs many seconds."""
    plain = Needs(rows=rows, seed=seed)
    two = replace(plain, workers=2)
    kept = replace(two, postgres=True)
    ray = replace(kept, rows=max(rows // 5, min(rows, 400)), nodes=1)
    return [*_of_drivers((plain, two, kept)), *_of_workers(two, kept), *_of_servers(two, kept), *_of_ray(ray)]


def _of_drivers(all_needs: Sequence[Needs]) -> list[Scenario]:
    return [
        Scenario(
            part="driver",
            where=_where(needs),
            strike=strikes.driver,
            needs=needs,
            kills=5,
            limit_s=DRIVER_S,
            starts=True,
        )
        for needs in all_needs
    ]


def _of_workers(*all_needs: Needs) -> list[Scenario]:
    return [
        Scenario(part="worker", where=_where(needs), strike=strikes.worker, needs=needs, kills=3, limit_s=WORKER_S)
        for needs in all_needs
    ]


def _where(needs: Needs) -> str:
    return ("PostgreSQL" if needs.postgres else "SQLite") + (f", {needs.workers} workers" if needs.workers > 1 else "")


def _of_servers(two: Needs, kept: Needs) -> list[Scenario]:
    store, budget = "the store of 2 workers", "the budget of 2 workers"
    shared = replace(two, redis=True)
    blows = (
        ("PostgreSQL, restarted", store, strikes.postgres_restarted, kept),
        ("PostgreSQL, killed", store, strikes.postgres_killed, kept),
        ("Redis, restarted", budget, strikes.redis_restarted, shared),
        ("Redis, killed", budget, strikes.redis_killed, shared),
    )
    return [
        Scenario(part=part, where=where, strike=strike, needs=needs, kills=3, limit_s=SERVER_S, free=True)
        for part, where, strike, needs in blows
    ]


def _of_ray(ray: Needs) -> list[Scenario]:
    words = "PostgreSQL, Ray, 2 workers"
    local = replace(ray, nodes=0, local_ray=True, postgres=False)
    killed = partial(Scenario, limit_s=RAYLET_S)
    return [
        killed(part="worker", where=words, strike=strikes.ray_worker, needs=ray, kills=3),
        killed(part="driver", where=words, strike=strikes.driver, needs=ray, kills=3, starts=True),
        killed(part="driver", where="SQLite, --ray local", strike=strikes.driver, needs=local, kills=2, starts=True),
        killed(
            part="raylet of another node",
            where=words,
            strike=strikes.raylet,
            needs=replace(ray, nodes=2),
            kills=2,
            mend=strikes.another_node,
        ),
        killed(
            part="raylet of the driver's node",
            where=words,
            strike=strikes.head,
            needs=ray,
            kills=1,
            limit_s=HEAD_S,
            starts=True,
            pauses=True,
        ),
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Play all scenarios, or those whose names have one of the words in them; 1 where one of them fails."""
    parser = argparse.ArgumentParser(description="Kill each part of a cluster in turn while a batch runs on it.")
    parser.add_argument("--rows", type=int, default=ROWS, help="of a batch; those on Ray take a fifth")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="scenarios with this in their name")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    given = parser.parse_args(words)
    logging.getLogger("aiohttp.server").disabled = True  # clients that are killed are no news
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # servers and clusters end, too
    matrix: list[Scenario | Replicas] = [
        *scenarios(given.rows, given.seed),
        Replicas(runs=100, kills=5, seed=given.seed),
    ]
    chosen = [
        each
        for each in matrix
        if not given.only or any(word.lower() in f"{each.part}, {each.where}".lower() for word in given.only)
    ]
    found: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="plait-matrix-") as name:
        for number, scenario in enumerate(chosen):
            try:
                figures = _played(Path(name) / str(number), scenario)
            except pytest.skip.Exception as skipped:
                _say(f"{scenario.part} ({scenario.where}): not tried: {skipped}")
                continue
            found.append(figures)
            _say(_line(figures))
    _say(f"\nSeed {given.seed}.\n\n{table(found)}")
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n", encoding="utf-8")
    return int(any(each.violation for each in found))


def _played(folder: Path, scenario: Scenario | Replicas) -> Figures:
    return attacked_replicas(folder, scenario) if isinstance(scenario, Replicas) else attacked(folder, scenario)


def _line(found: Figures) -> str:
    verdict = f"VIOLATED: {found.violation}" if found.violation else "kept"
    return (
        f"{found.part} ({found.where}): {found.rows:,} rows, {found.kills} blows, {found.resumed} resumes, "
        f"{found.paid_again:,} calls paid again of {found.in_flight:,} in flight, back within "
        f"{found.recovered_s:.1f} s of {found.limit_s:g} s, {found.seconds:.0f} s: {verdict}"
    )


def table(found: Sequence[Figures]) -> str:
    """As Markdown."""
    lines = [
        "| killed | batch | rows | blows | calls needed | paid again | in flight | back within (limit), s | s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.part} | {each.where} | {each.rows:,} | {each.kills} | {each.needed:,} | {each.paid_again:,} | "
        f"{each.in_flight:,} | {each.recovered_s:.1f} ({each.limit_s:g}) | {each.seconds:.0f} |"
        + (" VIOLATED" if each.violation else "")
        for each in found
    ]
    return "\n".join(lines)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

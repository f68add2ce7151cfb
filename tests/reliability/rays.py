"""Batches on a Ray cluster whose parts are killed: workers, the process of the batch, a node.

The full form: `python -m tests.reliability.rays`.
"""

from __future__ import annotations

import logging
import random
import sys
import tempfile
from pathlib import Path

from tests.ray_clusters import Cluster, ray_cluster
from tests.reliability.kills import Figures, Plan, Victim, kill_again_and_again


def in_turn(cluster: Cluster) -> Victim:
    """A worker, then the batch's process, then a worker again."""
    kills = 0

    def choose(chance: random.Random, pid: int) -> int | None:
        nonlocal kills
        workers = cluster.workers()
        if kills % 2 == 0 and not workers:
            return None
        kills += 1
        return chance.choice(workers) if kills % 2 else pid

    return choose


def kill_on_ray(folder: Path, cluster: Cluster, *, rows: int, kills: int, seed: int) -> Figures:
    """Run a batch with two workers of the cluster to its end, killed and gone on with; check it."""
    return kill_again_and_again(
        folder,
        Plan(rows=rows, kills=kills, seed=seed, workers=2, ray=cluster.address, victim=in_turn(cluster)),
    )


def lose_a_node(folder: Path, *, rows: int, seed: int) -> Figures:
    """Run a batch on two nodes, of which one loses its raylet, and with that all that ran there."""
    with ray_cluster(cpus=1) as cluster:
        cluster.add(cpus=1)

        def raylet(_: random.Random, __: int) -> int | None:
            # Not before a worker may be there, too; the head's is the batch's own.
            return cluster.raylets()[-1] if len(cluster.workers()) == 2 else None

        plan = Plan(rows=rows, kills=1, seed=seed, workers=2, ray=cluster.address, victim=raylet)
        return kill_again_and_again(folder, plan)


def main() -> None:
    """Run the full form; writes figures, raises AssertionError where something was lost or paid twice."""
    logging.getLogger("aiohttp.server").disabled = True  # clients that are killed are no news
    with tempfile.TemporaryDirectory() as name:
        for part in ("kills", "node"):
            Path(name, part).mkdir()
        with ray_cluster(cpus=2) as cluster:
            killed = kill_on_ray(Path(name, "kills"), cluster, rows=600, kills=6, seed=1)
        lost = lose_a_node(Path(name, "node"), rows=300, seed=1)
    for words, figures in (("Ray: a worker and the batch in turn", killed), ("Ray: a node", lost)):
        sys.stdout.write(
            f"| {words} | {figures.rows:,} | {figures.kills} | {figures.needed:,} | {figures.received:,} | "
            f"{figures.bound} | {figures.cut_off} | {figures.seconds:.0f} |\n"
        )


if __name__ == "__main__":
    main()

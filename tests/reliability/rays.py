"""Batches on a Ray cluster whose workers and own processes are killed in turn; tests.reliability.cluster has more."""

from __future__ import annotations

import random
from pathlib import Path

from tests.ray_clusters import Cluster
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

"""Batches on a Ray cluster whose parts are killed: workers, nodes, the process of the batch."""

from __future__ import annotations

import random
from pathlib import Path

from tests.ray_clusters import Cluster
from tests.reliability.kills import Figures, Plan, Victim, coordinator, kill_again_and_again


def any_ray_worker(cluster: Cluster) -> Victim:
    """One of the workers, wherever it runs."""

    def choose(chance: random.Random, _: int) -> int | None:
        found = cluster.workers()
        return chance.choice(found) if found else None

    return choose


def anything_of(cluster: Cluster) -> Victim:
    """The batch's process, or as often a worker."""
    worker = any_ray_worker(cluster)

    def choose(chance: random.Random, pid: int) -> int | None:
        return pid if chance.random() < 0.5 else worker(chance, pid)

    return choose


def kill_on_ray(folder: Path, cluster: Cluster, *, rows: int, kills: int, seed: int, driver: bool = False) -> Figures:
    """Run a batch with two workers of the cluster, some killed, to its end; `driver`: the batch's process alone."""
    victim = coordinator if driver else any_ray_worker(cluster)
    plan = Plan(rows=rows, kills=kills, seed=seed, workers=2, ray=cluster.address, victim=victim)
    return kill_again_and_again(folder, plan)

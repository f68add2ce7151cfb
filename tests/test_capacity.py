"""The simulation of capacity says what can be computed by hand where that is possible, and the same each time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.capacity import Cluster, Costs, simulate

FREE = Costs(worker_s=0.0001)
SMALL = Cluster(machines=1, processes=1, cores=2, in_flight=50, latency_s=0.5)


def test_where_nothing_takes_time_the_provider_alone_bounds_rows() -> None:
    found = simulate(SMALL, FREE)
    assert found.rows_per_s == pytest.approx(SMALL.ideal, rel=0.01)
    assert found.bound == "latency"


def test_a_process_does_no_more_than_its_cpu_allows() -> None:
    found = simulate(SMALL, Costs(worker_s=0.02))
    assert found.rows_per_s == pytest.approx(50, rel=0.02)
    assert found.bound == "workers"
    assert found.busy["cores"] == pytest.approx(0.5, abs=0.02)


def test_processes_share_the_cores_of_their_machine() -> None:
    found = simulate(replace(SMALL, processes=4), Costs(worker_s=0.02))
    assert found.rows_per_s == pytest.approx(100, rel=0.02)
    assert found.bound == "cores"
    assert found.busy["workers"] == pytest.approx(0.5, abs=0.02)


def test_another_machine_brings_its_cores_along() -> None:
    assert simulate(replace(SMALL, machines=3), Costs(worker_s=0.02)).rows_per_s == pytest.approx(150, rel=0.02)


@pytest.mark.parametrize(
    ("costs", "bound", "most"),
    [
        (replace(FREE, store_s=0.005), "store", 200),
        (replace(FREE, driver_s=0.004), "driver", 250),
    ],
)
def test_what_all_share_bounds_all(costs: Costs, bound: str, most: float) -> None:
    found = simulate(replace(SMALL, machines=8), costs)
    assert found.rows_per_s == pytest.approx(most, rel=0.02)
    assert found.bound == bound


def test_a_budget_that_answers_late_holds_rows_back() -> None:
    busy = replace(FREE, exchange_s=0.1, exchanges_per_s=4.0)
    found = simulate(replace(SMALL, machines=8), busy)
    assert found.bound == "budget"
    assert found.rows_per_s < 0.8 * simulate(replace(SMALL, machines=8), FREE).rows_per_s
    assert simulate(SMALL, busy).bound == "latency"


def test_a_wait_for_durability_only_lengthens_rows() -> None:
    found = simulate(SMALL, replace(FREE, commit_s=0.5))
    assert found.rows_per_s == pytest.approx(SMALL.ideal / 2, rel=0.02)
    assert found.bound == "latency"


def test_a_provider_on_the_same_machine_takes_its_part_of_the_cores() -> None:
    cluster = replace(SMALL, processes=2, cores=1)
    assert simulate(cluster, Costs(worker_s=0.005)).rows_per_s == pytest.approx(200, rel=0.02)
    found = simulate(cluster, Costs(worker_s=0.005, provider_s=0.005))
    assert found.rows_per_s == pytest.approx(100, rel=0.02)


def test_latencies_that_scatter_keep_their_mean() -> None:
    found = simulate(replace(SMALL, in_flight=500, sigma=0.5), FREE, seconds=20)
    assert found.rows_per_s == pytest.approx(1000, rel=0.03)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    scattered = replace(SMALL, sigma=0.5)
    assert simulate(scattered, FREE, seed=1) == simulate(scattered, FREE, seed=1)
    assert simulate(scattered, FREE, seed=1) != simulate(scattered, FREE, seed=2)

"""How long runs and nodes took by themselves: what is waiting for a permit, and what is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.datasets.examples import Example
from plait.experiments.evaluators import evaluator
from plait.experiments.evaluators.built_in import latency_s as latency_evaluator
from plait.experiments.latencies import calls_within, latency_s, node_latency_s
from plait.experiments.metrics import node_totals, totals
from plait.experiments.records import CallTrace, ExampleRun, Experiment, NodeTrace


def call(began_s: float, duration_s: float, **waits: float) -> CallTrace:
    return CallTrace(model="m", began_s=began_s, duration_s=duration_s, waits=waits)


def node(branch: str, began_s: float, duration_s: float, *calls: CallTrace) -> NodeTrace:
    name = "/".join(step.partition("@")[0] for step in branch.split("/"))
    return NodeTrace(name=name, branch=branch, began_s=began_s, duration_s=duration_s, calls=calls)


def run_of(duration_s: float, *nodes: NodeTrace) -> ExampleRun:
    return ExampleRun(position=0, example=Example(0, "0", {}), outputs={}, duration_s=duration_s, nodes=nodes)


def of_calls(duration_s: float, calls: Sequence[CallTrace]) -> ExampleRun:
    return run_of(duration_s, node("plan@1", 0.0, duration_s / 2), node("write@2", 0.0, duration_s, *calls))


@pytest.mark.parametrize("cause", ["concurrency", "rpm", "tpm", "quota"])
def test_the_wait_for_a_permit_is_no_part_of_a_runs_latency(cause: str) -> None:
    assert latency_s(of_calls(5.0, [call(1.0, 3.5, **{cause: 2.0})])) == pytest.approx(3.0)


def test_waits_of_several_causes_follow_each_other() -> None:
    assert latency_s(of_calls(5.0, [call(1.0, 4.0, concurrency=1.0, rpm=2.0)])) == pytest.approx(2.0)


def test_failed_attempts_and_pauses_of_the_provider_are_latency() -> None:
    assert latency_s(of_calls(5.0, [call(1.0, 4.0, retry=2.0)])) == 5.0
    assert latency_s(of_calls(5.0, [call(1.0, 4.0, retry=2.0, rpm=1.0)])) == pytest.approx(4.0)


def test_a_wait_beside_a_call_that_is_served_is_latency() -> None:
    served = call(0.0, 3.0)
    assert latency_s(of_calls(6.0, [served, call(0.0, 6.0, concurrency=4.0)])) == pytest.approx(5.0)
    assert latency_s(of_calls(6.0, [served, call(1.0, 3.0, concurrency=2.0)])) == 6.0


def test_calls_that_wait_at_the_same_time_wait_once() -> None:
    both = [call(0.0, 3.0, rpm=2.0), call(1.0, 4.0, rpm=3.0)]
    assert latency_s(of_calls(5.0, both)) == pytest.approx(5.0 - 2.0 - 1.0)


def test_a_wait_longer_than_its_call_or_beyond_the_run_takes_no_more_than_there_is() -> None:
    assert latency_s(of_calls(2.0, [call(0.5, 1.0, rpm=9.0)])) == pytest.approx(1.0)
    assert latency_s(of_calls(2.0, [call(-1.0, 5.0, rpm=4.5)])) == 0.0


def test_a_run_without_traces_took_its_whole_duration() -> None:
    assert latency_s(run_of(2.5)) == 2.5


def test_the_latency_of_a_node_leaves_out_what_nested_nodes_waited_for_and_no_other() -> None:
    outer = node("research@1", 0.0, 4.0)
    nested = node("research@1/search@1", 1.0, 3.0, call(1.0, 3.0, rpm=2.0))
    other = node("write@2", 0.0, 4.0, call(0.0, 4.0, rpm=1.0))
    within = calls_within((outer, nested, other))
    assert node_latency_s(outer, within["research@1"]) == pytest.approx(2.0)
    assert node_latency_s(nested, within["research@1/search@1"]) == pytest.approx(1.0)
    assert node_latency_s(other, within["write@2"]) == pytest.approx(3.0)


def experiment(*runs: ExampleRun) -> Experiment:
    return Experiment(
        id="x", name="x", definition="q", workflow="w", place="x", status="finished", created_at=0.0, runs=runs
    )


async def test_fewer_slots_make_no_run_and_no_node_slower() -> None:
    def run(wait_s: float) -> ExampleRun:
        return run_of(
            1.5 + wait_s,
            node("plan@1", 0.0, 0.5),
            node("write@2", 0.5, 1.0 + wait_s, call(0.5, 1.0 + wait_s, concurrency=wait_s)),
        )

    free, queued = run(0.0), run(9.0)
    for one in (free, queued):
        [score] = await latency_evaluator().score(one)
        assert score.score == pytest.approx(1.5)
        assert totals(experiment(one)).mean_latency_s == pytest.approx(1.5)
        assert node_totals(experiment(one))["write"].mean_latency_s == pytest.approx(1.0)


async def test_executions_of_a_scored_node_at_the_same_time_add_up_without_their_queue() -> None:
    turns = [
        node(f"draft@1[{turn}]", 0.0, 1.0 + turn, call(0.0, 1.0 + turn, concurrency=float(turn))) for turn in range(3)
    ]
    run = run_of(9.0, node("plan@0", 0.0, 9.0), *turns)
    [score] = await evaluator(latency_evaluator(), node="draft").score(run)
    assert score.score == pytest.approx(3.0)


spans = st.lists(
    st.tuples(st.floats(0, 10), st.floats(0, 10), st.floats(0, 10)).map(
        lambda told: call(told[0], told[1], rpm=min(told[1], told[2]))
    ),
    max_size=6,
)


@given(spans, st.floats(0, 25))
def test_a_latency_is_never_below_nothing_nor_above_the_duration(calls: list[CallTrace], duration_s: float) -> None:
    assert 0.0 <= latency_s(of_calls(duration_s, calls)) <= duration_s + 1e-9

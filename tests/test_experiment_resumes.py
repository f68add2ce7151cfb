"""Experiments that go on: what they reuse, what they ask anew, what they have paid; and replays that pay nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from langgraph.graph import START, StateGraph

import plait
from plait.batches import Batch, BatchOptions, OldBatch
from plait.errors import BatchPaused, BudgetReached, InputError, SettingsError
from plait.experiments import Experiment, evaluate
from plait.experiments.openings import NewExperiment, open_experiment, stored_scoring
from plait.experiments.readings import find_experiment
from plait.runs import Graph
from plait.settings import Settings
from plait.simulator import Simulator
from plait.store.folders import FolderShelf
from tests.test_experiments import State, Update, definition, judge, mentions_topic, read, settings, story

__all__ = ["settings"]  # the fixture


def graph_of(name: str, node: Callable[..., object]) -> Graph:
    builder = StateGraph(State)
    builder.add_node(name, node)
    builder.add_edge(START, name)
    return builder.compile(name=name)


async def failed_again(
    name: str, graph: Graph, evaluators: Sequence[Callable[..., object]], settings: Settings
) -> Experiment:
    """The failed and unscored rows of an experiment once more."""
    found = await asyncio.to_thread(find_experiment, FolderShelf(settings.home), name)
    scoring = stored_scoring(found, evaluators)
    old = OldBatch(id=found.id, workflow=graph, errors_only=True, scoring=scoring, settings=settings)
    async for _ in Batch(old):
        pass
    return await read(name, settings=settings)


async def test_a_resume_with_other_bounds_goes_on_reusing(provider: Simulator, settings: Settings) -> None:
    await evaluate(definition(rows=20), name="before", settings=settings)
    paid = provider.counters.accepted
    changed = definition(story("write well"), rows=20)
    slow = settings.override(max_concurrency=1)
    with pytest.raises(BatchPaused):
        await evaluate(changed, name="after", reuse="before", options=BatchOptions(budget_tokens=120), settings=slow)
    await evaluate(changed, name="after", resume=True, options=BatchOptions(budget_tokens=10**6), settings=settings)
    assert provider.counters.accepted - paid == 20


async def test_what_a_resume_replays_of_its_own_counts_as_paid(settings: Settings) -> None:
    found = definition(evaluators=(mentions_topic, judge), rows=20)
    slow = settings.override(max_concurrency=2)
    with pytest.raises(BatchPaused):
        await evaluate(found, name="long", options=BatchOptions(budget_tokens=500), settings=slow)
    experiment = await evaluate(found, name="long", resume=True, options=BatchOptions(), settings=settings)
    compared = plait.compare(experiment, experiment)
    sums = compared.totals_after
    assert (sums.paid_calls, sums.replayed_calls, sums.judge_calls, sums.judge_replayed_calls) == (40, 0, 20, 0)
    assert sum(node.before.paid_calls for node in compared.nodes) == 40


async def test_a_judge_that_swallows_the_end_of_the_budget_gives_no_score(settings: Settings) -> None:
    async def lenient(outputs: Mapping[str, str]) -> float:
        try:
            return await judge(outputs)
        except Exception:  # noqa: BLE001 - as careless as judges are
            return 0.0

    found = definition(evaluators=(lenient,), rows=30)
    bounded = settings.override(max_concurrency=2)
    with pytest.raises(BatchPaused) as paused:
        await evaluate(found, name="long", options=BatchOptions(budget_tokens=700), settings=bounded)
    assert isinstance(paused.value.__cause__, BudgetReached)
    stored = await read("long", settings=settings)
    assert 0 < len(stored.runs) < 30
    assert 0.0 not in {score.score for run in stored.runs for score in run.scores}


async def test_a_cancelled_experiment_ends_while_a_synchronous_judge_asks_on(
    provider: Simulator, settings: Settings
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def asking(outputs: Mapping[str, str]) -> float:
        begun.set()
        try:
            for number in range(3000):
                plait.chat_model().invoke(f"judge {number} {outputs['story']}")
        finally:
            ended.set()
        return 1.0

    running = asyncio.create_task(evaluate(definition(evaluators=(asking,), rows=1), settings=settings))
    await asyncio.to_thread(begun.wait, 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.to_thread(ended.wait, 30)
    assert provider.counters.received < 2000


async def test_a_reused_answer_that_a_node_cannot_use_is_asked_anew(provider: Simulator, settings: Settings) -> None:
    async def write(state: State) -> Update:
        text = (await plait.chat_model(temperature=1).ainvoke(f"as JSON: {state['topic']}")).text
        return {"story": json.loads(text)["story"]}

    def told(outputs: Mapping[str, str]) -> bool:
        return bool(outputs["story"])

    graph = graph_of("write", write)
    await evaluate(definition(graph, evaluators=(told,), rows=2), name="bad", settings=settings)
    paid = provider.counters.received
    await evaluate(definition(graph, evaluators=(told,), rows=2), name="worse", reuse="bad", settings=settings)
    assert provider.counters.received == paid
    provider.answer = lambda body: '{"story": "once"}'
    mended = await failed_again("worse", graph, (told,), settings)
    assert [run.status for run in mended.runs] == ["success"] * 2
    assert provider.counters.received == paid + 2


async def test_an_evaluator_that_failed_is_asked_anew_with_the_failed_rows(
    provider: Simulator, settings: Settings
) -> None:
    async def strict(outputs: Mapping[str, str]) -> bool:
        return bool(json.loads((await plait.chat_model().ainvoke(f"judge {outputs['story']}")).text)["passed"])

    evaluators = (mentions_topic, strict)
    judged = await evaluate(definition(evaluators=evaluators, rows=3), name="judged", settings=settings)
    assert {failure.evaluator for run in judged.runs for failure in run.failures} == {"strict"}
    paid = provider.counters.received
    provider.answer = lambda body: '{"passed": true}'
    experiment = await failed_again("judged", story(), evaluators, settings)
    assert provider.counters.received == paid + 3
    assert [len(run.scores) for run in experiment.runs] == [2, 2, 2]
    assert not [failure for run in experiment.runs for failure in run.failures]


async def test_summary_evaluators_call_models_as_the_runs_do_and_are_paid_once(
    provider: Simulator, settings: Settings
) -> None:
    async def overall(outputs: Sequence[Mapping[str, str]]) -> float:
        stories = " ".join(output["story"] for output in outputs)
        return float(len((await plait.chat_model().ainvoke(f"judge all: {stories}")).text))

    found = replace(definition(rows=3), summary_evaluators=(overall,))
    experiment = await evaluate(found, name="before", settings=settings)
    assert provider.counters.received == 7
    assert {request.body["model"] for request in provider.requests} == {"gpt-4.1-mini"}
    assert experiment.summary_usage["calls"] == 1
    assert plait.compare(experiment, experiment).totals_after.judge_calls == 1
    same = await evaluate(found, name="same", reuse="before", settings=settings)
    assert [score.score for score in same.summary_scores] == [score.score for score in experiment.summary_scores]
    assert provider.counters.received == 7


async def test_a_replay_sends_no_call_of_a_thread_of_its_own(
    provider: Simulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Outside any run's context the environment says what a model is.
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")

    async def aside(state: State) -> Update:
        found: list[str] = []

        def ask() -> None:
            try:
                found.append(plait.chat_model("openai:other").invoke("aside").text)
            except Exception as error:  # noqa: BLE001 - its name is what is looked at
                found.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=ask)
        thread.start()
        await asyncio.to_thread(thread.join)
        return {"story": found[-1]}

    found = definition(graph_of("aside", aside), evaluators=(judge,), rows=1)
    before = await evaluate(found, name="before", settings=settings)
    assert before.runs[0].outputs == {"topic": "topic 0.", "story": "Answer to: aside"}
    paid = provider.counters.received
    wanted = NewExperiment(definition=found, name="again", reuse="before", replay=True, settings=settings)
    async for _ in Batch((await open_experiment(wanted)).batch):
        pass
    assert provider.counters.received == paid
    assert "outside any run's context" in str((await read("again", settings=settings)).runs[0].outputs)


async def test_options_that_contradict_a_replay_are_refused(provider: Simulator, settings: Settings) -> None:
    with pytest.raises(SettingsError, match="recorded_only: expected a journal"):
        BatchOptions(recorded_only=True, journal=False)
    with pytest.raises(InputError, match="expected the experiment to reuse as reuse='x'"):
        await evaluate(definition(), options=BatchOptions(reuse="x"), settings=settings)
    experiment = await evaluate(definition(), name="none", options=BatchOptions(recorded_only=True), settings=settings)
    assert {run.error.type for run in experiment.runs if run.error} == {"CallUnrecorded"}
    assert provider.counters.received == 0

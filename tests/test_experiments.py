"""Experiments: runs traced and scored, reused, resumed and replayed; what evaluators do wrong."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import pytest
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.types import Send

import plait
from plait import experiments
from plait.batches import BatchOptions
from plait.errors import BatchNotFound, BatchPaused, CallRefused, InputError
from plait.experiments import Definition, Experiment, Score, evaluate
from plait.experiments.baselines import read_baseline, write_baseline
from plait.experiments.evaluators import evaluator
from plait.experiments.openings import NewExperiment, open_experiment
from plait.experiments.readings import list_experiments
from plait.exports import export
from plait.runs import Graph
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Body, Simulator
from plait.store.folders import FolderPlace, FolderShelf

if TYPE_CHECKING:
    from plait.experiments.definitions import AnyEvaluator


class State(TypedDict):
    topic: str
    plan: str
    story: str


class Update(TypedDict, total=False):
    plan: str
    story: str


async def plan(state: State) -> Update:
    return {"plan": (await plait.chat_model(temperature=1).ainvoke(f"plan {state['topic']}")).text}


def story(wish: str = "write", *, name: str = "story") -> Graph:
    async def write(state: State) -> Update:
        return {"story": (await plait.chat_model(temperature=1).ainvoke(f"{wish} {state['plan']}")).text}

    builder = StateGraph(State)
    builder.add_node("plan", plan)
    builder.add_node("write", write)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "write")
    return builder.compile(name=name)


def mentions_topic(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> bool:
    return inputs["topic"] in outputs["story"]


async def judge(outputs: Mapping[str, str]) -> float:
    return len((await plait.chat_model().ainvoke(f"judge {outputs['story']}")).text) / 10


@pytest.fixture
async def settings(provider: Simulator, tmp_path: Path) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url, "PLAIT_SHARE": "0", "PLAIT_HOME": str(tmp_path)}).override(
        model="openai:gpt-4.1-mini", max_attempts=2
    )


def topics(count: int) -> list[dict[str, object]]:
    return [{"topic": f"topic {number}."} for number in range(count)]


def definition(
    graph: Graph | None = None, *, evaluators: Sequence[AnyEvaluator] = (mentions_topic,), rows: int = 6
) -> Definition:
    return Definition(name="stories", workflow=graph or story(), dataset=topics(rows), evaluators=tuple(evaluators))


async def read(name: str, *, settings: Settings) -> Experiment:
    return await asyncio.to_thread(experiments.read, name, settings=settings)


async def names(settings: Settings) -> list[str | None]:
    return [found.name for found in await asyncio.to_thread(list_experiments, FolderShelf(settings.home))]


def keys(experiment: Experiment) -> set[str]:
    return {score.key for run in experiment.runs for score in run.scores}


async def test_every_run_is_scored_and_traced(settings: Settings) -> None:
    experiment = await evaluate(definition(evaluators=(mentions_topic, judge)), name="before", settings=settings)
    assert (experiment.name, experiment.definition, experiment.status) == ("before", "stories", "finished")
    assert [run.example.inputs["topic"] for run in experiment.runs] == [f"topic {number}." for number in range(6)]
    for run in experiment.runs:
        assert {score.key: score.score for score in run.scores} == {"mentions_topic": True, "judge": 5.8}
        assert [(node.name, node.branch) for node in run.nodes] == [("plan", "plan@1"), ("write", "write@2")]
        assert all(len(node.calls) == 1 and node.calls[0].cost_usd for node in run.nodes)
        plan_node, write_node = run.nodes
        assert 0 <= plan_node.began_s <= plan_node.began_s + plan_node.duration_s <= write_node.began_s
        assert (run.usage["calls"], run.judge_usage["calls"]) == (2, 1)


async def test_an_experiment_says_what_it_was_run_with(settings: Settings) -> None:
    rows = [{"inputs": {"topic": "a"}, "metadata": {"kind": "x"}}]
    found = replace(definition(), dataset=rows, context={}, cluster="kind", thresholds={"mentions_topic": ">= 0.5"})
    experiment = await evaluate(found, name="before", settings=settings)
    assert experiment.origin.model == "openai:gpt-4.1-mini"
    assert experiment.origin.dataset == "rows"
    assert len(experiment.origin.dataset_hash) == 16
    assert "langgraph" in experiment.origin.versions
    assert experiment.origin.workflow_digest
    assert (experiment.cluster, experiment.thresholds) == ("kind", {"mentions_topic": ">= 0.5"})


async def test_the_same_again_pays_nothing(provider: Simulator, settings: Settings) -> None:
    first = await evaluate(definition(evaluators=(mentions_topic, judge)), name="before", settings=settings)
    paid = provider.counters.received
    again = await evaluate(
        definition(evaluators=(mentions_topic, judge)), name="again", reuse="before", settings=settings
    )
    assert provider.counters.received == paid == 18
    assert [run.outputs for run in again.runs] == [run.outputs for run in first.runs]
    assert all(call.replayed for run in again.runs for node in run.nodes for call in node.calls)
    # What it costs in production is known all the same.
    assert [call.cost_usd for run in again.runs for node in run.nodes for call in node.calls] == [
        call.cost_usd for run in first.runs for node in run.nodes for call in node.calls
    ]
    assert sum(float(str(run.usage["cost_usd"])) for run in again.runs) == 0


async def test_only_what_changed_is_paid_and_upstream_draws_are_the_same(
    provider: Simulator, settings: Settings
) -> None:
    before = await evaluate(definition(), name="before", settings=settings)
    paid = provider.counters.received
    after = await evaluate(definition(story("write well")), name="after", reuse="before", settings=settings)
    assert provider.counters.received - paid == 6
    assert after.reused == "before"
    for old, new in zip(before.runs, after.runs, strict=True):
        assert isinstance(old.outputs, dict)
        assert isinstance(new.outputs, dict)
        assert old.outputs["plan"] == new.outputs["plan"]
        assert old.outputs["story"] != new.outputs["story"]
        assert [call.replayed for node in new.nodes for call in node.calls] == [True, False]
    compared = plait.compare(before, after)
    assert compared.shared_draws
    assert (compared.totals_after.paid_calls, compared.totals_after.replayed_calls) == (6, 6)


async def test_answers_are_reused_along_a_chain_of_experiments(provider: Simulator, settings: Settings) -> None:
    await evaluate(definition(), name="first", settings=settings)
    await evaluate(definition(story("write well")), name="second", reuse="first", settings=settings)
    paid = provider.counters.received
    third = await evaluate(definition(story("write better")), name="third", reuse="second", settings=settings)
    assert provider.counters.received - paid == 6
    assert {run.usage["replayed_calls"] for run in third.runs} == {1}
    again = await evaluate(definition(), name="fourth", reuse="third", settings=settings)
    assert {run.usage["replayed_calls"] for run in again.runs} == {2}


async def test_repetitions_are_runs_of_their_own(provider: Simulator, settings: Settings) -> None:
    experiment = await evaluate(replace(definition(rows=3), repetitions=3), name="thrice", settings=settings)
    assert provider.counters.received == 18
    assert [(run.example.inputs["topic"], run.repetition) for run in experiment.runs] == [
        (f"topic {number}.", repetition) for number in range(3) for repetition in range(3)
    ]
    assert len({run.example.id for run in experiment.runs}) == 3
    (compared,) = plait.compare(experiment, experiment).metrics
    assert (compared.pairs, compared.after.scores) == (3, 9)


async def test_a_raising_evaluator_is_named_and_the_others_go_on(settings: Settings) -> None:
    def broken(outputs: object) -> bool:
        raise KeyError("nothing here")

    def nonsense(outputs: object) -> object:
        return float("nan")

    experiment = await evaluate(
        definition(evaluators=(broken, nonsense, mentions_topic)), name="before", settings=settings
    )
    assert keys(experiment) == {"mentions_topic"}
    assert {(failure.evaluator, failure.type) for run in experiment.runs for failure in run.failures} == {
        ("broken", "KeyError"),
        ("nonsense", "BadScore"),
    }
    assert all(len(run.failures) == 2 for run in experiment.runs)


async def test_a_run_that_fails_has_no_score(settings: Settings) -> None:
    def odd(state: State) -> Update:
        if "3" in state["topic"]:
            raise ValueError("three")
        return {"story": state["topic"]}

    builder = StateGraph(State)
    builder.add_node("odd", odd)
    builder.add_edge(START, "odd")
    experiment = await evaluate(definition(builder.compile(name="odd")), name="before", settings=settings)
    (failed,) = (run for run in experiment.runs if run.status != "success")
    assert (failed.scores, failed.failures, failed.example.inputs) == ((), (), {"topic": "topic 3."})
    assert failed.error is not None
    assert (failed.error.type, failed.nodes[0].error) == ("ValueError", "ValueError")


async def test_two_evaluators_cannot_give_one_key(settings: Settings) -> None:
    def other(outputs: object) -> Score:
        return Score("mentions_topic", 1)

    experiment = await evaluate(definition(evaluators=(mentions_topic, other)), name="before", settings=settings)
    assert {(failure.evaluator, failure.type) for run in experiment.runs for failure in run.failures} == {
        ("other", "DuplicateKey")
    }
    assert [score.score for score in experiment.runs[0].scores] == [True]


async def test_a_nodes_outputs_can_be_scored(settings: Settings) -> None:
    class Work(TypedDict):
        number: int

    def work(state: Work) -> Update:
        return {}

    def write(state: State) -> Update:
        return {"story": "a story"}

    builder = StateGraph(State)
    builder.add_node("write", write)
    builder.add_node("work", work, input_schema=Work)
    builder.add_node("idle", write)
    builder.add_edge(START, "write")
    builder.add_conditional_edges("write", lambda _: [Send("work", {"number": number}) for number in (1, 2)], ["work"])

    def length(outputs: Mapping[str, str] | None) -> int:
        return len(outputs or {})

    experiment = await evaluate(
        definition(
            builder.compile(name="parts"),
            evaluators=(
                evaluator(length, name="keys", node="write"),
                evaluator(length, name="empty", node="work"),
                evaluator(length, name="absent", node="idle"),
            ),
        ),
        name="before",
        settings=settings,
    )
    run = experiment.runs[0]
    assert [(score.key, score.score, score.node) for score in run.scores] == [
        ("keys", 1, "write"),
        ("empty", 0, "work"),
    ]
    assert [(failure.evaluator, failure.type) for failure in run.failures] == [("absent", "NodeNotRun")]
    assert "write, work" in run.failures[0].message


async def test_one_node_can_be_run_alone(provider: Simulator, settings: Settings) -> None:
    rows = [{"inputs": {"plan": f"plan {number}"}, "metadata": {"kind": "x"}} for number in range(4)]

    def planned(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> bool:
        return inputs["plan"] in outputs["story"]

    alone = Definition(name="write", workflow=story(), dataset=rows, evaluators=(planned,), node="write")
    experiment = await evaluate(alone, name="alone", settings=settings)
    assert provider.counters.received == 4
    assert [score.score for run in experiment.runs for score in run.scores] == [True] * 4
    assert {node.name for run in experiment.runs for node in run.nodes} == {"write"}


async def test_tools_are_traced(settings: Settings) -> None:
    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        return word.upper()

    async def search(state: State) -> Update:
        return {"story": await look_up.ainvoke({"word": state["topic"]})}

    builder = StateGraph(State)
    builder.add_node("search", search)
    builder.add_edge(START, "search")
    experiment = await evaluate(
        definition(builder.compile(name="search"), evaluators=("tokens",), rows=1), name="before", settings=settings
    )
    (run,) = experiment.runs
    assert [(trace.name, trace.args, trace.error) for trace in run.tools] == [("look_up", {"word": "topic 0."}, None)]


async def test_an_experiment_goes_on_after_a_stop_and_pays_nothing_twice(
    provider: Simulator, settings: Settings
) -> None:
    found = definition(evaluators=(mentions_topic, judge), rows=30)
    bounded = settings.override(max_concurrency=2)
    with pytest.raises(BatchPaused):
        await evaluate(found, name="long", options=BatchOptions(budget_tokens=800), settings=bounded)
    assert 0 < len((await read("long", settings=settings)).runs) < 30
    with pytest.raises(InputError, match="not finished: go on with it, plait resume long"):
        await evaluate(found, name="long", settings=settings)
    experiment = await evaluate(found, name="long", resume=True, options=BatchOptions(), settings=settings)
    assert [len(run.scores) for run in experiment.runs] == [2] * 30
    assert provider.counters.accepted == 90
    assert await names(settings) == ["long"]


async def test_a_judge_that_is_refused_pauses_the_experiment(provider: Simulator, settings: Settings) -> None:
    def refusing(body: Body, index: int) -> Behaviour | None:
        return Behaviour(status=401) if "judge" in str(body["messages"]) else None

    provider.behave = refusing
    found = definition(evaluators=(judge,), rows=5)
    with pytest.raises(BatchPaused) as paused:
        await evaluate(found, name="before", settings=settings)
    assert isinstance(paused.value.__cause__, CallRefused)
    provider.behave = lambda body, index: None
    runs_paid = sum("judge" not in str(request.body) for request in provider.requests)
    experiment = await evaluate(found, name="before", resume=True, settings=settings)
    assert keys(experiment) == {"judge"}
    assert sum("judge" not in str(request.body) for request in provider.requests) == 10
    assert runs_paid <= 10


async def test_a_replay_sends_nothing_and_names_what_was_not_recorded(provider: Simulator, settings: Settings) -> None:
    await evaluate(definition(evaluators=(judge,)), name="before", settings=settings)
    paid = provider.counters.received

    async def replayed(graph: Graph, name: str) -> Experiment:
        wanted = NewExperiment(
            definition=definition(graph, evaluators=(judge,)), name=name, reuse="before", replay=True, settings=settings
        )
        batch = plait.Batch((await open_experiment(wanted)).batch)
        async for _ in batch:
            pass
        return await read(name, settings=settings)

    same = await replayed(story(), "same")
    assert all(run.status == "success" and run.scores for run in same.runs)
    changed = await replayed(story("write well"), "changed")
    assert {run.error.type for run in changed.runs if run.error} == {"CallUnrecorded"}
    assert len([run for run in changed.runs if run.error]) == 6
    assert all("write@2" in run.error.message for run in changed.runs if run.error)
    assert provider.counters.received == paid


async def test_judges_wait_behind_the_runs(provider: Simulator, settings: Settings) -> None:
    await evaluate(
        definition(evaluators=(judge,), rows=20), name="before", settings=settings.override(max_concurrency=1)
    )
    order = ["judge" in str(request.body) for request in provider.requests]
    # Rows that wait for their judge are bounded, so some are judged early; most of the runs go first all the same.
    assert order.index(True) > 2
    assert sum(order[: len(order) // 2]) < sum(order[len(order) // 2 :])


async def test_wrong_examples_and_names_are_refused_before_anything_is_paid(
    provider: Simulator, settings: Settings
) -> None:
    twice = replace(
        definition(), dataset=[{"id": "a", "inputs": {"topic": "x"}}, {"id": "a", "inputs": {"topic": "y"}}]
    )
    with pytest.raises(InputError, match="expected an id of its own, found 'a', which row 1 has too"):
        await evaluate(twice, settings=settings)
    with pytest.raises(InputError, match="expected a built-in evaluator"):
        await evaluate(definition(evaluators=("exactt",)), settings=settings)
    with pytest.raises(InputError, match="no example is in the split 'hard'"):
        await evaluate(replace(definition(), split="hard"), settings=settings)
    with pytest.raises(InputError, match="no example has the metadata key 'kind'; there are: none"):
        await evaluate(replace(definition(), cluster="kind"), settings=settings)
    elsewhere = evaluator(mentions_topic, node="wrte")
    with pytest.raises(InputError, match="expected one of the workflow, found 'wrte', did you mean 'write'"):
        await evaluate(definition(evaluators=(elsewhere,)), settings=settings)
    with pytest.raises(BatchNotFound, match="there is no experiment 'befor'"):
        await evaluate(definition(), reuse="befor", settings=settings)
    with pytest.raises(InputError, match="--name: expected up to 100 characters without slashes"):
        await evaluate(definition(), name="a/b", settings=settings)
    with pytest.raises(InputError, match="worker processes load evaluators by their names"):
        await evaluate(definition(), options=BatchOptions(workers=2), settings=settings)
    assert provider.counters.received == 0
    assert await names(settings) == []


async def test_a_name_is_given_once_unless_it_is_taken_over(settings: Settings) -> None:
    first = await evaluate(definition(rows=1), name="before", settings=settings)
    with pytest.raises(InputError, match=f"before is there already \\({first.id}\\)"):
        await evaluate(definition(rows=1), name="before", settings=settings)
    wanted = NewExperiment(definition=definition(rows=1), name="before", replace_name=True, settings=settings)
    async for _ in plait.Batch((await open_experiment(wanted)).batch):
        pass
    assert (await read("before", settings=settings)).id != first.id
    assert (await read(first.id, settings=settings)).id == first.id


async def test_a_batch_is_no_experiment_and_an_experiment_no_plain_batch(settings: Settings) -> None:
    batch = plait.batch(story(), topics(1), settings=settings)
    async for _ in batch:
        pass
    with pytest.raises(InputError, match="expected an experiment, found the batch"):
        await read(batch.id, settings=settings)
    experiment = await evaluate(definition(rows=1), settings=settings)
    with pytest.raises(InputError, match="is an experiment, whose rows are scored"):
        async for _ in plait.resume(experiment.id, workflow=story(), settings=settings):
            pass


async def test_summary_evaluators_score_the_whole(settings: Settings) -> None:
    def share(outputs: Sequence[Mapping[str, str]]) -> float:
        return sum("0" in output["story"] for output in outputs) / len(outputs)

    def broken(experiment: Experiment) -> float:
        raise ValueError("no")

    found = replace(definition(rows=4), summary_evaluators=(share, broken))
    experiment = await evaluate(found, name="before", settings=settings)
    assert [(score.key, score.score) for score in experiment.summary_scores] == [("share", 0.25)]
    assert [(failure.evaluator, failure.type) for failure in experiment.summary_failures] == [("broken", "ValueError")]
    assert await read("before", settings=settings) == experiment


async def test_a_baseline_is_read_as_it_was_written(settings: Settings, tmp_path: Path) -> None:
    experiment = await evaluate(
        replace(definition(evaluators=(mentions_topic, "latency_s")), repetitions=2), name="before", settings=settings
    )
    await asyncio.to_thread(write_baseline, experiment, tmp_path / "baselines" / "stories.json")
    stored = await asyncio.to_thread(read_baseline, tmp_path / "baselines" / "stories.json")
    assert [run.scores for run in stored.runs] == [run.scores for run in experiment.runs]
    assert (stored.lower_is_better, stored.origin) == (experiment.lower_is_better, experiment.origin)
    compared = plait.compare(stored, experiment)
    assert {metric.verdict for metric in compared.metrics} == {"no difference"}


@pytest.mark.parametrize("text", ["", "[]", '{"format": 9}', '{"format": 1}', '{"format": 1, "runs": [{}]}'])
def test_a_damaged_baseline_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "stories.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"stories\.json: expected a baseline.*--update-baseline"):
        read_baseline(file)


async def test_an_older_store_is_read_without_scores(settings: Settings) -> None:
    experiment = await evaluate(definition(rows=1), name="before", settings=settings)

    def downgrade() -> None:
        with sqlite3.connect(Path(experiment.place) / "batch.db") as connection:
            connection.execute("ALTER TABLE results DROP COLUMN evaluation")
            connection.execute("PRAGMA user_version=1")

    await asyncio.to_thread(downgrade)
    info = await asyncio.to_thread(FolderPlace(Path(experiment.place)).info)
    assert info.counts == {"success": 1}
    assert [run.scores for run in (await read("before", settings=settings)).runs] == [()]


async def test_scores_are_exported_beside_the_outputs(settings: Settings, tmp_path: Path) -> None:
    experiment = await evaluate(
        definition(evaluators=(mentions_topic, judge), rows=2), name="before", settings=settings
    )

    def exported(name: str) -> str:
        with FolderPlace(Path(experiment.place)).read() as reader:
            export(reader, tmp_path / name)
        return (tmp_path / name).read_text()

    lines = [json.loads(line) for line in (await asyncio.to_thread(exported, "o.jsonl")).splitlines()]
    assert [line["scores"] for line in lines] == [{"mentions_topic": True, "judge": 5.8}] * 2
    head, first, _ = (await asyncio.to_thread(exported, "o.csv")).splitlines()
    assert "scores.mentions_topic,scores.judge" in head
    assert ",true,5.8," in first

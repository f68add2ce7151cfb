"""Names of experiments: one at a time, found quickly; ids that would collide; experiments that mix two codes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import pytest
from langgraph.graph import START, StateGraph

import plait
from plait.batches.entrances import EXPERIMENT
from plait.cli.experiments.tables import Facts
from plait.cli.experiments.words import experiment_json, experiment_page
from plait.errors import InputError
from plait.experiments import Definition, Experiment, evaluate
from plait.experiments.comparisons import compare
from plait.experiments.metrics import metrics, totals
from plait.experiments.openings import check_name
from plait.experiments.readings import find_experiment, list_experiments, read_experiment
from plait.settings import Settings, from_env
from plait.simulator import Simulator
from plait.store.folders import FolderPlace, FolderShelf


class State(TypedDict):
    topic: str
    story: str


class Said(TypedDict):
    story: str


async def write(state: State) -> Said:
    return {"story": (await plait.chat_model().ainvoke(f"write {state['topic']}")).text}


def mentions_topic(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> bool:
    return inputs["topic"] in outputs["story"]


def facts_of(experiment: Experiment) -> Mapping[str, str]:
    page = experiment_page(experiment, metrics(experiment), totals(experiment))
    return {
        name: said for block in page.blocks if isinstance(block, Facts) for name, said in block.values.items() if said
    }


def definition(*ids: str, repetitions: int = 1) -> Definition:
    builder = StateGraph(State)
    builder.add_node("write", write)
    builder.add_edge(START, "write")
    rows = [{"id": each, "inputs": {"topic": "a topic"}} for each in ids]
    graph = builder.compile(name="story")
    return Definition(
        name="stories", workflow=graph, dataset=rows, evaluators=(mentions_topic,), repetitions=repetitions
    )


@pytest.fixture
async def settings(provider: Simulator, tmp_path: Path) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url, "PLAIT_SHARE": "0", "PLAIT_HOME": str(tmp_path)}).override(
        model="openai:gpt-4.1-mini", max_attempts=2
    )


async def make(home: Path, batch_id: str, **meta: object) -> None:
    stored = {"workflow": "story", "created_at": 1.0, "status": "finished", **meta}
    await (await FolderPlace(FolderShelf(home).folder / batch_id).create(stored)).close()


async def made_by_name(home: Path, batch_id: str, name: str) -> None:
    """As experiments are made: the name is looked for, and the batch is there, before anybody else looks."""
    async with FolderShelf(home).naming():
        await asyncio.to_thread(check_name, FolderShelf(home), name)
        await make(home, batch_id, name=name, created_at=time.time(), **{EXPERIMENT: {}})


async def test_of_several_who_want_a_name_at_once_one_gets_it(tmp_path: Path) -> None:
    ended = await asyncio.gather(
        *(made_by_name(tmp_path, f"story-{number}", "wanted") for number in range(6)),
        made_by_name(tmp_path, "story-other", "another"),
        return_exceptions=True,
    )
    refused = [error for error in ended if error is not None]
    assert len(refused) == 5
    assert all(isinstance(error, InputError) and "wanted is there already" in str(error) for error in refused)
    found = await asyncio.to_thread(list_experiments, FolderShelf(tmp_path))
    assert sorted(str(batch.name) for batch in found) == ["another", "wanted"]


HOLDER = """
import asyncio, sys
from pathlib import Path
from plait.store.folders import FolderPlace, FolderShelf

async def main():
    async with FolderShelf(Path(sys.argv[1])).naming():
        print("inside", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_another_process_that_names_a_batch_is_waited_for_until_it_ends(tmp_path: Path) -> None:
    holder = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == b"inside\n"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await made_by_name(tmp_path, "story-1", "wanted")
        assert await asyncio.to_thread(FolderShelf(tmp_path).batches) == []
    finally:
        holder.send_signal(signal.SIGKILL)
        await asyncio.to_thread(holder.communicate)
    await made_by_name(tmp_path, "story-1", "wanted")
    assert [batch.name for batch in await asyncio.to_thread(FolderShelf(tmp_path).batches)] == ["wanted"]


async def test_whoever_stops_waiting_for_a_name_leaves_it_to_others(tmp_path: Path) -> None:
    async with FolderShelf(tmp_path).naming():
        waiting = asyncio.create_task(made_by_name(tmp_path, "story-1", "wanted"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    await made_by_name(tmp_path, "story-2", "wanted")
    assert [batch.id for batch in await asyncio.to_thread(FolderShelf(tmp_path).batches)] == ["story-2"]


def test_a_name_is_refused_by_what_has_it(tmp_path: Path) -> None:
    asyncio.run(make(tmp_path, "story-1", name="done", **{EXPERIMENT: {}}))
    asyncio.run(make(tmp_path, "story-2", name="begun", status="paused", **{EXPERIMENT: {}}))
    asyncio.run(make(tmp_path, "story-3"))
    with pytest.raises(InputError, match=r"done is there already \(story-1\): choose another name"):
        check_name(FolderShelf(tmp_path), "done")
    with pytest.raises(InputError, match="story-1 is there already"):
        check_name(FolderShelf(tmp_path), "story-1")
    with pytest.raises(InputError, match="not finished: go on with it, plait resume begun"):
        check_name(FolderShelf(tmp_path), "begun")
    for free in ("fresh", "story", "stor", "don"):
        check_name(FolderShelf(tmp_path), free)
    check_name(FolderShelf(tmp_path), "done", replaced=True)
    check_name(FolderShelf(tmp_path), None)


def test_the_newest_of_a_name_is_found_whatever_else_cannot_be_read(tmp_path: Path) -> None:
    for batch_id, created_at in (("story-1", 2.0), ("story-2", 3.0), ("story-3", 1.0)):
        asyncio.run(make(tmp_path, batch_id, name="before", created_at=created_at))
    (FolderShelf(tmp_path).folder / "empty").mkdir()
    (FolderShelf(tmp_path).folder / "broken").mkdir()
    (FolderShelf(tmp_path).folder / "broken" / "batch.db").write_bytes(b"no database" * 500)
    assert FolderShelf(tmp_path).find("before").id == "story-2"
    assert FolderShelf(tmp_path).find("story-1").id == "story-1"


def test_a_workflows_name_finds_the_batch_to_go_on_with(tmp_path: Path) -> None:
    for batch_id, created_at, status in (("story-1", 1.0, "paused"), ("story-2", 2.0, "finished")):
        asyncio.run(make(tmp_path, batch_id, created_at=created_at, status=status))
    assert FolderShelf(tmp_path).find("story").id == "story-1"


@pytest.mark.parametrize("ids", [("a", "a#2"), ("a#3", "b", "a")])
async def test_ids_that_repetitions_would_have_twice_are_refused(
    ids: tuple[str, ...], provider: Simulator, settings: Settings
) -> None:
    with pytest.raises(InputError, match=r"'a' and 'a#\d'.*3 repetitions"):
        await evaluate(definition(*ids, repetitions=3), name="x", settings=settings)
    assert provider.counters.received == 0
    assert await asyncio.to_thread(FolderShelf(settings.home).batches) == []


@pytest.mark.parametrize(
    ("ids", "repetitions"), [(("a", "a#2"), 1), (("a", "a#1", "a#3", "a#02"), 2), (("a#2", "b"), 2)]
)
async def test_ids_with_numbers_are_taken_where_none_comes_twice(
    ids: tuple[str, ...], repetitions: int, settings: Settings
) -> None:
    experiment = await evaluate(definition(*ids, repetitions=repetitions), name="x", settings=settings)
    assert [run.example.id for run in experiment.runs] == [each for each in ids for _ in range(repetitions)]


async def test_an_experiment_that_mixes_two_codes_says_so(settings: Settings) -> None:
    before = await evaluate(definition("a", "b"), name="before", settings=settings)
    after = await evaluate(definition("a", "b"), name="after", settings=settings)
    assert not before.mixed
    assert "mixed" not in facts_of(before)
    assert not any("gone on with" in note for note in compare(before, after).notes)
    store = await FolderPlace(Path(after.place)).open()
    await store.put_meta({"forced": True})
    await store.close()
    after = await asyncio.to_thread(lambda: read_experiment(find_experiment(FolderShelf(settings.home), "after")))
    assert after.mixed
    assert "mixed" in facts_of(after)
    assert experiment_json(after, metrics(after), totals(after))["mixed"] is True
    told = "after was gone on with after its code or evaluators had changed: its scores mix both"
    assert told in compare(before, after).notes
    assert told in compare(after, before).notes
    assert told not in compare(before, replace(after, mixed=False)).notes


async def test_of_experiments_that_begin_at_once_by_one_name_one_is_run(settings: Settings) -> None:
    ended = await asyncio.gather(
        *(evaluate(definition("a", "b"), name="wanted", settings=settings) for _ in range(3)), return_exceptions=True
    )
    refused = [each for each in ended if isinstance(each, BaseException)]
    assert len(refused) == 2
    assert all(isinstance(error, InputError) and "wanted is there already" in str(error) for error in refused)
    assert len(await asyncio.to_thread(FolderShelf(settings.home).batches)) == 1

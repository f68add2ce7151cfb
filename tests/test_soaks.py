"""Soaks: what survives a provider that fails, what that cost, and what is found to leak."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from plait.app import App, find_app
from plait.batches.soak_leaks import Footing, leaks
from plait.batches.soaks import Soak, soak
from plait.errors import InputError
from plait.settings import from_env
from plait.simulator import Profile, Simulator
from tests.command import write_app

FLAKY = Profile(faults={"500": 0.1, "reset": 0.05, "truncate": 0.05})
HEAD = """
import asyncio, os
from typing import TypedDict
import openai
from langgraph.graph import END, START, StateGraph
from plait.models import chat_model

class Inputs(TypedDict):
    topic: str
    depth: int

class State(Inputs, total=False):
    answer: str

def built(node):
    builder = StateGraph(State, input_schema=Inputs)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile()
"""
ASKS = """
async def node(state):
    return {"answer": (await chat_model().ainvoke(state["topic"])).text}
graph = built(node)
"""
OWN = """
client = openai.AsyncOpenAI(max_retries=0)
async def node(state):
    found = await client.chat.completions.create(model="x", messages=[{"role": "user", "content": state["topic"]}])
    return {"answer": found.choices[0].message.content}
graph = built(node)
"""
LEAKS = """
kept = []
async def node(state):
    kept.append((asyncio.create_task(asyncio.Event().wait()), os.open(os.devnull, os.O_RDONLY)))
    return {"answer": "leaked"}
graph = built(node)
"""
ELSEWHERE = """
async def node(state):
    client = openai.AsyncOpenAI(base_url=os.environ["SOMEWHERE"], api_key="sk-real")
    found = await client.chat.completions.create(model="x", messages=[{"role": "user", "content": state["topic"]}])
    return {"answer": found.choices[0].message.content}
graph = built(node)
"""
FAILS = """
async def node(state):
    raise ValueError("this workflow is broken")
graph = built(node)
"""


POINT = """
from langgraph.func import entrypoint

@entrypoint()
async def graph(value):
    return value
"""
SOURCES = {"asks": ASKS, "own": OWN, "leaks": LEAKS, "elsewhere": ELSEWHERE, "fails": FAILS, "point": POINT}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    """One for all: a process uses one app."""
    sources = {f"soaked_{name}": HEAD + source for name, source in SOURCES.items()}
    return find_app(write_app(tmp_path_factory.mktemp("app"), **sources))


def wanted(app: App, name: str, profile: Profile = FLAKY) -> Soak:
    settings = from_env({"OPENAI_API_KEY": "sk-real", "PLAIT_HOME": "never-made", "PLAIT_MODEL": "openai:gpt"})
    return Soak(workflow=f"soaked_{name}", app=app, profile=profile, settings=settings, rows=30)


async def test_every_row_survives_a_flaky_provider_and_the_report_says_at_what_price(app: App) -> None:
    ended: list[int] = []
    report = await soak(wanted(app, "asks"), note=ended.append)
    assert report.statuses == {"success": 30}
    assert ended == list(range(1, 31))
    faults = sum(report.server["faults"].values())
    assert faults > 0
    assert report.server["received"] == report.usage["attempts"] == 30 + faults
    assert report.requests_per_answer == (30 + faults) / 30
    assert report.usage["calls"] == report.server["accepted"] == 30
    assert report.after is not None
    assert (report.after.permits, report.after.waiting) == (0, 0)
    assert report.sound
    assert not await asyncio.to_thread(Path("never-made").exists)


async def test_clients_that_a_graph_makes_itself_go_to_the_simulator_with_a_dummy_key(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real")
    # A simulator that takes no other key than its own refuses the real one.
    report = await soak(wanted(app, "own", replace(FLAKY, require_key="sk-of-the-soak")))
    assert report.statuses == {"success": 30}
    assert "invalid" not in report.server["refused"]
    assert os.environ["OPENAI_API_KEY"] == "sk-real"
    assert "OPENAI_BASE_URL" not in os.environ


async def test_a_call_to_anywhere_else_is_stopped_before_it_is_sent(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator() as elsewhere:
        monkeypatch.setenv("SOMEWHERE", elsewhere.base_url)
        report = await soak(wanted(app, "elsewhere"))
        assert elsewhere.counters.received == 0
    assert f"a call for {elsewhere.base_url} was stopped" in report.paused
    assert not report.sound


async def test_tasks_and_files_that_rows_leave_behind_are_found(app: App) -> None:
    report = await soak(wanted(app, "leaks"))
    assert report.statuses == {"success": 30}
    assert report.leaks[0] == "20 more tasks: 20 Event.wait"
    assert report.leaks[1].endswith("more open files or connections after 20 rows")
    assert not report.sound


async def test_failed_rows_with_a_named_error_are_no_fault_of_the_soak(app: App) -> None:
    report = await soak(replace(wanted(app, "fails"), row_attempts=2))
    assert report.statuses == {"error": 30}
    assert report.errors == {"ValueError": 30}
    assert "this workflow is broken" in report.last_errors["ValueError"]
    assert report.requests_per_answer is None
    assert report.sound


async def test_a_stalled_answer_ends_its_row_as_a_timeout(app: App) -> None:
    report = await soak(replace(wanted(app, "asks", Profile(faults={"stall": 1.0})), rows=3, timeout_s=0.2))
    assert report.statuses == {"timeout": 3}
    assert report.sound


async def test_rows_of_a_file_are_taken_up_to_the_number_wanted(app: App, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    lines = "".join(f'{{"topic": "t{row}", "depth": 1}}\n' for row in range(9))
    await asyncio.to_thread(data.write_text, lines, encoding="utf-8")
    report = await soak(replace(wanted(app, "asks"), data=str(data), rows=4))
    assert report.rows == 4
    assert report.statuses == {"success": 4}


async def test_a_graph_that_does_not_say_its_inputs_needs_data(app: App) -> None:
    with pytest.raises(InputError, match="expected DATA with rows"):
        await soak(wanted(app, "point"))


def test_a_leak_is_told_from_what_pools_keep() -> None:
    before = Footing(0, 0, 2, 3, 20, 100_000_000, ("a", "b"), ("x",))
    assert leaks(before, before, rows=100, peak=0) == []
    assert leaks(before, replace(before, files=45), rows=100, peak=20) == []
    grown: Mapping[str, Footing] = {
        "1 permits are still held": replace(before, permits=1),
        "2 calls still wait for a permit": replace(before, waiting=2),
        "1 more threads: 1 y": replace(before, threads=4, thread_names=("x", "y")),
        "80 more open files or connections after 100 rows": replace(before, files=100),
        "100 MB more memory after 100 rows": replace(before, memory_bytes=200_000_000),
    }
    for words, after in grown.items():
        assert leaks(before, after, rows=100, peak=20) == [words]

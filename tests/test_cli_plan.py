"""`plait plan` and `plait soak` as people and programs read them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator
from pathlib import Path

import pytest

from plait.simulator import Profile, Simulator, running
from tests.command import endpoint_env, on_terminal, plait, write_app

ASK = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
from plait.models import chat_model

class Inputs(TypedDict):
    text: str

class State(Inputs, total=False):
    answer: str

async def ask(state):
    return {"answer": (await chat_model().ainvoke(state["text"])).text}

builder = StateGraph(State, input_schema=Inputs)
builder.add_node("ask", ask)
builder.add_edge(START, "ask")
builder.add_edge("ask", END)
graph = builder.compile()
"""
LEAK = ASK.replace("async def ask(state):", "import os\nasync def ask(state):\n    os.open(os.devnull, os.O_RDONLY)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_app(tmp_path_factory.mktemp("app"), ask=ASK, leak=LEAK)
    (folder / "prices.toml").write_text("[test-model]\ninput = 1.0\noutput = 4.0\n", encoding="utf-8")
    (folder / "rows.csv").write_text("text\n" + "".join(f"row {row}\n" for row in range(60)), encoding="utf-8")
    (folder / "faults.toml").write_text('faults = {"500" = 0.2, "reset" = 0.1}\n', encoding="utf-8")
    return folder


@pytest.fixture
def endpoint() -> Generator[Simulator]:
    with running(Profile(rpm=1200, burst=20)) as simulator:
        yield simulator


def env(simulator: Simulator, folder: Path) -> dict[str, str]:
    return {**endpoint_env(simulator), "PLAIT_PRICES": str(folder / "prices.toml")}


def test_a_plan_says_what_the_rest_will_cost_and_a_resume_says_how_right_it_was(
    endpoint: Simulator, folder: Path
) -> None:
    words = ("plan", "ask", "rows.csv", "--probe", "10", "--rpm", "1000")
    planned = plait(*words, cwd=folder, env=env(endpoint, folder))
    assert (planned.code, planned.err) == (0, "")
    assert endpoint.counters.accepted == 10
    said = planned.out
    assert said.startswith("ask over rows.csv: 60 rows\nProbe: 10 rows drawn at random; 10 calls, 60 tokens; ")
    for label in ("cost", "time", "done at", "tokens", "calls", "failed rows"):
        assert re.search(rf"^  {label} +\S", said, re.MULTILINE), label
    assert "What binds: requests/min of 127.0.0.1" in said
    batch = re.findall(r"^  plait resume (\S+)$", said, re.MULTILINE)[0]
    resumed = plait("resume", batch, cwd=folder, env=env(endpoint, folder))
    assert resumed.code == 0
    assert endpoint.counters.accepted == 60
    assert re.search(r"^tokens +300 .* 300  inside$", resumed.err, re.MULTILINE)
    assert len(resumed.out.splitlines()) == 50


def test_a_plan_as_json_has_every_interval(endpoint: Simulator, folder: Path) -> None:
    ended = plait("plan", "ask", "rows.csv", "--limit", "40", "--json", cwd=folder, env=env(endpoint, folder))
    assert ended.code == 0
    found = json.loads(ended.out)
    assert (found["total"], found["probe"]["rows"], found["forecast"]["rows"]) == (40, 20, 20)
    for name in ("cost_usd", "tokens", "calls", "duration_s", "failures"):
        assert found["forecast"][name]["low"] <= found["forecast"][name]["likely"] <= found["forecast"][name]["high"]


def test_a_plan_without_a_price_says_so_and_gives_tokens(endpoint: Simulator, folder: Path) -> None:
    ended = plait("plan", "ask", "rows.csv", cwd=folder, env=endpoint_env(endpoint))
    assert ended.code == 0
    assert "No price is known for test-model" in ended.out
    assert not re.search(r"^  cost", ended.out, re.MULTILINE)
    assert re.search(r"^  tokens", ended.out, re.MULTILINE)


def test_a_plan_reads_well_on_a_narrow_terminal(endpoint: Simulator, folder: Path) -> None:
    with on_terminal("plan", "ask", "rows.csv", size=(60, 30), cwd=folder, env=env(endpoint, folder)) as terminal:
        shown = terminal.read_to_end()
    assert terminal.process.returncode == 0
    assert re.search(r"plait resume ask-\S+", shown)


def test_a_plan_of_a_pipe_or_of_no_rows_says_what_to_do(endpoint: Simulator, folder: Path) -> None:
    piped = plait("plan", "ask", "-", cwd=folder, env=env(endpoint, folder), stdin='{"text": "x"}\n')
    assert piped.code == 2
    assert "write them to a file to plan them" in piped.err
    none = plait("plan", "ask", "rows.csv", "--probe", "0", cwd=folder, env=env(endpoint, folder))
    assert none.code == 2
    assert "--probe: expected 1 row or more, found 0" in none.err


def test_a_soak_reports_and_ends_with_0_where_nothing_leaks(folder: Path) -> None:
    ended = plait("soak", "ask", "--profile", "faults.toml", "--rows", "30", cwd=folder)
    assert ended.code == 0, ended.err
    assert re.search(r"^  success +30$", ended.out, re.MULTILINE)
    assert re.search(r"^  because of +.*500 \d", ended.out, re.MULTILINE)
    assert "nothing leaked" in ended.out
    assert not os.path.exists(os.environ["PLAIT_HOME"])


def test_a_soak_of_a_leaking_workflow_ends_with_1(folder: Path) -> None:
    words = ("soak", "leak", "rows.csv", "--profile", "faults.toml", "--rows", "60", "--max-concurrency", "2", "--json")
    ended = plait(*words, cwd=folder)
    assert ended.code == 1
    found = json.loads(ended.out)
    assert found["statuses"] == {"success": 60}
    # The rows' own, and perhaps a connection of a pool.
    assert [re.sub(r"^4\d", "40", leak) for leak in found["leaks"]] == [
        "40 more open files or connections after 40 rows"
    ]


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("nothing.toml", "--profile: expected a TOML or JSON file, or one of openai-tier1"),
        ("rows.csv", "--profile: rows.csv: expected "),
        ("wrong.toml", "the simulator has no setting 'rmp'"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused(folder: Path, profile: str, said: str) -> None:
    (folder / "wrong.toml").write_text("rmp = 3\n", encoding="utf-8")
    ended = plait("soak", "ask", "--profile", profile, cwd=folder)
    assert ended.code == 2
    assert said in ended.err

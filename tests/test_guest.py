"""In somebody else's process plait is a guest: importing and using it changes nothing of the host's."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict

import openai
from langgraph.graph import END, START, StateGraph

from plait import models, runs, settings
from plait.simulator import Simulator, running

HOST = """
import asyncio, json, logging, os, signal, sys, threading, types, warnings

import httpx, httpx2, httpcore2, openai, aiohttp
import openai._vendor.httpx_aiohttp.transport as vendored
import langchain_openai, langchain.agents
import langgraph.pregel, langgraph.graph.state, langgraph.func
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

CLASSES = [
    httpx.AsyncHTTPTransport, httpx.HTTPTransport, httpx.AsyncClient, httpx.Client,
    httpx2.AsyncHTTPTransport, httpx2.HTTPTransport, httpx2.AsyncClient, httpx2.Client,
    httpcore2.AsyncConnectionPool, vendored.AiohttpTransport, aiohttp.ClientSession, aiohttp.TCPConnector,
    openai.AsyncOpenAI, openai.OpenAI, openai.DefaultAsyncHttpxClient, openai.resources.chat.AsyncCompletions,
    langchain_openai.ChatOpenAI, BaseChatModel, Runnable,
    langgraph.pregel.Pregel, langgraph.graph.state.CompiledStateGraph, langgraph.graph.state.StateGraph,
    asyncio.BaseEventLoop, threading.Thread, logging.Logger, json.JSONEncoder,
]
BEHAVIOUR = (types.FunctionType, classmethod, staticmethod, property)
LOGGERS = ["", "asyncio", "httpx", "httpx2", "openai", "langchain", "langgraph", "host"]


def snapshot():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        policy = asyncio.get_event_loop_policy()
    found = {}
    for kind in CLASSES:
        for name, value in vars(kind).items():
            if isinstance(value, BEHAVIOUR):
                found[f"{kind.__module__}.{kind.__name__}.{name}"] = value
    for name in LOGGERS:
        logger = logging.getLogger(name)
        found[f"logger {name!r}"] = (logger.level, tuple(logger.handlers), tuple(logger.filters),
                                     logger.propagate, logger.disabled)
    found["logging"] = (logging.getLoggerClass(), logging.getLogRecordFactory(), logging.root.manager.disable)
    for number in signal.valid_signals():
        found[f"signal {number}"] = signal.getsignal(number)
    found["policy"] = policy
    found["hooks"] = (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook)
    found["path hooks"] = tuple(sys.path_hooks)
    found["warnings"] = tuple(warnings.filters) + (warnings.showwarning,)
    found["environ"] = dict(os.environ)
    found["streams"] = (sys.stdin, sys.stdout, sys.stderr)
    found["cwd"] = os.getcwd()
    found["recursion"] = sys.getrecursionlimit()
    return found


def changed(before, after):
    return sorted(name for name in before.keys() | after.keys() if before.get(name) is not after.get(name)
                  and before.get(name) != after.get(name))


logging.getLogger().addHandler(logging.NullHandler())
logging.getLogger().setLevel(logging.ERROR)
signal.signal(signal.SIGTERM, lambda *_: None)
before, paths, threads = snapshot(), list(sys.path), threading.enumerate()
finders = list(sys.meta_path)
import plait
report = {"by import": changed(before, snapshot()), "threads": len(threading.enumerate()) - len(threads)}
report["paths by import"] = [path for path in sys.path if path not in paths]


async def use():
    inside = snapshot()  # asyncio.run has a signal handler of its own
    result = await plait.run(WORKFLOW, INPUTS)
    during = []
    async for event in plait.stream(WORKFLOW, INPUTS):
        during.append(changed(inside, snapshot()))
    try:
        await plait.run(WORKFLOW, INPUTS, timeout_s=1e-9)
    except Exception:
        pass
    return result.status, during


def main():
    report["status"], during = asyncio.run(use())
    report["during use"] = sorted({name for names in during for name in names})
    report["by use"] = changed(before, snapshot())
    report["new paths"] = [path for path in sys.path if path not in paths]
    report["new finders"] = [type(finder).__module__ for finder in sys.meta_path if finder not in finders]
    report["lost finders"] = [repr(finder) for finder in finders if finder not in sys.meta_path]
    report["lost paths"] = [path for path in paths if path not in sys.path]
    print(json.dumps(report))
"""

GRAPH = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
from plait.models import chat_model

class State(TypedDict, total=False):
    question: str
    answer: str

async def answer(state):
    return {"answer": (await chat_model("openai:m").ainvoke(state["question"])).text}

builder = StateGraph(State)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
builder.add_edge("answer", END)
WORKFLOW, INPUTS = builder.compile(), {"question": "how are you"}
main()
"""

BY_NAME = """
WORKFLOW, INPUTS = "story", {"topic": "a magical forest"}
main()
"""


def host(script: str, provider: Simulator, folder: Path) -> dict[str, Any]:
    """Run a host process in a folder of its own; returns what it found changed."""
    env = os.environ | {
        "OPENAI_BASE_URL": provider.base_url,
        "OPENAI_API_KEY": "sk-test",
        "PLAIT_MODEL": "openai:m",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,  # what it wrote to stderr says more than the exception would
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_host_that_runs_its_own_graph_finds_everything_as_it_was(tmp_path: Path) -> None:
    with running() as provider:
        report = host(HOST + GRAPH, provider, tmp_path)
    assert report == {
        "by import": [],
        "threads": 0,
        "paths by import": [],
        "status": "success",
        "during use": [],
        "by use": [],
        "new paths": [],
        "lost paths": [],
        "new finders": [],
        "lost finders": [],
    }


def test_a_host_that_runs_a_bundled_workflow_gains_at_most_a_way_to_import_it(tmp_path: Path) -> None:
    with running() as provider:
        report = host(HOST + BY_NAME, provider, tmp_path)
    assert (report["by import"], report["during use"], report["by use"]) == ([], [], [])
    assert report["status"] == "success"
    assert (report["lost paths"], report["lost finders"]) == ([], [])
    assert report["new finders"] == []
    assert len(report["new paths"]) <= 1
    assert all((Path(path) / "langgraph.json").exists() for path in report["new paths"])


class State(TypedDict):
    question: str
    answer: str


async def test_the_hosts_own_clients_are_not_gated_by_a_run_beside_them(provider: Simulator) -> None:
    ours = settings.from_env(
        {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "sk-test", "PLAIT_MAX_CONCURRENCY": "1"}
    )
    model = models.chat_model("openai:m", settings=ours)

    async def answer(state: State) -> dict[str, str]:
        return {"answer": (await model.ainvoke(state["question"])).text}

    builder = StateGraph(State)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    graph = builder.compile()
    theirs = openai.AsyncOpenAI(base_url=provider.base_url, api_key="sk-test")
    provider.close_gate()
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(runs.run(graph, {"question": "how are you"}, settings=ours)) for _ in range(3)]
        await provider.arrived(1)
        for _ in range(3):
            group.create_task(theirs.responses.create(model="m", input="host"))
        await provider.arrived(4)
        assert [request.path for request in provider.requests].count("/v1/chat/completions") == 1
        provider.open_gate()
    assert [task.result().status for task in running] == ["success"] * 3


CONCURRENT_FIRST_RUNS = """
import asyncio, plait
async def main():
    return await asyncio.gather(*(plait.run("story", {"topic": topic}) for topic in "abcdef"))
print(len(asyncio.run(main())))
"""


def test_first_runs_of_a_process_may_be_concurrent(tmp_path: Path) -> None:
    with running() as provider:
        variables = {"OPENAI_BASE_URL": provider.base_url, "PLAIT_MODEL": "openai:m"}
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", CONCURRENT_FIRST_RUNS],
                check=False,
                capture_output=True,
                text=True,
                cwd=tmp_path,
                env={**os.environ, **variables},
                timeout=60,
            )
            assert done.stdout == "6\n", done.stderr

"""A provider's key that an error text repeats reaches no client, no log and no file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from plait.app import find_app
from tests.serving import served, settings_in

KEY = "Zq9-of-no-known-form-000123"
APP = {"dependencies": ["."], "graphs": {"leaks": "./leaking_graphs.py:leaks", "around": "./leaking_graphs.py:around"}}
CODE = f"""
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str


async def call(state: State) -> State:
    raise ValueError("Incorrect API key provided: Bearer {KEY}, or {KEY} at https://ann:secret-word@host/")


leaks = StateGraph(State).add_node("call", call).add_edge(START, "call").add_edge("call", END).compile()
around = StateGraph(State).add_node("inner", leaks).add_edge(START, "inner").add_edge("inner", END).compile()
"""
SAID = {"role": "user", "content": '{"text": "hello"}'}
MODES = ["values", "messages-tuple", "updates", "tasks", "checkpoints", "debug", "custom", "plait"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("leaking")
    (home / "langgraph.json").write_text(json.dumps(APP))
    (home / "leaking_graphs.py").write_text(CODE)
    return home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[httpx.Client]:
    settings = settings_in(home / "kept", OPENAI_API_KEY=KEY)
    with served(find_app(home), settings=settings) as found, httpx.Client(base_url=found.url, timeout=20) as client:
        yield client


@pytest.mark.parametrize("workflow", ["leaks", "around"])
def test_an_error_that_repeats_a_key_is_told_without_it(
    client: httpx.Client, home: Path, workflow: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run = {"assistant_id": workflow, "input": {"text": "hello"}, "stream_subgraphs": True, "stream_resumable": True}
    thread = client.post("/threads", json={}).json()["thread_id"]
    texts = [
        client.post(f"/threads/{thread}/runs/stream", json={**run, "stream_mode": MODES}).text,
        client.post(f"/threads/{thread}/runs/stream", json={**run, "stream_mode": ["events"]}).text,
        client.post("/runs/wait", json=run).text,
        client.post("/generate", json={"workflow": workflow, "inputs": {"text": "hello"}}).text,
        client.post("/v1/chat/completions", json={"model": workflow, "messages": [SAID]}).text,
        client.post("/v1/chat/completions", json={"model": workflow, "messages": [SAID], "stream": True}).text,
        client.get(f"/threads/{thread}").text,
        client.get(f"/threads/{thread}/state?subgraphs=true").text,
        client.get(f"/threads/{thread}/history?limit=50").text,
        client.get(f"/threads/{thread}/runs").text,
        client.get("/runs/recent").text,
        caplog.text,
    ]
    assert "Incorrect API key provided" in texts[0]
    assert "Incorrect API key provided" in texts[7]
    for text in texts:
        assert KEY not in text
        assert "secret-word" not in text
    for file in (home / "kept").iterdir():
        assert KEY.encode() not in file.read_bytes(), file
        assert file.stat().st_mode & 0o077 == 0, file

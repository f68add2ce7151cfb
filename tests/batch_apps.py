"""The app that the tests of `plait batch` run, as a user has it in a folder of their own, and its dataset."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command import plait, write_app

ASK = """
from dataclasses import dataclass
from typing import TypedDict
from langgraph.graph import StateGraph
from langgraph.runtime import Runtime
import plait

@dataclass
class Context:
    model: str | None = None

class Input(TypedDict):
    text: str

class State(Input):
    answer: str

async def ask(state: State, runtime: Runtime[Context]):
    if state["text"].startswith("bad"):
        raise ValueError("no such text")
    message = await plait.chat_model(runtime.context.model).ainvoke(state["text"])
    return {"answer": message.text}

graph = StateGraph(State, Context, input_schema=Input)
graph = graph.add_node(ask).set_entry_point("ask").set_finish_point("ask").compile()
"""

COUNT = """
from typing import TypedDict
from langgraph.graph import StateGraph

class Input(TypedDict):
    text: str

class State(Input):
    length: int

def count(state: State):
    if state["text"].startswith("bad"):
        raise ValueError("no such text")
    print("counting")
    return {"length": len(state["text"])}

graph = StateGraph(State, input_schema=Input)
graph = graph.add_node(count).set_entry_point("count").set_finish_point("count").compile()
"""


def app_with(folder: Path, texts: list[str], name: str = "texts.jsonl") -> Path:
    """A folder with the workflows `ask` (one call a row) and `count` (none), and a dataset of the texts."""
    write_app(folder, ask=ASK, count=COUNT)
    lines = [json.dumps({"id": f"r{number}", "text": text}) for number, text in enumerate(texts)]
    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def only_batch() -> dict[str, object]:
    """What `plait batches --json` says of the one batch there is."""
    found = json.loads(plait("batches", "--json").out)
    assert len(found) == 1, found
    batch: dict[str, object] = found[0]
    return batch


def lines_of(text: str) -> list[dict[str, object]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]

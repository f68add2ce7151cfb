"""A graph in every way the LangGraph server accepts."""

import contextlib
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph_sdk.runtime import ServerRuntime

closed: list[str] = []


class State(TypedDict):
    text: str


def build(text: str) -> StateGraph:
    def node(state: State) -> dict:
        return {"text": text}

    return StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END)


builder = build("builder")


def function():
    return build("function").compile()


def with_config(settings):
    return build(f"with_config {settings['configurable'].get('tone')}")


def by_dict(*, options: dict):
    return build(f"by_dict {options['configurable'].get('tone')}")


async def async_function():
    return build("async_function").compile()


async def async_config(config: RunnableConfig):
    return build(f"async_config {config['configurable'].get('tone')}")


@contextlib.contextmanager
def sync_manager(config: RunnableConfig):
    yield build("sync_manager").compile()
    closed.append("sync_manager")


@contextlib.asynccontextmanager
async def async_manager(config: RunnableConfig):
    try:
        yield build("async_manager").compile()
    finally:
        closed.append("async_manager")


def runtime(server: ServerRuntime):
    assert server.user is None and server.store is not None and server.execution_runtime is not None
    return build(f"runtime {server.access_context}")


async def both(config: RunnableConfig, server: ServerRuntime[dict]):
    return build(f"both {config['configurable'].get('tone')} {server.access_context}")


def defaults(config: RunnableConfig | None = None, size: int = 3):
    return build(f"defaults {config is not None} {size}")


@entrypoint()
def entry(values: dict) -> dict:
    return {"text": "entry"}

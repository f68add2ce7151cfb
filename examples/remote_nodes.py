"""Workflows of a service in another app's graphs: one that streams through its parent, one that asks somebody.

Run it with `python remote_nodes.py http://localhost:8123`, the address of a service with the workflows of `app/`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any, TypedDict
from uuid import NAMESPACE_URL, uuid5

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command, interrupt


class Topic(TypedDict):
    topic: str


class Page(Topic):
    story: str
    page: str


def page_graph(url: str) -> CompiledStateGraph[Page, None, Topic, Page]:
    """A graph whose first node runs in the service: it takes `topic` from the state and puts `story` there."""

    async def lay_out(state: Page) -> dict[str, str]:
        return {"page": f"<h1>{state['topic']}</h1><p>{state['story']}</p>"}

    builder = StateGraph(Page, input_schema=Topic)
    builder.add_node("story", RemoteGraph("story", url=url))
    builder.add_node("lay_out", lay_out)
    builder.add_edge(START, "story")
    builder.add_edge("story", "lay_out")
    return builder.compile()


class Order(TypedDict):
    to: str
    about: str


class Mail(Order):
    text: str
    sent: bool


def mail_graph(url: str) -> CompiledStateGraph[Mail, None, Order, Mail]:
    """A graph around a remote workflow that stops to ask.

    A RemoteGraph that is a node shows the remote question, but never gets the answer. So these nodes keep a remote
    thread: one begins the remote run, the other asks by an `interrupt` of its own and resumes the remote run.
    """
    remote = RemoteGraph("letter", url=url)

    async def write(state: Mail, config: RunnableConfig) -> None:
        await remote.ainvoke({"to": state["to"], "about": state["about"]}, remote_thread(config))

    async def send(state: Mail, config: RunnableConfig) -> dict[str, object]:
        asked = (await remote.aget_state(remote_thread(config))).interrupts
        answer = interrupt(asked[0].value)
        values = await remote.ainvoke(Command(resume=answer), remote_thread(config))
        return {"text": values["text"], "sent": values["sent"]}

    builder = StateGraph(Mail, input_schema=Order).add_node(write).add_node(send)
    return builder.add_edge(START, "write").add_edge("write", "send").compile(checkpointer=InMemorySaver())


def remote_thread(config: RunnableConfig) -> RunnableConfig:
    """A thread in the service for each of ours; not ours itself, which RemoteGraph would use."""
    ours = config.get("configurable", {})["thread_id"]
    return {"configurable": {"thread_id": str(uuid5(NAMESPACE_URL, f"letter of {ours}"))}}


async def main(url: str) -> None:
    parts: AsyncIterator[Any] = page_graph(url).astream({"topic": "a cat"}, stream_mode="messages", subgraphs=True)
    async for _, (message, _) in parts:
        print(message["content"], end="", flush=True)
    print()
    mail, config = mail_graph(url), RunnableConfig(configurable={"thread_id": "mail-1"})
    asked = await mail.ainvoke({"to": "Ada", "about": "engines"}, config)
    print(asked["__interrupt__"][0].value["question"])
    print((await mail.ainvoke(Command(resume="yes"), config))["sent"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

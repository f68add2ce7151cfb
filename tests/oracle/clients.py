"""What the Python SDK and RemoteGraph are used for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
from langchain_core.messages import AIMessage
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.oracle.observations import Observer


def _url(see: Observer) -> str:
    return str(see.client.base_url).rstrip("/")


async def sdk(see: Observer) -> None:
    async with get_client(url=_url(see)) as client:
        await _sdk(see, client)


async def _sdk(see: Observer, client: LangGraphClient) -> None:
    found = await client.assistants.search(graph_id="steps")
    see.note("assistants.search", [one["name"] for one in found])
    see.note("assistants.get", (await client.assistants.get(found[0]["assistant_id"]))["graph_id"])
    thread = await client.threads.create(metadata={"from": "sdk"})
    own = thread["thread_id"]
    names = [part.event async for part in client.runs.stream(own, "steps", input={"topic": "a"})]
    see.note("runs.stream", names)
    modes = client.runs.stream(own, "steps", input={}, stream_mode=["values", "updates", "custom"])
    see.note("runs.stream, several modes", [part.event async for part in modes])
    see.note("runs.wait", await client.runs.wait(own, "steps", input={"topic": "b"}))
    run = await client.runs.create(own, "slow", input={"steps": 3}, stream_mode="custom", stream_resumable=True)
    joined = client.runs.join_stream(own, run["run_id"], stream_mode="custom", last_event_id="-1")
    see.note("runs.join_stream", [part.event async for part in joined if part.event == "custom"])
    see.note("runs.join", await client.runs.join(own, run["run_id"]))
    see.note("runs.list", [one["status"] for one in await client.runs.list(own)])
    see.note("threads.get_history", len(await client.threads.get_history(own, limit=3)))
    see.note("threads.get_state", sorted(await client.threads.get_state(own)))
    see.note("threads.update_state", await client.threads.update_state(own, {"count": 9}, as_node="tick"))
    tag = uuid4().hex
    await client.store.put_item([tag, "a"], "k", {"v": 1})
    item = await client.store.get_item([tag, "a"], "k")
    see.note("store", [item["value"] if item else None, (await client.store.search_items([tag]))["items"]])
    see.note("threads.search", len(await client.threads.search(ids=[own])))
    await client.threads.delete(own)
    try:
        await client.threads.get(own)
    except httpx.HTTPStatusError as error:
        see.note("threads.get, deleted", error.response.status_code)
    try:
        await client.runs.wait(None, "broken", input={})
    except Exception as error:  # noqa: BLE001
        see.note("runs.wait, failed", [type(error).__name__, str(error)])


async def remote_graph(see: Observer) -> None:
    async with get_client(url=_url(see)) as client:
        await _remote_graph(see, client)


async def _remote_graph(see: Observer, client: LangGraphClient) -> None:
    remote = RemoteGraph("steps", client=client)
    own = await see.thread()
    see.note("ainvoke", await remote.ainvoke({"topic": "r"}, {"configurable": {"thread_id": own}}))
    chunks: AsyncIterator[Any] = remote.astream(
        {"topic": "r"}, {"configurable": {"thread_id": own}}, stream_mode=["updates", "values"]
    )
    see.note("astream", [chunk[0] async for chunk in chunks])
    state = await remote.aget_state({"configurable": {"thread_id": own}})
    see.note("aget_state", [state.values, list(state.next)])
    see.note("aget_graph", sorted((await remote.aget_graph()).nodes))
    history = [one async for one in remote.aget_state_history({"configurable": {"thread_id": own}}, limit=2)]
    see.note("aget_state_history", len(history))
    await remote.aupdate_state({"configurable": {"thread_id": own}}, {"topic": "new"}, as_node="first")
    state = await remote.aget_state({"configurable": {"thread_id": own}})
    see.note("aupdate_state", [state.values["topic"], list(state.next)])
    talk = RemoteGraph("echo", client=client)
    answer: Any = await talk.ainvoke({"messages": [{"role": "user", "content": "hi"}]})
    see.note("messages", [one["content"] for one in answer["messages"]])
    parts: AsyncIterator[Any] = talk.astream({"messages": [{"role": "user", "content": "hi"}]}, stream_mode="messages")
    see.note("astream messages", [_text(part[0]) async for part in parts])
    approve = RemoteGraph("approve", client=client)
    own = await see.thread()
    stopped = await approve.ainvoke({"text": "hi"}, {"configurable": {"thread_id": own}})
    see.note("interrupt", sorted(stopped))


def _text(message: object) -> object:
    return (
        message.text if isinstance(message, AIMessage) else message.get("content") if isinstance(message, dict) else ""
    )

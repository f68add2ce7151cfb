"""What is asked about streams."""

from __future__ import annotations

import json
from contextlib import aclosing

from tests.oracle.controls import LONG
from tests.oracle.observations import Event, Observer, events_of
from tests.oracle.runs import APPROVE, HELLO
from tests.oracle.threads import STEPS

PARENT: dict[str, object] = {"assistant_id": "parent", "input": {"words": ["w"]}}


async def stream_modes(see: Observer) -> None:
    answer = await see.ask("POST", f"/threads/{await see.thread()}/runs/stream", STEPS, label="default")
    see.note("text of the last event", repr(answer.text[answer.text.rindex("event:") :]))
    modes: tuple[object, ...] = ("values", "updates", "custom", ["values", "updates", "custom"], [])
    for mode in modes:
        body = {**STEPS, "stream_mode": mode}
        await see.ask("POST", f"/threads/{await see.thread()}/runs/stream", body, label=f"{mode}")


async def inner_stream_modes(see: Observer) -> None:
    for mode in ("tasks", "checkpoints", "debug"):
        body: dict[str, object] = {**STEPS, "stream_mode": mode}
        await see.ask("POST", f"/threads/{await see.thread()}/runs/stream", body, label=mode)
    body = {**STEPS, "stream_mode": "events"}
    answer = await see.ask("POST", f"/threads/{await see.thread()}/runs/stream", body)
    events = events_of(answer.text)
    see.note("events: names", sorted({event.name for event in events}))
    see.note("events: kinds", sorted({str(one) for one in _values_of(events, "event")}))
    see.note("events: runnables", sorted({str(one) for one in _values_of(events, "name")}))


def _values_of(events: list[Event], key: str) -> list[object]:
    parsed = [json.loads(event.data) for event in events if event.name == "events"]
    return [one[key] for one in parsed]


async def messages(see: Observer) -> None:
    modes: tuple[object, ...] = ("messages", "messages-tuple", ["messages-tuple", "values"])
    for mode in modes:
        body = {**HELLO, "stream_mode": mode}
        await see.ask("POST", f"/threads/{await see.thread()}/runs/stream", body, label=f"{mode}")
    call = {"assistant_id": "echo", "input": {"messages": [{"role": "user", "content": "call"}]}}
    for mode in ("messages", "messages-tuple"):
        path = f"/threads/{await see.thread()}/runs/stream"
        await see.ask("POST", path, {**call, "stream_mode": mode}, label=f"a tool call, {mode}")
        remarks = {**HELLO, "assistant_id": "remarks", "stream_mode": mode}
        await see.ask("POST", f"/threads/{await see.thread()}/runs/stream", remarks, label=f"without a model, {mode}")
    await see.ask("POST", "/runs/wait", {**HELLO, "assistant_id": "remarks"}, label="without a model, wait")
    thread = f"/threads/{await see.thread()}"
    parts: object = [{"type": "human", "content": [{"type": "text", "text": "deep"}]}]
    await see.ask("POST", f"{thread}/runs/wait", {"assistant_id": "echo", "input": {"messages": parts}}, label="wait")
    body = {"assistant_id": "echo", "input": {"messages": "plain"}}
    await see.ask("POST", f"{thread}/runs/wait", body, label="a plain text")
    await see.ask("GET", f"{thread}/state", label="state")


async def subgraph_streams(see: Observer) -> None:
    modes: object = ["values", "updates"]
    path = f"/threads/{await see.thread()}/runs/stream"
    await see.ask("POST", path, {**PARENT, "stream_mode": modes}, label="without")
    path = f"/threads/{await see.thread()}/runs/stream"
    await see.ask("POST", path, {**PARENT, "stream_mode": modes, "stream_subgraphs": True}, label="with")
    path = f"/threads/{await see.thread()}/runs/stream"
    await see.ask("POST", path, {"assistant_id": "parent", "input": {}}, label="empty input")


async def streams_that_stop(see: Observer) -> None:
    modes: object = ["values", "updates"]
    path = f"/threads/{await see.thread()}/runs/stream"
    await see.ask("POST", path, {"assistant_id": "broken", "input": {}, "stream_mode": modes}, label="failure")
    path = f"/threads/{await see.thread()}/runs/stream"
    await see.ask("POST", path, {**APPROVE, "stream_mode": modes}, label="interrupt")
    resume: dict[str, object] = {"assistant_id": "approve", "command": {"resume": True}, "stream_mode": modes}
    await see.ask("POST", path, resume, label="resume")
    await see.ask("POST", "/runs/stream", STEPS, label="stateless")
    await see.ask("POST", "/runs/stream", {"assistant_id": "broken", "input": {}}, label="stateless failure")
    await see.ask("POST", "/runs/stream", APPROVE, label="stateless interrupt")
    await see.ask("POST", "/runs/stream", {"assistant_id": "nope"}, label="no such graph")


async def streams_resumed(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    body: dict[str, object] = {"assistant_id": "slow", "input": {"steps": 3}, "stream_mode": ["custom", "values"]}
    answer = await see.ask("POST", f"{thread}/runs/stream", {**body, "stream_resumable": True}, label="first time")
    run, ids = answer.headers["content-location"], [event.id for event in events_of(answer.text)]
    for label, last in {
        "from the start": "-1",
        "after the third": ids[2],
        "after the last": ids[-1],
        "after one to come": "99999999999999-0",
    }.items():
        again = await see.client.get(f"{run}/stream", headers={"last-event-id": last})
        see.keep(label, f"GET {run}/stream", again)
        see.note(f"{label}: the same ids", [e.id for e in events_of(again.text)] == _after(ids, last))
    again = await see.client.get(f"{run}/stream", params={"stream_mode": "custom"}, headers={"last-event-id": "-1"})
    see.keep("one mode", f"GET {run}/stream", again)
    await see.ask("GET", f"{run}/stream", label="finished, without a last id")
    run = (await see.ask("POST", f"{thread}/runs", {**body, "stream_resumable": True})).headers["content-location"]
    await see.ask("GET", f"{run}/join")
    again = await see.client.get(f"{run}/stream", headers={"last-event-id": "-1"})
    see.keep("begun in the background", f"GET {run}/stream", again)
    run = (await see.ask("POST", f"{thread}/runs/stream", body)).headers["content-location"]
    await see.ask("GET", f"{run}/stream", label="finished, not resumable")


def _after(ids: list[str], last: str) -> list[str]:
    return ids if last == "-1" else ids[ids.index(last) + 1 :] if last in ids else []


async def streams_joined(see: Observer) -> None:
    forms = {"one": "?stream_mode=custom", "repeated": "?stream_mode=custom&stream_mode=values"}
    forms |= {"a list": "?stream_mode=%5B%22custom%22%2C%22values%22%5D", "none": ""}
    body = {**LONG, "stream_mode": ["custom", "values"]}
    for label, query in forms.items():
        thread = f"/threads/{await see.thread()}"
        run = (await see.ask("POST", f"{thread}/runs", body)).headers["content-location"]
        names: list[str] = []
        async with aclosing(see.opened("GET", f"{run}/stream{query}")) as events:
            async for event in events:
                names.append(event.name)
                if len(names) == 6:
                    await see.ask("POST", f"{run}/cancel")
        see.note(label, sorted(set(names) - {"metadata"}))
        see.note(f"{label}: status at the end", (await see.ask("GET", run)).json()["status"])
    short = {**LONG, "input": {"steps": 3}, "stream_mode": ["custom"]}
    run = (await see.ask("POST", f"/threads/{await see.thread()}/runs", short)).headers["content-location"]
    await see.ask("GET", f"{run}/stream?stream_mode=updates", label="another mode")
    see.note("another mode: status at the end", (await see.ask("GET", run)).json()["status"])

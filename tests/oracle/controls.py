"""What is asked about runs that somebody stops, overtakes or puts off."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

from tests.oracle.observations import Observer
from tests.oracle.threads import STEPS

LONG: dict[str, object] = {"assistant_id": "slow", "input": {"steps": 400}, "config": {"recursion_limit": 500}}


async def _begun(see: Observer) -> tuple[str, str]:
    """A thread and a run on it that has made its first steps."""
    thread = f"/threads/{await see.thread()}"
    body: dict[str, object] = {**LONG, "stream_mode": ["custom"], "on_disconnect": "continue"}
    async with aclosing(see.opened("POST", f"{thread}/runs/stream", body)) as events:
        async for event in events:
            if event.name == "custom":
                break
    run = await see.run_of(thread.split("/")[2])
    return thread, f"{thread}/runs/{run}"


async def cancelled_runs(see: Observer) -> None:
    for label, query in {
        "interrupt": "wait=true",
        "interrupt, said": "wait=true&action=interrupt",
        "rollback": "wait=true&action=rollback",
    }.items():
        thread, run = await _begun(see)
        await see.ask("GET", thread, label=f"{label}: thread before")
        await see.ask("POST", f"{run}/cancel?{query}", label=label)
        await see.ask("GET", run, label=f"{label}: run")
        await see.ask("GET", thread, label=f"{label}: thread")
        state = (await see.ask("GET", f"{thread}/state")).json()
        see.note(f"{label}: state", [sorted(state), sorted(state["values"])])
        await see.ask("GET", f"{run}/join", label=f"{label}: join")
        await see.ask("POST", f"{run}/cancel?{query}", label=f"{label}: again")
        await see.ask("POST", f"{thread}/runs/wait", STEPS, label=f"{label}: another run")
    thread, run = await _begun(see)
    await see.ask("POST", f"{run}/cancel", label="without waiting")
    await see.until(run, lambda found: found["status"] == "interrupted")
    thread, run = await _begun(see)
    ids: object = [run.split("/")[4]]
    await see.ask("POST", "/runs/cancel", {"thread_id": thread.split("/")[2], "run_ids": ids}, label="several")
    await see.until(run, lambda found: found["status"] == "interrupted")


async def waiting_for_the_cancelled(see: Observer) -> None:
    _, run = await _begun(see)
    joined = asyncio.create_task(see.client.get(f"{run}/join"))
    streamed = asyncio.create_task(see.client.get(f"{run}/stream"))
    await see.ask("POST", f"{run}/cancel?wait=true")
    see.keep("join", f"GET {run}/join", await joined)
    answer = await streamed
    see.note("stream", [answer.status_code, answer.text.count("event: error")])
    own = await see.thread()
    waited = asyncio.create_task(see.client.post(f"/threads/{own}/runs/wait", json=LONG))
    await see.until(f"/threads/{own}/state", lambda found: "count" in str(found["values"]))
    await see.ask("POST", f"/threads/{own}/runs/{await see.run_of(own)}/cancel?wait=true")
    see.keep("wait", f"POST /threads/{own}/runs/wait", await waited)


async def deleted_while_running(see: Observer) -> None:
    thread, run = await _begun(see)
    await see.ask("POST", f"{thread}/state", {"values": {"count": 5}}, label="update a busy thread")
    await see.ask("DELETE", run, label="delete the run")
    await see.ask("GET", run, label="get the run")
    thread, run = await _begun(see)
    await see.ask("DELETE", thread, label="delete the thread")
    await see.ask("GET", run, label="get its run")
    await see.ask("GET", thread, label="get the thread")


async def overtaken_runs(see: Observer) -> None:
    thread, run = await _begun(see)
    for path in ("", "/wait", "/stream"):
        body: dict[str, object] = {**STEPS, "multitask_strategy": "reject"}
        await see.ask("POST", f"{thread}/runs{path}", body, label=f"reject {path}")
    see.note("reject: first run", (await see.ask("GET", run)).json()["status"])
    body = {**STEPS, "multitask_strategy": "enqueue"}
    second = (await see.ask("POST", f"{thread}/runs", body)).headers["content-location"]
    see.note("enqueue: second run waits", (await see.ask("GET", second)).json()["status"])
    await see.ask("POST", f"{run}/cancel?wait=true")
    await see.ask("GET", f"{second}/join", label="enqueue: second run")
    see.note("enqueue: status", (await see.ask("GET", second)).json()["status"])
    for strategy in ("interrupt", "rollback"):
        thread, run = await _begun(see)
        body = {**STEPS, "multitask_strategy": strategy}
        await see.ask("POST", f"{thread}/runs/wait", body, label=strategy)
        await see.ask("GET", run, label=f"{strategy}: first run")
        await see.ask("GET", thread, label=f"{strategy}: thread")
        answer = await see.ask("GET", f"{thread}/runs?select=status")
        see.note(f"{strategy}: runs", [one["status"] for one in answer.json()])


async def runs_in_a_row(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    asked = [see.ask("POST", f"{thread}/runs", STEPS) for _ in range(4)]
    runs = [answer.headers["content-location"] for answer in await asyncio.gather(*asked)]
    for run in runs:
        await see.ask("GET", f"{run}/join")
    await see.ask("GET", thread, label="thread")
    answer = await see.ask("GET", f"{thread}/runs?select=status")
    see.note("runs", [one["status"] for one in answer.json()])
    answer = await see.ask("GET", f"{thread}/history?limit=100")
    see.note("checkpoints", len(answer.json()))


async def disconnected_clients(see: Observer) -> None:
    for choice, status, steps in (("cancel", "interrupted", 400), ("continue", "success", 10), ("", "success", 10)):
        thread = f"/threads/{await see.thread()}"
        body: dict[str, object] = {**LONG, "input": {"steps": steps}, "stream_mode": ["custom"]}
        body |= {"on_disconnect": choice} if choice else {}
        async with aclosing(see.opened("POST", f"{thread}/runs/stream", body)) as events:
            async for event in events:
                if event.name == "custom" and json.loads(event.data)["count"] == 3:
                    break
        run = f"{thread}/runs/{await see.run_of(thread.split('/')[2])}"
        await see.until(run, lambda found, status=status: found["status"] == status)  # type: ignore[misc]
        await see.until(thread, lambda found: found["status"] != "busy")
        await see.ask("GET", thread, label=f"on_disconnect {choice or 'unsaid'}: thread")


async def delayed_runs(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    answer = await see.ask("POST", f"{thread}/runs", {**STEPS, "after_seconds": 60}, label="create")
    run = answer.headers["content-location"]
    await see.ask("GET", run, label="run")
    await see.ask("GET", thread, label="thread")
    await see.ask("POST", f"{run}/cancel?wait=true", label="cancel")
    await see.ask("GET", run, label="cancelled run")
    await see.ask("GET", thread, label="thread of the cancelled run")
    body: dict[str, object] = {**STEPS, "after_seconds": 1}
    run = (await see.ask("POST", f"{thread}/runs", body)).headers["content-location"]
    await see.ask("GET", f"{run}/join", label="join")

"""What is asked about runs that end by themselves."""

from __future__ import annotations

from uuid import uuid4

from tests.oracle.assistants import NOBODY
from tests.oracle.observations import Observer
from tests.oracle.threads import STEPS

APPROVE: dict[str, object] = {"assistant_id": "approve", "input": {"text": "hi"}}
HELLO: dict[str, object] = {"assistant_id": "echo", "input": {"messages": [{"role": "user", "content": "hello there"}]}}


async def runs_kept(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    more: dict[str, object] = {"metadata": {"m": 1}, "config": {"tags": ["t"], "configurable": {"user": "u"}}}
    answer = await see.ask("POST", f"{thread}/runs", {**STEPS, **more}, label="create")
    run = f"{thread}/runs/{answer.json()['run_id']}"
    await see.ask("GET", f"{run}/join", label="join")
    await see.ask("GET", run, label="get")
    await see.ask("GET", f"{run}/join", label="join the finished")
    await see.ask("GET", f"{thread}/runs", label="list")
    await see.ask("GET", f"{thread}/runs?limit=1&status=error", label="list another status")
    await see.ask("GET", f"{thread}/runs?select=run_id&select=status", label="select")
    await see.ask("POST", f"{run}/cancel", label="cancel the finished")
    await see.ask("DELETE", run, label="delete")
    await see.ask("GET", run, label="get the deleted")
    await see.ask("DELETE", run, label="delete again")


async def runs_unknown(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    await see.ask("GET", f"{thread}/runs/{NOBODY}", label="get")
    await see.ask("GET", f"{thread}/runs/bad", label="no UUID")
    await see.ask("GET", f"/threads/{NOBODY}/runs/{NOBODY}", label="nor the thread")
    await see.ask("GET", f"{thread}/runs/{NOBODY}/join", label="join")
    await see.ask("GET", f"{thread}/runs/{NOBODY}/stream", label="stream")
    await see.ask("POST", f"{thread}/runs/{NOBODY}/cancel", label="cancel")
    await see.ask("POST", "/runs/cancel", {"run_ids": [NOBODY], "thread_id": NOBODY}, label="cancel several")
    await see.ask("POST", "/runs/cancel", {}, label="cancel what")
    await see.ask("GET", f"{thread}/runs?limit=x", label="limit is text")


async def runs_refused(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    both = {"config": {"configurable": {"tone": "a"}}, "context": {"tone": "b"}}
    for label, body in {
        "no such graph": {"assistant_id": "nope"},
        "no such assistant": {"assistant_id": NOBODY},
        "no assistant": {},
        "configurable and context": {**STEPS, **both},
        "unknown stream mode": {**STEPS, "stream_mode": "nope"},
        "unknown strategy": {**STEPS, "multitask_strategy": "nope"},
        "unknown durability": {**STEPS, "durability": "nope"},
        "checkpoint is no UUID": {**STEPS, "checkpoint_id": "bad"},
        "webhook is no URL": {**STEPS, "webhook": "not a url"},
        "webhook to this host": {**STEPS, "webhook": "http://127.0.0.1:9/hook"},
        "webhook to this server": {**STEPS, "webhook": "/threads"},
        "metadata is text": {**STEPS, "metadata": "x"},
    }.items():
        await see.ask("POST", f"{thread}/runs/wait", body, label=label)
    await see.ask("POST", f"{thread}/runs", raw=b"{bad", label="no JSON")
    await see.ask("POST", f"/threads/{NOBODY}/runs", STEPS, label="no such thread")
    await see.ask("POST", f"/threads/{NOBODY}/runs/wait", STEPS, label="wait, no such thread")
    await see.ask("POST", f"/threads/{NOBODY}/runs/stream", STEPS, label="stream, no such thread")
    await see.ask("POST", "/threads/bad/runs", STEPS, label="thread is no UUID")
    await see.ask("GET", f"{thread}/runs", label="nothing was begun")


async def odd_inputs(see: Observer) -> None:
    for label, body in {
        "input is text": {**STEPS, "input": "text"},
        "no input": {"assistant_id": "steps"},
        "unknown key": {**STEPS, "input": {"nope": 1}},
        "nothing to resume": {"assistant_id": "steps", "command": {"resume": 1}},
        "too few steps": {**STEPS, "config": {"recursion_limit": 2}},
    }.items():
        thread = await see.thread()
        await see.ask("POST", f"/threads/{thread}/runs/wait", body, label=label)
        answer = await see.ask("GET", f"/threads/{thread}/runs?select=status")
        see.note(f"{label}: status", answer.json()[0]["status"])


async def refused_inputs(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    wrong = {"assistant_id": "echo", "input": {"messages": [{"role": "nobody", "content": "y"}]}}
    await see.ask("POST", f"{thread}/runs/wait", wrong, label="wait")
    await see.ask("GET", thread, label="thread")
    await see.ask("GET", f"{thread}/state", label="state")
    await see.ask("POST", f"{thread}/runs/wait", HELLO, label="another run")
    await see.ask("GET", thread, label="thread after another run")


async def threads_made_by_runs(see: Observer) -> None:
    own = str(uuid4())
    await see.ask("POST", f"/threads/{own}/runs/wait", {**STEPS, "if_not_exists": "create"}, label="create")
    await see.ask("GET", f"/threads/{own}", label="thread")
    await see.ask("POST", f"/threads/{own}/runs/wait", {"assistant_id": "configured", "input": {}}, label="other graph")
    await see.ask("GET", f"/threads/{own}", label="thread after the other graph")


async def configs(see: Observer) -> None:
    own = {"graph_id": "configured", "config": {"tags": ["a"], "recursion_limit": 9}, "context": {"tone": "mild"}}
    made = (await see.ask("POST", "/assistants", {**own, "metadata": {"of": "mine"}})).json()["assistant_id"]
    ask: dict[str, object] = {"assistant_id": made, "input": {}}
    await see.ask("POST", "/runs/wait", ask, label="the assistant's")
    await see.ask("POST", "/runs/wait", {**ask, "config": {"tags": ["b"]}}, label="more tags")
    await see.ask("POST", "/runs/wait", {**ask, "context": {"tone": "wild"}}, label="another context")
    thread = f"/threads/{await see.thread()}"
    await see.ask("POST", f"{thread}/runs/wait", {**ask, "config": {"configurable": {"user": "u"}}}, label="more keys")
    await see.ask("POST", f"{thread}/runs/wait", ask, label="is it kept for the thread's next run?")
    await see.ask("GET", thread, label="thread")
    await see.ask("GET", f"{thread}/runs?limit=1&offset=1", label="first run")
    await see.ask("DELETE", f"/assistants/{made}")


async def contexts(see: Observer) -> None:
    ask: dict[str, object] = {"assistant_id": "configured", "input": {}}
    await see.ask(
        "POST", "/runs/wait", {**ask, "context": {"tone": "kind"}, "config": {"tags": ["z"]}}, label="context"
    )
    config: object = {"configurable": {"tone": "kind", "user": "ann"}}
    await see.ask("POST", "/runs/wait", {**ask, "config": config}, label="configurable")


async def failed_runs(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    await see.ask("POST", f"{thread}/runs/wait", {"assistant_id": "broken", "input": {"topic": "x"}}, label="wait")
    await see.ask("GET", thread, label="thread")
    await see.ask("GET", f"{thread}/state", label="state")
    run = f"{thread}/runs/{await see.run_of(thread.split('/')[2])}"
    await see.ask("GET", f"{run}", label="run")
    await see.ask("GET", f"{run}/join", label="join")
    await see.ask("POST", f"{thread}/runs/wait", STEPS, label="another run")
    await see.ask("GET", thread, label="thread after another run")


async def interrupted_runs(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    await see.ask("POST", f"{thread}/runs/wait", APPROVE, label="wait")
    await see.ask("GET", thread, label="thread")
    await see.ask("GET", f"{thread}/state", label="state")
    run = f"{thread}/runs/{await see.run_of(thread.split('/')[2])}"
    await see.ask("GET", f"{run}?select=status", label="run", shape_only=True)
    await see.ask("GET", f"{run}/join", label="join")
    await see.ask("POST", f"{thread}/runs/wait", {"assistant_id": "approve", "input": None}, label="no answer")
    resume: dict[str, object] = {"assistant_id": "approve", "command": {"resume": True}}
    await see.ask("POST", f"{thread}/runs/wait", resume, label="resume")
    await see.ask("GET", thread, label="thread at the end")
    await see.ask("POST", f"{thread}/runs/wait", APPROVE)
    found = (await see.ask("GET", thread)).json()["interrupts"]
    one = next(iter(found.values()))[0]["id"]
    by_id = {"assistant_id": "approve", "command": {"resume": {one: False}}}
    await see.ask("POST", f"{thread}/runs/wait", by_id, label="resume by id")


async def stops_and_forks(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    go_on: dict[str, object] = {"assistant_id": "steps", "input": None}
    await see.ask("POST", f"{thread}/runs/wait", {**STEPS, "interrupt_before": ["second"]}, label="stop before")
    await see.ask("GET", thread, label="thread")
    await see.ask("POST", f"{thread}/runs/wait", {**go_on, "interrupt_after": "*"}, label="stop after each")
    await see.ask("POST", f"{thread}/runs/wait", go_on, label="go on")
    update = {"assistant_id": "steps", "command": {"update": {"topic": "k"}, "goto": "third"}}
    answer = await see.ask("GET", f"{thread}/history?limit=100")
    history = answer.json()
    second = next(one for one in history if one["next"] == ["second"])
    await see.ask("POST", f"{thread}/runs/wait", {**go_on, "checkpoint_id": second["checkpoint_id"]}, label="replay")
    fork = {**STEPS, "input": {"topic": "fork"}, "checkpoint": second["checkpoint"]}
    await see.ask("POST", f"{thread}/runs/wait", fork, label="fork")
    await see.ask("POST", f"{thread}/runs/wait", update, label="update and go to")
    for durability in ("sync", "async", "exit"):
        other = f"/threads/{await see.thread()}"
        await see.ask("POST", f"{other}/runs/wait", {**STEPS, "durability": durability})
        answer = await see.ask("GET", f"{other}/history?limit=100")
        see.note(f"checkpoints with durability {durability}", len(answer.json()))


async def stateless_runs(see: Observer) -> None:
    answer = await see.ask("POST", "/runs/wait", STEPS, label="wait")
    await see.ask("GET", "/threads/" + answer.headers["content-location"].split("/")[2], label="its thread")
    answer = await see.ask("POST", "/runs/wait", {**STEPS, "on_completion": "keep"}, label="wait and keep")
    await see.ask("GET", "/threads/" + answer.headers["content-location"].split("/")[2], label="its kept thread")
    await see.ask("POST", "/runs/wait", {"assistant_id": "broken", "input": {}}, label="a failure")
    await see.ask("POST", "/runs/wait", APPROVE, label="an interrupt")
    await see.ask("POST", "/runs/wait", {"assistant_id": "approve", "command": {"resume": 1}}, label="resume")
    await see.ask("POST", "/runs/wait", {"assistant_id": "nope"}, label="no such graph")
    await see.ask("POST", "/runs", STEPS, label="in the background")
    await see.ask("POST", "/runs/batch", [STEPS, HELLO], label="batch", shape_only=True)
    await see.ask("POST", "/runs/batch", [], label="empty batch")
    await see.ask("POST", "/runs/batch", {}, label="batch is no list")
    await see.ask("POST", "/runs/batch", [{"assistant_id": "nope"}], label="batch with no such graph")

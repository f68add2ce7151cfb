"""What is asked about threads and their states."""

from __future__ import annotations

from uuid import uuid4

from tests.oracle.assistants import NOBODY
from tests.oracle.observations import Observer

STEPS: dict[str, object] = {"assistant_id": "steps", "input": {"topic": "cats"}}


async def threads_kept(see: Observer) -> None:
    own = str(uuid4())
    await see.ask("POST", "/threads", {}, label="create")
    await see.ask("POST", "/threads", {"thread_id": own, "metadata": {"k": "v"}}, label="create with an id")
    await see.ask("POST", "/threads", {"thread_id": own}, label="create again")
    again = {"thread_id": own, "if_exists": "do_nothing", "metadata": {"z": 1}}
    await see.ask("POST", "/threads", again, label="do nothing")
    await see.ask("GET", f"/threads/{own}", label="get")
    await see.ask("PATCH", f"/threads/{own}", {"metadata": {"k2": "v2"}}, label="update")
    await see.ask("POST", f"/threads/{own}/copy", label="copy")
    await see.ask("DELETE", f"/threads/{own}", label="delete")
    await see.ask("DELETE", f"/threads/{own}", label="delete again")
    await see.ask("GET", f"/threads/{own}", label="get the deleted")


async def threads_refused(see: Observer) -> None:
    for label, body in {
        "id is no UUID": {"thread_id": "bad"},
        "unknown if_exists": {"if_exists": "nope"},
        "metadata is text": {"metadata": "x"},
        "ttl is a number": {"ttl": 5},
    }.items():
        await see.ask("POST", "/threads", body, label=label)
    await see.ask("POST", "/threads", raw=b"{bad", label="no JSON")
    await see.ask("GET", "/threads/bad", label="get no UUID")
    await see.ask("DELETE", "/threads/bad", label="delete no UUID")
    await see.ask("GET", "/threads/bad/state", label="state of no UUID")
    for path in ("", "/state", "/history", "/runs"):
        await see.ask("GET", f"/threads/{NOBODY}{path}", label=f"nobody{path}")
    await see.ask("PATCH", f"/threads/{NOBODY}", {"metadata": {}}, label="update nobody")
    await see.ask("POST", f"/threads/{NOBODY}/copy", label="copy nobody")
    await see.ask("POST", f"/threads/{NOBODY}/state", {"values": {}}, label="update the state of nobody")


async def threads_found(see: Observer) -> None:
    tag: object = {"tag": str(uuid4())}
    ids = [await see.thread({"metadata": tag}) for _ in range(3)]
    await see.ask("POST", f"/threads/{ids[0]}/runs/wait", STEPS)
    await see.ask("POST", f"/threads/{ids[1]}/runs/wait", {"assistant_id": "approve", "input": {"text": "hi"}})
    for status in ("idle", "interrupted", "busy", "error"):
        query = {"metadata": tag, "status": status, "select": ["status", "values"]}
        await see.ask("POST", "/threads/search", query, label=status)
    await see.ask("POST", "/threads/search", {"metadata": tag, "status": "interrupted"}, label="whole")
    few = {"metadata": tag, "select": ["thread_id"], "sort_by": "created_at", "sort_order": "asc", "limit": 2}
    answer = await see.ask("POST", "/threads/search", few, label="page one")
    see.note("oldest first", [one["thread_id"] for one in answer.json()] == ids[:2])
    await see.ask("POST", "/threads/search", {**few, "offset": 2}, label="page two")
    await see.ask("POST", "/threads/search", {"metadata": tag, "offset": 100}, label="beyond the end")
    await see.ask("POST", "/threads/search", {"ids": [ids[2]], "select": ["thread_id", "status"]}, label="by id")
    await see.ask("POST", "/threads/search", {"ids": ["bad"]}, label="by no UUID")
    pick = {"t": "values.topic", "last": "values.trail[-1]"}
    query = {"ids": [ids[0]], "select": ["thread_id"], "extract": pick}
    await see.ask("POST", "/threads/search", query, label="extract")
    await see.ask("PATCH", f"/threads/{ids[0]}", {"metadata": {"touched": True}})
    answer = await see.ask("POST", "/threads/search", {"metadata": tag, "select": ["thread_id"]})
    see.note("last changed first", answer.json()[0]["thread_id"] == ids[0])
    await see.ask("POST", "/threads/count", {"metadata": tag}, label="count")
    await see.ask("POST", "/threads/count", {"metadata": tag, "status": "interrupted"}, label="count of a status")
    for label, wrong in {
        "unknown status": {"status": "nope"},
        "unknown order": {"sort_by": "nope"},
        "limit too low": {"limit": 0},
        "limit too high": {"limit": 1001},
        "offset below zero": {"offset": -1},
        "unknown field": {"select": ["nope"]},
    }.items():
        await see.ask("POST", "/threads/search", wrong, label=label)
    await see.ask("POST", "/threads/search", raw=b"", label="no body")


async def empty_states(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    await see.ask("GET", f"{thread}/state", label="state")
    await see.ask("GET", f"{thread}/state?subgraphs=true", label="with subgraphs")
    await see.ask("POST", f"{thread}/state/checkpoint", {"checkpoint": {}}, label="by checkpoint")
    await see.ask("POST", f"{thread}/state/checkpoint", {}, label="no checkpoint")
    await see.ask("GET", f"{thread}/history", label="history")
    await see.ask("POST", f"{thread}/history", {"limit": 5}, label="history by POST")
    await see.ask("POST", f"{thread}/state", {"values": {"topic": "x"}}, label="update without a graph")


async def states(see: Observer) -> None:
    own = await see.thread({"metadata": {"k": "v"}})
    thread = f"/threads/{own}"
    more: dict[str, object] = {"metadata": {"m": 1}, "config": {"tags": ["t"], "recursion_limit": 9}}
    await see.ask("POST", f"{thread}/runs/wait", {**STEPS, **more}, label="run")
    await see.ask("GET", thread, label="thread")
    await see.ask("GET", f"{thread}/state", label="state")
    answer = await see.ask("GET", f"{thread}/history?limit=10", label="history")
    history = answer.json()
    await see.ask(
        "POST", f"{thread}/history", {"limit": 1, "before": {"configurable": history[1]["checkpoint"]}}, label="before"
    )
    await see.ask("POST", f"{thread}/history", {"metadata": {"step": 0}, "limit": 9}, label="of a step")
    await see.ask("GET", f"{thread}/state/{history[2]['checkpoint_id']}", label="one checkpoint")
    earlier = {"checkpoint": history[1]["checkpoint"]}
    await see.ask("POST", f"{thread}/state/checkpoint", earlier, label="the same by POST")
    newest = {"checkpoint": {"thread_id": own, "checkpoint_ns": ""}}
    await see.ask("POST", f"{thread}/state/checkpoint", newest, label="without a checkpoint id")
    await see.ask("GET", f"{thread}/state/1ef00000-0000-6000-8000-000000000000", label="unknown checkpoint")
    await see.ask("GET", f"{thread}/history?limit=x", label="history, limit is text")
    await see.ask("POST", f"{thread}/history", {"limit": 0}, label="history, limit too low")
    answer = await see.ask("POST", f"{thread}/copy", label="copy")
    copied = f"/threads/{answer.json()['thread_id']}"
    await see.ask("DELETE", thread, label="delete")
    await see.ask("POST", f"{copied}/runs/wait", STEPS, label="run on the copy")


async def states_updated(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    await see.ask("POST", f"{thread}/runs/wait", STEPS)
    await see.ask("POST", f"{thread}/state", {"values": {"topic": "dogs", "trail": ["me"]}}, label="update")
    await see.ask("GET", f"{thread}/state", label="state")
    await see.ask("POST", f"{thread}/state", {"values": {"topic": "fish"}, "as_node": "first"}, label="as a node")
    await see.ask("GET", f"{thread}/state", label="state after the node")
    await see.ask("GET", thread, label="thread after the node")
    await see.ask("POST", f"{thread}/runs/wait", {"assistant_id": "steps", "input": None}, label="go on")
    await see.ask("POST", f"{thread}/state", {"values": None}, label="null")
    await see.ask("POST", f"{thread}/state", {"values": {}, "as_node": "nope"}, label="no such node")
    await see.ask("POST", f"{thread}/state", {"values": [{"topic": "a"}]}, label="a list")
    answer = await see.ask("GET", f"{thread}/history?limit=100")
    old = next(one for one in answer.json() if one["next"] == ["third"])
    body = {"values": {"topic": "forked"}, "checkpoint_id": old["checkpoint_id"]}
    await see.ask("POST", f"{thread}/state", body, label="fork")
    await see.ask("GET", f"{thread}/state", label="forked state")


async def subgraph_states(see: Observer) -> None:
    thread = f"/threads/{await see.thread()}"
    body: dict[str, object] = {"assistant_id": "parent", "input": {"words": ["w"]}, "interrupt_before": ["child"]}
    await see.ask("POST", f"{thread}/runs/wait", body, label="stop before the child")
    await see.ask("GET", f"{thread}/state?subgraphs=true", label="state")
    await see.ask("POST", f"{thread}/runs/wait", {"assistant_id": "parent", "input": None}, label="go on")
    await see.ask("GET", f"{thread}/state?subgraphs=true", label="at the end")


async def threads_pruned(see: Observer) -> None:
    own = await see.thread()
    await see.ask("POST", "/threads/prune", {"thread_ids": [own], "strategy": "delete"}, label="delete")
    await see.ask("GET", f"/threads/{own}", label="get")
    await see.ask("POST", "/threads/prune", {"thread_ids": [own], "strategy": "delete"}, label="delete again")
    await see.ask("POST", "/threads/prune", {"thread_ids": [own], "strategy": "nope"}, label="unknown strategy")
    await see.ask("POST", "/threads/prune", {"thread_ids": ["bad"]}, label="no UUID")


async def threads_built(see: Observer) -> None:
    first = {"values": {"topic": "s", "trail": ["a"]}, "as_node": "__start__"}
    steps = [{"updates": [first]}, {"updates": [{"values": {"trail": ["b"]}, "as_node": "first"}]}]
    body = {"metadata": {"graph_id": "steps"}, "supersteps": steps}
    answer = await see.ask("POST", "/threads", body, label="create")
    thread = f"/threads/{answer.json()['thread_id']}"
    await see.ask("GET", f"{thread}/state", label="state")
    await see.ask("POST", f"{thread}/runs/wait", {"assistant_id": "steps", "input": None}, label="go on")

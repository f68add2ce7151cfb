"""What is asked about assistants and the system."""

from __future__ import annotations

from uuid import uuid4

from tests.oracle.observations import Observer

NOBODY = "3f6d7a1e-0000-4000-8000-000000000000"


async def system(see: Observer) -> None:
    await see.ask("GET", "/ok", label="ok", shape_only=True)
    await see.ask("GET", "/info", label="info", shape_only=True)
    await see.ask("GET", "/no/such/path", label="unknown path")
    await see.ask("GET", "/threads", label="wrong method")


async def browsers(see: Observer) -> None:
    origin = {"origin": "http://localhost:3000"}
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-api-key"}
    answer = await see.client.options("/threads/search", headers=origin | wanted)
    allowed = answer.headers["access-control-allow-headers"]
    see.note("preflight", [answer.status_code, answer.headers["access-control-allow-origin"], allowed])
    answer = await see.client.get("/ok", headers=origin)
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    see.note("exposed", sorted(exposed & {"x-pagination-total", "x-pagination-next", "content-location"}))


async def assistants_found(see: Observer) -> None:
    await see.ask("POST", "/assistants/search", {"graph_id": "steps"}, label="by graph")
    await see.ask("POST", "/assistants/search", {"graph_id": "steps", "select": ["name", "graph_id"]}, label="select")
    await see.ask("POST", "/assistants/search", {"name": "STEP", "select": ["name"]}, label="by part of a name")
    own: dict[str, object] = {"created_by": "system"}
    answer = await see.ask("POST", "/assistants/search", {"metadata": own | {"x": "no"}}, label="no such metadata")
    page = {"metadata": own, "sort_by": "name", "sort_order": "asc", "select": ["name"], "limit": 3}
    await see.ask("POST", "/assistants/search", page, label="page one")
    await see.ask("POST", "/assistants/search", {**page, "offset": 3}, label="page two")
    await see.ask("POST", "/assistants/search", {**page, "offset": 6}, label="last page")
    await see.ask("POST", "/assistants/count", {"graph_id": "steps"}, label="count")
    await see.ask("POST", "/assistants/search", {"graph_id": "nope"}, label="no such graph")
    for label, wrong in {
        "limit too low": {"limit": 0},
        "limit too high": {"limit": 1001},
        "offset below zero": {"offset": -1},
        "unknown order": {"sort_by": "nope"},
        "unknown field": {"select": ["nope"]},
        "metadata is text": {"metadata": "x"},
    }.items():
        await see.ask("POST", "/assistants/search", wrong, label=label)
    answer = await see.ask("POST", "/assistants/search", {"graph_id": "steps"})
    found = answer.json()[0]["assistant_id"]
    see.note("id of a graph's own assistant", found == "01d10e59-d4b4-51ec-8e94-9b2716b34de8")
    await see.ask("GET", f"/assistants/{found}", label="get")
    await see.ask("GET", f"/assistants/{NOBODY}", label="get nobody")


async def assistants_described(see: Observer) -> None:
    for graph in ("steps", "configured", "parent"):
        answer = await see.ask("POST", "/assistants/search", {"graph_id": graph})
        found = answer.json()[0]["assistant_id"]
        await see.ask("GET", f"/assistants/{found}/schemas", label=f"schemas of {graph}")
    answer = await see.ask("POST", "/assistants/search", {"graph_id": "parent"})
    found = answer.json()[0]["assistant_id"]
    await see.ask("GET", f"/assistants/{found}/graph", label="graph")
    await see.ask("GET", "/assistants/parent/graph?xray=true", label="xray by graph id")
    await see.ask("GET", "/assistants/slow/graph", label="conditional edges")
    await see.ask("GET", "/assistants/parent/graph?xray=bad", label="xray is text")
    await see.ask("GET", f"/assistants/{NOBODY}/graph", label="graph of nobody")
    await see.ask("GET", f"/assistants/{NOBODY}/schemas", label="schemas of nobody")
    await see.ask("GET", f"/assistants/{found}/subgraphs", label="subgraphs")
    await see.ask("GET", f"/assistants/{found}/subgraphs/child?recurse=true", label="one subgraph")
    await see.ask("GET", f"/assistants/{found}/subgraphs/nope", label="no such subgraph")


async def assistants_changed(see: Observer) -> None:
    own = str(uuid4())
    new = {"graph_id": "configured", "assistant_id": own, "name": "mine", "metadata": {"k": "v"}}
    await see.ask("POST", "/assistants", {**new, "context": {"tone": "kind"}, "description": "d"}, label="create")
    await see.ask("POST", "/assistants", new, label="create again")
    await see.ask("POST", "/assistants", {**new, "if_exists": "do_nothing", "name": "x"}, label="do nothing")
    await see.ask("POST", "/runs/wait", {"assistant_id": own, "input": {}}, label="run it")
    change = {"name": "yours", "metadata": {"k2": "v2"}, "context": {"tone": "cold"}}
    await see.ask("PATCH", f"/assistants/{own}", change, label="update")
    await see.ask("POST", f"/assistants/{own}/versions", {}, label="versions")
    await see.ask("POST", f"/assistants/{own}/versions", {"limit": 1}, label="newest version")
    answer = await see.ask("POST", f"/assistants/{own}/latest", {"version": 1})
    see.note("back to version one", [answer.status_code, answer.json()["name"], answer.json()["version"]])
    await see.ask("POST", f"/assistants/{own}/latest", {"version": 99}, label="no such version")
    await see.ask("DELETE", f"/assistants/{own}", label="delete")
    await see.ask("DELETE", f"/assistants/{own}", label="delete again")
    await see.ask("GET", f"/assistants/{own}", label="get the deleted")


async def assistants_refused(see: Observer) -> None:
    both = {"graph_id": "configured", "config": {"configurable": {"tone": "a"}}, "context": {"tone": "b"}}
    for label, body in {
        "no such graph": {"graph_id": "nope"},
        "no graph": {},
        "id is no UUID": {"graph_id": "steps", "assistant_id": "bad"},
        "configurable and context": both,
        "a list": [],
    }.items():
        await see.ask("POST", "/assistants", body, label=label)
    await see.ask("PATCH", f"/assistants/{NOBODY}", {"name": "x"}, label="update nobody")
    await see.ask("POST", f"/assistants/{NOBODY}/versions", {}, label="versions of nobody")
    await see.ask("DELETE", f"/assistants/{NOBODY}", label="delete nobody")
    await see.ask("POST", "/assistants/search", raw=b"{bad", label="no JSON")
    await see.ask("POST", "/assistants/search", raw=b"", label="no body")
    await see.ask("POST", "/assistants/search", raw=b'{"name":"\xff"}', label="no UTF-8")
    kind = {"content-type": "text/plain"}
    answer = await see.client.post("/assistants/search", content=b'{"graph_id":"steps"}', headers=kind)
    see.keep("not said to be JSON", "POST /assistants/search", answer)

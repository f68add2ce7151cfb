"""What is asked about store items."""

from __future__ import annotations

from uuid import uuid4

from tests.oracle.observations import Observer


async def items(see: Observer) -> None:
    top = uuid4().hex
    for name, value in {"ann": {"x": 1}, "bob": {"x": 2, "y": "z"}}.items():
        body: dict[str, object] = {"namespace": [top, name], "key": "a", "value": value}
        await see.ask("PUT", "/store/items", body, label=f"put {name}")
    await see.ask("GET", f"/store/items?namespace={top}.ann&key=a", label="get")
    await see.ask("GET", f"/store/items?namespace={top}.ann&key=zz", label="get nothing")
    await see.ask("POST", "/store/items/search", {"namespace_prefix": [top]}, label="search")
    query: dict[str, object] = {"namespace_prefix": [top], "filter": {"x": 2}}
    await see.ask("POST", "/store/items/search", query, label="filter")
    page: dict[str, object] = {"namespace_prefix": [top], "limit": 1, "offset": 1}
    await see.ask("POST", "/store/items/search", page, label="page two")
    await see.ask("POST", "/store/items/search", {"namespace_prefix": [uuid4().hex]}, label="search nothing")
    await see.ask("POST", "/store/namespaces", {"prefix": [top]}, label="namespaces")
    await see.ask("POST", "/store/namespaces", {"prefix": [top], "max_depth": 1}, label="namespaces, one deep")
    await see.ask("POST", "/store/namespaces", {"prefix": [top], "suffix": ["bob"]}, label="namespaces by suffix")
    gone: dict[str, object] = {"namespace": [top, "ann"], "key": "a"}
    await see.ask("DELETE", "/store/items", gone, label="delete")
    await see.ask("DELETE", "/store/items", gone, label="delete again")
    user = uuid4().hex
    for note in ("milk", "bread"):
        body = {"assistant_id": "memory", "input": {"user": user, "note": note}}
        await see.ask("POST", "/runs/wait", body, label=f"a graph keeps {note}")
    await see.ask("POST", "/store/items/search", {"namespace_prefix": ["notes", user]}, label="what the graph kept")


async def items_refused(see: Observer) -> None:
    for label, body in {
        "no value": {"namespace": ["u"], "key": "a"},
        "value is text": {"namespace": ["u"], "key": "a", "value": "text"},
        "empty namespace": {"namespace": [], "key": "a", "value": {}},
        "a period in a label": {"namespace": ["a.b"], "key": "a", "value": {}},
        "an empty label": {"namespace": [""], "key": "a", "value": {}},
        "a reserved label": {"namespace": ["langgraph"], "key": "a", "value": {}},
        "namespace is text": {"namespace": "u", "key": "a", "value": {}},
    }.items():
        await see.ask("PUT", "/store/items", body, label=label)
    await see.ask("GET", "/store/items?namespace=u", label="get without a key")
    await see.ask("GET", "/store/items?key=a", label="get without a namespace")
    await see.ask("DELETE", "/store/items", raw=b"", label="delete without a body")

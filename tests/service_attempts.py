"""What a stranger can try on each route of the service, with everything that somebody else has in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.service_worlds import MARK, NEVER, Attempt, World

_SAID = {"role": "user", "content": "hello"}
_ITEM = {"namespace": [MARK, "notes"], "key": MARK}
_PREFIXES: list[dict[str, Any]] = [{}, {"prefix": ["notes"], "limit": 100}]
_ALL = {"words": "values.topic"}
_OKAY = frozenset({200})
_DONE = frozenset({204})
_TAKEN = frozenset({409})
_SYSTEM = frozenset({403, 404})
_RUN = {"assistant_id": "steps", "input": {"topic": "mine"}}


def _open(method: str, url: str, json: Any = None, answer: Any = None) -> Attempt:
    """What everybody may do, and sees nothing of others by."""
    return Attempt(method, url, json, _OKAY, answer)


def _list(url: str) -> Callable[[World], list[Attempt]]:
    return lambda world: [_open("GET", url)]


def _tricks(world: World) -> list[dict[str, Any]]:
    """Ways to name somebody else's checkpoint in a run of one's own."""
    place = {"thread_id": world.thread, "checkpoint_id": world.checkpoint, "checkpoint_ns": ""}
    internal = {"__pregel_checkpointer": None, "__pregel_resuming": True, "checkpoint_map": {"": world.checkpoint}}
    return [
        {**_RUN, "checkpoint": place},
        {**_RUN, "checkpoint_id": world.checkpoint},
        {**_RUN, "input": None, "checkpoint": {**place, "checkpoint_map": {"": world.checkpoint}}},
        {**_RUN, "config": {"configurable": {**place, **internal, "run_id": world.run}}},
        {**_RUN, "config": {"run_id": world.run, "metadata": {"run_id": world.run, "thread_id": world.thread}}},
        {**_RUN, "context": place},
        {"assistant_id": "memory", "input": {"user": "shared"}, "config": {"configurable": {"user_id": "ada"}}},
        {"assistant_id": "memory", "input": {"user": "shared"}, "metadata": {"owner": "ada", "user_id": "ada"}},
    ]


def _begun(kind: str, **more: Any) -> Callable[[World], list[Attempt]]:
    """Runs on somebody else's thread, with somebody else's assistant, from somebody else's checkpoint."""

    def attempts(world: World) -> list[Attempt]:
        own = f"/threads/{world.mine}/runs{kind}"
        theirs = [f"/threads/{one}/runs{kind}" for one in (world.thread, world.busy, world.lonely_thread)]
        bodies = [{}, {"if_not_exists": "create"}, {"multitask_strategy": "rollback"}]
        return [
            *(
                Attempt("POST", url, {**_RUN, **body, **more}, by_owner=url == theirs[0])
                for url in theirs
                for body in bodies
            ),
            Attempt("POST", own, {"assistant_id": world.assistant, **more}, by_owner=False),
            *(Attempt("POST", own, one, _OKAY | {400, 404, 422}, by_owner=False) for one in _tricks(world)),
        ]

    return attempts


def _stateless(kind: str) -> Callable[[World], list[Attempt]]:
    def attempts(world: World) -> list[Attempt]:
        url = f"/runs{kind}"
        return [
            Attempt("POST", url, {"assistant_id": world.assistant}),
            *(Attempt("POST", url, one, _OKAY | {400, 422}, by_owner=False) for one in _tricks(world)),
        ]

    return attempts


def _of(method: str, *places: str, json: Any = None, **more: Any) -> Callable[[World], list[Attempt]]:
    """The same request for several things of ada's, which are named as in World."""

    def attempts(world: World) -> list[Attempt]:
        names = {name: getattr(world, name) for name in World.__slots__}
        return [Attempt(method, place.format(**names), json, **more) for place in places]

    return attempts


def _places(world: World) -> list[Any]:
    place = {"thread_id": world.thread, "checkpoint_id": world.checkpoint}
    return [place, {**place, "checkpoint_ns": "first"}, {**place, "checkpoint_map": {"": world.checkpoint}}]


def _states(world: World) -> list[Attempt]:
    url = f"/threads/{world.mine}/state"
    places = _places(world)
    write = {"values": {"trail": ["changed"]}, "as_node": "first"}
    return [
        *(Attempt("POST", f"/threads/{one}/state", write, by_owner=one == world.thread) for one in _threads(world)),
        *(Attempt("POST", url, {**write, "checkpoint": one}, _OKAY | {400}, by_owner=False) for one in places),
        Attempt("POST", url, {**write, "checkpoint_id": world.checkpoint}, _OKAY | {400}, by_owner=False),
    ]


def _histories(world: World) -> list[Attempt]:
    url = f"/threads/{world.mine}/history"
    befores = [{"before": one} for one in (world.checkpoint, *_places(world), {"configurable": _places(world)[0]})]
    bodies = [*befores, *({"checkpoint": one} for one in _places(world)), {"metadata": {"thread_id": world.thread}}]
    return [
        *(Attempt("POST", f"/threads/{one}/history", {"limit": 100}) for one in (world.thread, world.busy)),
        *(Attempt("POST", url, {"limit": 100, **body}, _OKAY | {400}, by_owner=False) for body in bodies),
    ]


def _threads(world: World) -> Sequence[str]:
    return (world.thread, world.busy, world.lonely_thread)


def _assistant(method: str, suffix: str = "", json: Any = None) -> Callable[[World], list[Attempt]]:
    return _of(method, f"/assistants/{{assistant}}{suffix}", json=json)


def _changed(method: str, suffix: str = "", json: Any = None) -> Callable[[World], list[Attempt]]:
    """A change to ada's assistant, and to one that is everybody's."""
    return lambda world: [
        *_assistant(method, suffix, json)(world),
        Attempt(method, f"/assistants/steps{suffix}", json, _SYSTEM, by_owner=False),
    ]


def _searches(url: str, empty: Any, bodies: Callable[[World], Sequence[Any]]) -> Callable[[World], list[Attempt]]:
    """`empty` is the answer to a search that only ada's things meet."""
    return lambda world: [
        _open("POST", url, {}),
        *(_open("POST", url, body, empty) for body in bodies(world)),
    ]


def _thread_searches(world: World) -> list[Any]:
    return [{"metadata": {"note": MARK}}, {"values": {"topic": MARK}}, {"status": "busy"}]


def _cron_searches(world: World) -> list[Any]:
    return [{"thread_id": world.thread}, {"assistant_id": world.assistant}, {"metadata": {"note": MARK}}]


def _cancels(world: World) -> list[Attempt]:
    runs = [{"thread_id": one, "run_ids": [world.waiting, world.lonely]} for one in (world.busy, world.mine)]
    every = [{"status": status} for status in ("all", "pending", "running")]
    return [Attempt("POST", "/runs/cancel", body, by_owner=body == every[0]) for body in (*runs, *every)]


_RUNS = ("/threads/{thread}/runs/{run}", "/threads/{busy}/runs/{waiting}", "/threads/{lonely_thread}/runs/{lonely}")
_STOLEN = tuple(f"/threads/{{mine}}/runs/{{{run}}}" for run in ("run", "waiting", "lonely"))
_ALL_RUNS = (*((one, True) for one in _RUNS), *((one, False) for one in _STOLEN))


def _each_run(method: str, suffix: str = "", *, over: bool = False) -> Callable[[World], list[Attempt]]:
    """For every run of ada's, on its own thread and on the stranger's; `over`: the owner waits only for the first."""
    return lambda world: [
        attempt
        for one, own in _ALL_RUNS
        for attempt in _of(
            method,
            f"{one}{suffix}",
            by_owner=own and (not over or one == _RUNS[0]),
            headers={"last-event-id": "-1"} if "stream" in suffix else None,
        )(world)
    ]


TABLE: Mapping[tuple[str, str], Callable[[World], list[Attempt]]] = {
    ("GET", "/workflows"): _list("/workflows"),
    ("GET", "/runs/recent"): _list("/runs/recent?limit=100"),
    ("GET", "/limits"): _list("/limits"),
    ("GET", "/metrics"): _list("/metrics"),
    ("GET", "/v1/models"): _list("/v1/models"),
    ("GET", "/v1/models/{model}"): _of("GET", "/v1/models/{assistant}", by_owner=False),
    ("POST", "/v1/chat/completions"): lambda world: [
        Attempt("POST", "/v1/chat/completions", {"model": world.assistant, "messages": [_SAID]}, by_owner=False)
    ],
    ("POST", "/generate"): lambda world: [
        Attempt("POST", "/generate", {"workflow": world.assistant, "inputs": {}}, by_owner=False),
        *(
            Attempt("POST", "/generate", {"workflow": "steps", "thread_id": one}, by_owner=one == world.thread)
            for one in _threads(world)
        ),
        _open("POST", "/generate", {"workflow": "memory", "inputs": {"user": "shared"}}),
    ],
    ("POST", "/assistants"): lambda world: [
        Attempt("POST", "/assistants", {"graph_id": "steps", "assistant_id": world.assistant}, _TAKEN, by_owner=False),
        Attempt(
            "POST",
            "/assistants",
            {"graph_id": "steps", "assistant_id": world.assistant, "if_exists": "do_nothing"},
            _TAKEN,
        ),
    ],
    ("POST", "/assistants/search"): _searches(
        "/assistants/search", [], lambda world: [{"name": MARK}, {"name": MARK[:4]}]
    ),
    ("POST", "/assistants/count"): _searches("/assistants/count", 0, lambda world: [{"name": MARK}]),
    ("GET", "/assistants/{assistant_id}"): _assistant("GET"),
    ("PATCH", "/assistants/{assistant_id}"): _changed("PATCH", json={"name": "changed"}),
    ("DELETE", "/assistants/{assistant_id}"): _changed("DELETE", "?delete_threads=true"),
    ("GET", "/assistants/{assistant_id}/schemas"): _assistant("GET", "/schemas"),
    ("GET", "/assistants/{assistant_id}/graph"): _assistant("GET", "/graph"),
    ("GET", "/assistants/{assistant_id}/subgraphs"): _assistant("GET", "/subgraphs"),
    ("GET", "/assistants/{assistant_id}/subgraphs/{namespace}"): _assistant("GET", "/subgraphs/any"),
    ("POST", "/assistants/{assistant_id}/versions"): _assistant("POST", "/versions", {}),
    ("POST", "/assistants/{assistant_id}/latest"): _changed("POST", "/latest", {"version": 1}),
    ("POST", "/threads"): lambda world: [
        Attempt("POST", "/threads", {"thread_id": one, "if_exists": how}, _TAKEN, by_owner=how == "do_nothing")
        for one in _threads(world)
        for how in ("raise", "do_nothing")
    ],
    ("POST", "/threads/search"): _searches(
        "/threads/search",
        [],
        lambda world: [*_thread_searches(world), {"ids": [*_threads(world)]}, {"ids": [world.thread], "extract": _ALL}],
    ),
    ("POST", "/threads/count"): _searches("/threads/count", 0, _thread_searches),
    ("POST", "/threads/prune"): lambda world: [
        _open("POST", "/threads/prune", {"thread_ids": [*_threads(world)], "strategy": how}, {"pruned_count": 0})
        for how in ("keep_latest", "delete")
    ],
    ("GET", "/threads/{thread_id}"): _of("GET", "/threads/{thread}", "/threads/{busy}"),
    ("PATCH", "/threads/{thread_id}"): _of("PATCH", "/threads/{thread}", json={"metadata": {"owner": "bob"}}),
    ("DELETE", "/threads/{thread_id}"): _of("DELETE", "/threads/{thread}", "/threads/{busy}"),
    ("POST", "/threads/{thread_id}/copy"): _of("POST", "/threads/{thread}/copy", "/threads/{busy}/copy"),
    ("GET", "/threads/{thread_id}/state"): _of("GET", "/threads/{thread}/state", "/threads/{busy}/state"),
    ("GET", "/threads/{thread_id}/state/{checkpoint_id}"): lambda world: [
        *_of("GET", "/threads/{thread}/state/{checkpoint}?subgraphs=true")(world),
        *_of("GET", "/threads/{mine}/state/{checkpoint}", statuses=_OKAY, by_owner=False)(world),
    ],
    ("POST", "/threads/{thread_id}/state/checkpoint"): lambda world: [
        Attempt("POST", f"/threads/{one}/state/checkpoint", {"checkpoint": place}, by_owner=one == world.thread)
        if one != world.mine
        else Attempt("POST", f"/threads/{one}/state/checkpoint", {"checkpoint": place}, _OKAY | {400}, by_owner=False)
        for one in (world.thread, world.mine)
        for place in _places(world)
    ],
    ("POST", "/threads/{thread_id}/state"): _states,
    ("GET", "/threads/{thread_id}/history"): lambda world: [
        *_of("GET", "/threads/{thread}/history?limit=100")(world),
        *_of("GET", "/threads/{mine}/history?limit=100&before={checkpoint}", statuses=_OKAY, by_owner=False)(world),
    ],
    ("POST", "/threads/{thread_id}/history"): _histories,
    ("POST", "/threads/{thread_id}/runs"): _begun(""),
    ("POST", "/threads/{thread_id}/runs/stream"): _begun("/stream"),
    ("POST", "/threads/{thread_id}/runs/wait"): _begun("/wait"),
    ("POST", "/runs"): _stateless(""),
    ("POST", "/runs/stream"): _stateless("/stream"),
    ("POST", "/runs/wait"): _stateless("/wait"),
    ("POST", "/runs/batch"): lambda world: [Attempt("POST", "/runs/batch", [_RUN, {"assistant_id": world.assistant}])],
    ("POST", "/runs/cancel"): _cancels,
    ("GET", "/threads/{thread_id}/runs"): _of("GET", *(f"/threads/{{{one}}}/runs" for one in ("thread", "busy"))),
    ("GET", "/threads/{thread_id}/runs/{run_id}"): _each_run("GET"),
    ("DELETE", "/threads/{thread_id}/runs/{run_id}"): _each_run("DELETE"),
    ("GET", "/threads/{thread_id}/runs/{run_id}/join"): _each_run("GET", "/join", over=True),
    ("GET", "/threads/{thread_id}/runs/{run_id}/stream"): _each_run("GET", "/stream?cancel_on_disconnect=1", over=True),
    ("GET", "/runs/{run_id}/stream"): lambda world: [
        Attempt("GET", f"/runs/{one}/stream", by_owner=one == world.run, headers={"last-event-id": "-1"})
        for one in (world.run, world.waiting, world.lonely)
    ],
    ("POST", "/threads/{thread_id}/runs/{run_id}/cancel"): lambda world: [
        Attempt("POST", f"/threads/{thread}/runs/{run}/cancel?action=rollback", by_owner=thread != world.mine)
        for thread, run in (
            (world.busy, world.waiting),
            (world.lonely_thread, world.lonely),
            (world.mine, world.lonely),
        )
    ],
    ("POST", "/threads/{thread_id}/runs/crons"): lambda world: [
        Attempt("POST", f"/threads/{world.thread}/runs/crons", {"schedule": NEVER, **_RUN}),
        Attempt("POST", f"/threads/{world.mine}/runs/crons", {"schedule": NEVER, "assistant_id": world.assistant}),
        Attempt("POST", f"/threads/{world.thread}/runs/crons", {"schedule": NEVER, **_RUN, "if_not_exists": "create"}),
    ],
    ("POST", "/runs/crons"): lambda world: [
        Attempt("POST", "/runs/crons", {"schedule": NEVER, "assistant_id": world.assistant})
    ],
    ("POST", "/runs/crons/search"): _searches("/runs/crons/search", [], _cron_searches),
    ("POST", "/runs/crons/count"): _searches("/runs/crons/count", 0, _cron_searches),
    ("GET", "/runs/crons/{cron_id}"): _of("GET", "/runs/crons/{cron}", "/runs/crons/{thread_cron}"),
    ("PATCH", "/runs/crons/{cron_id}"): _of("PATCH", "/runs/crons/{cron}", json={"enabled": False}),
    ("DELETE", "/runs/crons/{cron_id}"): _of("DELETE", "/runs/crons/{cron}", "/runs/crons/{thread_cron}"),
    ("PUT", "/store/items"): lambda world: [Attempt("PUT", "/store/items", {**_ITEM, "value": {"text": ""}}, _DONE)],
    ("GET", "/store/items"): lambda world: [
        _open("GET", f"/store/items?namespace={MARK}.other&key={MARK}", answer=None),
        _open("GET", f"/store/items?namespace=notes.shared&key={MARK}", answer=None),
    ],
    ("DELETE", "/store/items"): lambda world: [Attempt("DELETE", "/store/items", _ITEM, _DONE)],
    ("POST", "/store/items/search"): lambda world: [
        _open("POST", "/store/items/search", {"namespace_prefix": prefix}, answer)
        for prefix, answer in (([], None), (["notes"], {"items": []}), (["*"], {"items": []}))
    ],
    ("POST", "/store/namespaces"): lambda world: [_open("POST", "/store/namespaces", body) for body in _PREFIXES],
}
"""By method and path of a route, what a stranger tries there."""

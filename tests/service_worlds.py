"""What two owners have in a service: one has everything there is, the other is a stranger to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

MARK = "adas-own-words"
"""In everything that the first owner keeps."""
FAR = 30_000_000.0
"""After so many seconds a run begins that must stay as it is."""
NEVER = "0 0 29 2 *"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request, and what a stranger may be answered. `by_owner`: whether its owner is let through with the same."""

    method: str
    url: str
    json: Any = None
    statuses: frozenset[int] = frozenset({404})
    answer: Any = None
    by_owner: bool = True
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class World:
    """What there is: of ada's a thread, a thread with a run that waits, a stateless run that waits, and more."""

    thread: str
    run: str
    checkpoint: str
    busy: str
    waiting: str
    lonely: str
    lonely_thread: str
    assistant: str
    cron: str
    thread_cron: str
    mine: str
    """The stranger's own thread, on which a run has been."""

    @property
    def ids(self) -> frozenset[str]:
        """All that is ada's."""
        return frozenset(getattr(self, name) for name in self.__slots__ if name != "mine")


def made_world(ada: httpx.Client, bob: httpx.Client) -> World:
    """All of it, made by requests."""

    def sent(client: httpx.Client, method: str, url: str, **body: Any) -> Any:
        answer = client.request(method, url, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    steps = {"assistant_id": "steps", "input": {"topic": MARK}, "metadata": {"note": MARK}}
    later = {**steps, "after_seconds": FAR}
    thread = sent(ada, "POST", "/threads", metadata={"note": MARK})["thread_id"]
    sent(ada, "POST", f"/threads/{thread}/runs/wait", **steps, stream_resumable=True)
    busy = sent(ada, "POST", "/threads", metadata={"note": MARK})["thread_id"]
    lonely = sent(ada, "POST", "/runs", **later)
    assistant = sent(ada, "POST", "/assistants", graph_id="configured", name=MARK, context={"tone": MARK})
    sent(ada, "PATCH", f"/assistants/{assistant['assistant_id']}", description=MARK)
    cron = {"schedule": NEVER, **steps}
    sent(ada, "PUT", "/store/items", namespace=[MARK, "notes"], key=MARK, value={"text": MARK})
    sent(ada, "POST", "/runs/wait", assistant_id="memory", input={"user": "shared", "note": MARK})
    mine = sent(bob, "POST", "/threads")["thread_id"]
    sent(bob, "POST", f"/threads/{mine}/runs/wait", assistant_id="steps", input={"topic": "bob"})
    return World(
        thread,
        ada.get(f"/threads/{thread}/runs").json()[0]["run_id"],
        ada.get(f"/threads/{thread}/state").json()["checkpoint_id"],
        busy,
        sent(ada, "POST", f"/threads/{busy}/runs", **later)["run_id"],
        lonely["run_id"],
        lonely["thread_id"],
        assistant["assistant_id"],
        sent(ada, "POST", "/runs/crons", **cron)["cron_id"],
        sent(ada, "POST", f"/threads/{thread}/runs/crons", **cron)["cron_id"],
        mine,
    )

"""What is asked about crons."""

from __future__ import annotations

from uuid import uuid4

from tests.oracle.assistants import NOBODY
from tests.oracle.observations import Observer


async def crons(see: Observer) -> None:
    yearly: dict[str, object] = {"assistant_id": "steps", "schedule": "0 3 1 1 *", "input": {"topic": "cron"}}
    tag: object = {"tag": str(uuid4())}
    answer = await see.ask("POST", "/runs/crons", {**yearly, "metadata": tag}, label="create")
    cron = f"/runs/crons/{answer.json()['cron_id']}"
    own = await see.thread()
    answer = await see.ask("POST", f"/threads/{own}/runs/crons", yearly, label="create for a thread")
    await see.ask("GET", cron, label="get")
    await see.ask("POST", "/runs/crons/search", {"thread_id": own}, label="search")
    await see.ask("POST", "/runs/crons/count", {"thread_id": own}, label="count")
    await see.ask("PATCH", cron, {"enabled": False}, label="update")
    await see.ask("DELETE", cron, label="delete")
    await see.ask("DELETE", cron, label="delete again")
    await see.ask("GET", cron, label="get the deleted")
    await see.ask("DELETE", f"/runs/crons/{answer.json()['cron_id']}", label="delete the thread's")
    for label, change in {
        "bad schedule": {"schedule": "bad"},
        "bad timezone": {"timezone": "Mars/Base"},
        "no such graph": {"assistant_id": "nope"},
    }.items():
        await see.ask("POST", "/runs/crons", {**yearly, **change}, label=label)
    await see.ask("GET", f"/runs/crons/{NOBODY}", label="get nobody")
    await see.ask("DELETE", "/runs/crons/bad", label="no UUID")

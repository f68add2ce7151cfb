"""A run as it is admitted: its record, and that of the thread that is made for it."""

from __future__ import annotations

from collections.abc import Callable

from langchain_core.utils.uuid import uuid7

from plait.service.running.requests import RunRequest
from plait.store.service.adoptions import STAYS
from plait.store.service.records import RunRecord, ThreadRecord

ENDS_WITH_CLIENT = "ends_with_client"
"""In a run's kwargs: nobody can come back for it, so it ends with its server as it does with its client."""


def records_of(request: RunRequest, server: str, clock: Callable[[], float]) -> tuple[RunRecord, ThreadRecord | None]:
    """What a request becomes in the store of a server: a pending run, and the thread that may be made for it.

    `clock` is the store's.
    """
    now = clock()
    assistant = request.assistant
    temporary = request.thread_id is None
    thread_id = request.thread_id or str(uuid7())
    named = {"graph_id": assistant.graph_id, "assistant_id": assistant.assistant_id}
    thread = None
    if temporary or request.create_thread:
        thread = ThreadRecord(
            thread_id,
            owner=request.caller.identity,
            metadata={**request.thread_metadata, **named},
            created_at=now,
            updated_at=now,
            state_updated_at=now,
            temporary=temporary and not request.keep_thread,
        )
    run = RunRecord(
        str(uuid7()),
        thread_id,
        assistant.assistant_id,
        owner=request.caller.identity,
        metadata={**assistant.metadata, **named, **request.metadata},
        kwargs={**request.kwargs, **_notes(request)},
        multitask_strategy=request.strategy,
        created_at=now,
        updated_at=now,
        start_after=now + request.after_s if request.after_s > 0 else 0.0,
        graph_id=assistant.graph_id,
        server=server,
        client=request.caller.client,
        key_id=request.caller.key_id,
        interactive=request.interactive,
    )
    return run, thread


def _notes(request: RunRequest) -> dict[str, object]:
    resumable = bool(request.kwargs.get("resumable"))
    ends = request.cancel_on_disconnect and not resumable
    # Another server could neither send its events to who reads them here, nor tell its nodes who asked.
    known = request.caller.user is None or bool(request.caller.key_id)
    stays = ends or (request.streamed and not resumable) or not known
    return {**({ENDS_WITH_CLIENT: True} if ends else {}), **({STAYS: True} if stays else {})}


def thread_config(request: RunRequest) -> dict[str, object]:
    """What a thread shows as its config: the run's, with the assistant's `configurable` alone."""
    config = request.kwargs.get("config")
    found = {key: value for key, value in config.items() if key != "metadata"} if isinstance(config, dict) else {}
    own = request.assistant.config.get("configurable")
    return {**found, "configurable": dict(own) if isinstance(own, dict) else {}}

"""Turns the body of a run's route into what the runner begins, and its records into JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal
from uuid import UUID

from plait.errors import InputError
from plait.service.assistants import check_steps, resolve, settled
from plait.service.bodies.runs import RunCreate, RunCreateStateless
from plait.service.problems import problem
from plait.service.routes.asks import Ask
from plait.service.running.admissions import ENDS_WITH_CLIENT
from plait.service.running.requests import RunRequest
from plait.service.snapshots import iso
from plait.service.webhook_targets import target_of
from plait.store.service.adoptions import STAYS
from plait.store.service.records import Access, RunRecord


async def requested(
    asked: Ask, body: RunCreateStateless, *, thread_id: UUID | None, way: Literal["background", "wait", "stream"]
) -> RunRequest:
    """The run that a request asks for, checked. Raises HTTPException: 400, 403, 404, 422."""
    assistant = await resolve(asked, body.assistant_id)
    if thread_id is None and body.command is not None and body.command.resume is not None:
        raise problem(400, "command.resume: expected a thread to resume, found a stateless run: use /threads/{id}/runs")
    if body.webhook is not None:
        check_webhook(body.webhook, asked.service.options.webhook_hosts)
    kwargs = _kwargs(asked, body)
    config, context = settled(body.config.model_dump(exclude_unset=True) if body.config else None, body.context)
    kwargs["config"] = merged = {**assistant.config, **config, "configurable": _merged(assistant.config, config)}
    kwargs["context"] = {**assistant.context, **context}
    kwargs["context_given"] = bool(body.context)
    check_steps(asked, merged)
    kwargs["temporary"] = thread_id is None and body.on_completion != "keep"
    value: dict[str, object] = {
        "thread_id": thread_id,
        "assistant_id": UUID(assistant.assistant_id),
        "metadata": dict(body.metadata or {}),
        "kwargs": kwargs,
        "if_not_exists": body.if_not_exists or "reject",
        "multitask_strategy": body.multitask_strategy or "enqueue",
    }
    access = await asked.access("threads", "create_run", value)
    metadata = value.get("metadata")
    return RunRequest(
        assistant,
        asked.caller,
        access,
        thread_id=str(thread_id) if thread_id else None,
        kwargs=kwargs,
        metadata=metadata if isinstance(metadata, dict) else {},
        thread_metadata=metadata if isinstance(metadata, dict) and _is_for_thread(metadata, body, access) else {},
        strategy=body.multitask_strategy or "enqueue",
        create_thread=body.if_not_exists == "create",
        keep_thread=body.on_completion == "keep",
        after_s=max(0.0, body.after_seconds or 0.0),
        interactive=way != "background",
        streamed=way == "stream",
        cancel_on_disconnect=body.on_disconnect == "cancel",
    )


def _is_for_thread(metadata: Mapping[str, object], body: RunCreateStateless, access: Access) -> bool:
    """Whether an Auth handler has put something into it, or looks for what a client has put there itself."""
    return bool(access.filters) or metadata != (body.metadata or {})


def check_webhook(url: str, hosts: Sequence[str]) -> None:
    """Raises HTTPException (422) for what is no URL that a webhook can be sent to; `hosts` as in `target_of`."""
    try:
        target_of(url, hosts)
    except InputError as error:
        raise problem(422, str(error)) from error


def run_json(run: RunRecord) -> dict[str, object]:
    """The run as the API shows it."""
    kwargs = {key: value for key, value in run.kwargs.items() if key not in ("context_given", ENDS_WITH_CLIENT, STAYS)}
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "assistant_id": run.assistant_id,
        "metadata": dict(run.metadata),
        "status": run.status,
        "kwargs": kwargs,
        "multitask_strategy": run.multitask_strategy,
        "created_at": iso(run.created_at),
        "updated_at": iso(run.updated_at),
    }


def _kwargs(asked: Ask, body: RunCreateStateless) -> dict[str, object]:
    modes = body.stream_mode if isinstance(body.stream_mode, list) else [body.stream_mode] if body.stream_mode else []
    durability = body.durability or ("exit" if body.checkpoint_during is False else "async")
    found: dict[str, object] = {
        "input": body.input,
        "command": body.command.model_dump(exclude_unset=True) if body.command else None,
        "stream_mode": list(dict.fromkeys(modes)) or ["values"],
        "interrupt_before": body.interrupt_before,
        "interrupt_after": body.interrupt_after,
        "webhook": body.webhook,
        "feedback_keys": body.feedback_keys,
        "subgraphs": bool(body.stream_subgraphs),
        "resumable": bool(body.stream_resumable),
        "checkpoint_during": durability != "exit",
        "durability": durability,
    }
    if isinstance(body, RunCreate):
        found["checkpoint"] = _checkpoint(body)
    return found


def _checkpoint(body: RunCreate) -> dict[str, object] | None:
    chosen = body.checkpoint.model_dump(exclude_none=True) if body.checkpoint else {}
    chosen.pop("thread_id", None)
    if body.checkpoint_id:
        chosen["checkpoint_id"] = body.checkpoint_id
    found = chosen.get("checkpoint_id")
    if found is None:
        return None
    try:
        UUID(str(found))
    except ValueError:
        raise problem(422, f"checkpoint_id: expected the UUID of a checkpoint, found {str(found)[:60]!r}") from None
    return chosen


def _merged(*configs: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for config in configs:
        configurable = config.get("configurable")
        if isinstance(configurable, dict):
            found |= configurable
    return found

"""Crons: when each runs next, what it begins, and the clock that begins it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self
from uuid import UUID
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from fastapi import HTTPException

from plait.errors import InputError
from plait.service.auth.users import KnownUser
from plait.service.bodies.runs import RunCreate
from plait.service.callers import Caller
from plait.service.routes.asks import Ask
from plait.service.run_requests import requested
from plait.service.running.requests import RunRequest
from plait.service.snapshots import iso
from plait.store.service.faults import ThreadBusy, ThreadNotFound
from plait.store.service.records import EVERYTHING, CronRecord, Json

if TYPE_CHECKING:
    from plait.service.services import Service

logger = logging.getLogger("plait.service")

CALLER = "plait_caller"
"""In a cron's payload: whose key its runs count for, and what they may do. Clients never see it."""

_CLOSING_S = 5.0
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Clock(Protocol):
    """What crons need of time."""

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...


def next_time(schedule: str, timezone: str | None, after: float) -> float:
    """When a schedule comes round next after a time, both in seconds since the epoch.

    Where clocks are put forward a time that is left out comes with the next that is there; where they are put back a
    time that comes twice is taken once, as Debian's cron does. Blocks: reads the zone's file. Raises InputError.
    """
    try:
        zone = ZoneInfo(timezone or "UTC")
    except (ValueError, OSError, LookupError):
        raise InputError(
            f"timezone: expected an IANA name such as Europe/Berlin or UTC, found {timezone or 'UTC'!r}; a machine "
            "without a database of time zones gets one with pip install tzdata"
        ) from None
    fields = _NAMED.get(schedule.strip().lower(), schedule)
    try:
        # Six fields would begin with seconds here, and end with them elsewhere.
        if len(fields.split()) != 5:
            raise CronSimError(f"{len(fields.split())} fields")
        return next(CronSim(fields, datetime.fromtimestamp(after, zone))).timestamp()
    except StopIteration:
        why = "no such day in 50 years"
    except CronSimError as error:
        why = str(error)
    raise InputError(
        "schedule: expected five fields (minute, hour, day of month, month, day of week) such as '*/15 8-18 * * 1-5', "
        f"or one of {', '.join(_NAMED)}; found {schedule[:100]!r}: {why}"
    )


def next_run(cron: CronRecord, after: float) -> float | None:
    """The same for a cron, None where it has ended by then."""
    found = next_time(cron.schedule, cron.timezone, after)
    return None if cron.end_time is not None and found > cron.end_time else found


def kept_caller(caller: Caller) -> dict[str, object]:
    """What is kept of who made a cron; not what an Auth handler knows of them, which may hold their credentials."""
    return {"key_id": caller.key_id, "permissions": list(caller.permissions)}


def caller_of(owner: str, payload: Json) -> Caller:
    """Who the runs of a cron are made for."""
    kept = payload.get(CALLER)
    found = kept if isinstance(kept, Mapping) else {}
    permissions = tuple(str(one) for one in found.get("permissions") or ())
    user = KnownUser(owner, {"permissions": list(permissions)})
    return Caller(owner, permissions=permissions, key_id=str(found.get("key_id") or ""), user=user)


async def request_of(service: Service, cron: CronRecord) -> RunRequest:
    """The run that a cron begins, asked for and checked anew. Raises HTTPException."""
    payload = dict(cron.payload)
    config = payload.get("config")
    if payload.get("context") and isinstance(config, Mapping):
        # The two are one thing, and the cron's own entry is no reason to refuse the context.
        rest = {key: value for key, value in (config.get("configurable") or {}).items() if key != "cron_id"}
        payload["config"] = {**config, "configurable": rest or None}
    own = payload.get("metadata")
    payload["metadata"] = {**cron.metadata, **(own if isinstance(own, Mapping) else {}), "cron_id": cron.cron_id}
    payload["assistant_id"] = cron.assistant_id
    if cron.on_run_completed == "keep":
        payload["on_completion"] = "keep"
    asked = Ask(service, caller_of(cron.owner, cron.payload))
    thread_id = UUID(cron.thread_id) if cron.thread_id else None
    return await requested(asked, RunCreate.model_validate(payload), thread_id=thread_id, way="background")


def cron_json(cron: CronRecord) -> dict[str, object]:
    """The cron as the API shows it."""
    next_date = None if cron.next_run_at is None else datetime.fromtimestamp(cron.next_run_at, UTC).isoformat()
    return {
        "cron_id": cron.cron_id,
        "assistant_id": cron.assistant_id,
        "thread_id": cron.thread_id,
        "user_id": cron.owner,
        "end_time": None if cron.end_time is None else iso(cron.end_time),
        "schedule": cron.schedule,
        "timezone": cron.timezone,
        "payload": {key: value for key, value in cron.payload.items() if key != CALLER},
        "next_run_date": next_date,
        "metadata": dict(cron.metadata),
        "on_run_completed": None if cron.thread_id else cron.on_run_completed,
        "enabled": cron.enabled,
        "created_at": iso(cron.created_at),
        "updated_at": iso(cron.updated_at),
    }


class CronClock:
    """Begins the runs of the crons whose time has come, each time once among the servers of a store.

    A time that passed while no server ran is made up for once, late. Where a run cannot be begun (a quota, a thread
    that is busy, a workflow that is gone) that is logged, and the cron waits for its next time; one whose API key ended
    or whose thread is gone is disabled. Leaving the block waits a moment for those that are being begun.
    """

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._beginning: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._beginning:
            await asyncio.wait(self._beginning, timeout=_CLOSING_S)
        for one in list(self._beginning):
            one.cancel()

    async def begin_due(self) -> None:
        """Begin what is due, without waiting for it. Raises StoreError."""
        now = self._clock.wall()
        for cron in await self._service.store.crons.due(now, partial(_following, now)):
            # Beside the caller: a run that ends another one of its thread first may wait for long.
            found = asyncio.create_task(self._begin(cron), name=f"plait cron {cron.cron_id}")
            self._beginning.add(found)
            found.add_done_callback(self._beginning.discard)

    async def settled(self) -> None:
        """Wait until all that was due has begun, or could not be."""
        while self._beginning:
            await asyncio.wait(self._beginning)

    async def _begin(self, cron: CronRecord) -> None:
        try:
            if why := await self._key_ended(cron):
                await self._disable(cron, why)
                return
            run = await self._service.runner.start(await request_of(self._service, cron))
            logger.info("cron %s began run %s", cron.cron_id, run.run_id)
        except ThreadNotFound:
            await self._disable(cron, f"its thread {cron.thread_id} is gone")
        except ThreadBusy:
            logger.info("cron %s did not run: its thread is busy", cron.cron_id)
        except HTTPException as error:
            if error.status_code == 503:
                # This server ends; the next one makes up for it.
                await self._service.store.crons.update(cron.cron_id, EVERYTHING, {"next_run_at": cron.next_run_at})
                return
            logger.warning("cron %s did not run: %s", cron.cron_id, error.detail)
        except Exception:
            logger.exception("cron %s did not run", cron.cron_id)

    async def _key_ended(self, cron: CronRecord) -> str | None:
        key_id = caller_of(cron.owner, cron.payload).key_id
        if not key_id:
            return None
        found = next((key for key in await self._service.store.keys.list(cron.owner) if key.key_id == key_id), None)
        if found is None or found.revoked_at is not None:
            return f"its API key {key_id}... was revoked"
        if found.expires_at is not None and found.expires_at <= self._clock.wall():
            return f"its API key {key_id}... expired"
        return None

    async def _disable(self, cron: CronRecord, why: str) -> None:
        logger.warning("cron %s is disabled: %s; PATCH enabled=true lets it run again", cron.cron_id, why)
        await self._service.store.crons.update(cron.cron_id, EVERYTHING, {"enabled": False})


def _following(now: float, cron: CronRecord) -> float | None:
    try:
        return next_time(cron.schedule, cron.timezone, now)
    except Exception:
        # It was checked when it was made: the machine has lost its time zones, or cronsim has changed.
        logger.exception("cron %s will not run again", cron.cron_id)
        return None

"""API keys as credentials: finds who holds the key that a request carries."""

from __future__ import annotations

import contextlib
import hmac
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from plait.errors import StoreError
from plait.service.auth.keys import Clock, KeyStore
from plait.service.auth.users import KnownUser
from plait.service.callers import Action, Caller, Resource
from plait.service.problems import problem
from plait.store.service.key_texts import PREFIX, digest_of, is_key
from plait.store.service.records import Access, KeyRecord

FRESH_S = 2.0
"""Seconds for which a key that was read is believed: so long a revoked one may still work."""
_TOUCH_S = 60.0


@dataclass(frozen=True, slots=True)
class _Read:
    record: KeyRecord
    caller: Caller
    at: float


class KeyAuthority:
    """Callers carry an API key: `X-Api-Key: plait_...` or `Authorization: Bearer plait_...`.

    Each sees what belongs to the key's owner. A key is read from the store at most every two seconds.
    """

    reads_bodies = False

    def __init__(self, keys: KeyStore, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._read: dict[str, _Read] = {}

    async def authenticate(self, connection: HTTPConnection) -> Caller:
        """Who holds the key. Raises a 401 for none, an unknown, a revoked and an expired one."""
        digest = digest_of(_sent_key(connection.headers))
        found = await self._find(digest)
        if found is None:
            raise _refused("this API key is not known here: `plait keys list` shows those that are")
        record = found.record
        if record.revoked_at is not None:
            raise _refused(f"the API key {record.key_id}... was revoked: ask for a new one")
        if record.expires_at is not None and record.expires_at <= self._clock.wall():
            on = datetime.fromtimestamp(record.expires_at, UTC)
            raise _refused(f"the API key {record.key_id}... expired on {on:%Y-%m-%d %H:%M} UTC: ask for a new one")
        host = connection.client.host if connection.client else ""
        return found.caller if found.caller.address == host else replace(found.caller, address=host)

    async def authorize(self, caller: Caller, resource: Resource, action: Action, value: dict[str, object]) -> Access:
        return Access(owner=caller.identity)

    async def _find(self, digest: str) -> _Read | None:
        known, now = self._read.get(digest), self._clock.now()
        if known is not None:
            if now - known.at < FRESH_S:
                return known
            # One request reads it again; those that come meanwhile are many, and take what was known.
            self._read[digest] = replace(known, at=now)
        try:
            record = await self._keys.by_digest(digest)
        except BaseException:
            self._read.pop(digest, None)
            raise
        # The lookup compares hashes of random keys, whose timing tells nothing of the key; this guards a wrong store.
        if record is None or not hmac.compare_digest(record.digest, digest):
            self._read.pop(digest, None)
            return None
        user = KnownUser(record.owner, {"display_name": record.name})
        caller = Caller(record.owner, key_id=record.key_id, user=user)
        found = self._read[digest] = _Read(record, caller, now)
        await self._touch(record)
        return found

    async def _touch(self, record: KeyRecord) -> None:
        now = self._clock.wall()
        if record.revoked_at is None and now - (record.last_used_at or 0.0) >= _TOUCH_S:
            # When a key was last used is for people to look at: no reason to refuse one.
            with contextlib.suppress(StoreError):
                await self._keys.touch(record.key_id, now)


def _sent_key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    sent = [headers.get("x-api-key", "").strip(), token.strip() if scheme.lower() == "bearer" else ""]
    if key := next((each for each in sent if is_key(each)), None):
        return key
    expected = "expected an API key in X-Api-Key, or in Authorization after Bearer"
    if not any(sent):
        raise _refused(f"{expected}, found none: `plait keys create NAME` makes one")
    if not any(each.startswith(PREFIX) for each in sent):
        raise _refused(
            f"{expected}, found a key of something else; ours begin with {PREFIX}. (langgraph_sdk sends "
            "LANGSMITH_API_KEY where it is given none: pass api_key=... to get_client)"
        )
    raise _refused(f"{expected}, found one that is cut short or changed: a key is {PREFIX} and 43 characters")


def _refused(detail: str) -> Exception:
    return problem(401, detail, headers={"WWW-Authenticate": "Bearer"})

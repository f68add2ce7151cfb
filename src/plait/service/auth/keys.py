"""What authorities and limits ask of whoever keeps the API keys, and of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from plait.store.service.records import KeyRecord


class Clock(Protocol):
    """What is asked of time; `plait.flow.clock.SystemClock` is one."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...


class KeyUsage(Protocol):
    """What a key was used for on one day."""

    @property
    def runs(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def usd(self) -> float: ...


class KeyStore(Protocol):
    """The keys and what they were used for; `ServiceStore.keys` is one. Days are UTC: `2026-11-21`."""

    async def by_digest(self, digest: str) -> KeyRecord | None: ...
    async def list(self, owner: str | None = None) -> Sequence[KeyRecord]: ...
    async def touch(self, key_id: str, at: float) -> object: ...
    async def charge(self, key_id: str, day: str, *, runs: int = 0, tokens: int = 0, usd: float = 0.0) -> object: ...
    async def used(self, key_id: str, day: str) -> KeyUsage: ...

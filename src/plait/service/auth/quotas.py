"""What an API key may be used for: runs a minute and at once, and runs, tokens and dollars a day."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime

from plait.flow.usage import Usage
from plait.prices import Prices
from plait.service.auth.keyrings import FRESH_S
from plait.service.auth.keys import Clock, KeyStore
from plait.service.callers import Caller
from plait.service.problems import problem, too_many
from plait.store.service.key_texts import day_of
from plait.store.service.records import KeyRecord

_log = logging.getLogger(__name__)
_DAY_S = 86_400
_MINUTE_S = 60.0


class KeyLimits:
    """Holds runs against the limits of their callers' keys; callers without a key have none.

    Runs a minute are counted in this process, the others in the store. Tokens and dollars are known when a run is over:
    runs in flight may take a key beyond its limit. Servers that share a store may each let one run more through where
    they ask in the same moment.
    """

    def __init__(
        self, keys: KeyStore, clock: Clock, *, prices: Prices | None = None, endpoint: str | None = None
    ) -> None:
        """`endpoint` is the one whose prices go first, as in `Prices.cost_usd`."""
        self._keys = keys
        self._clock = clock
        self._prices = prices or Prices({})
        self._endpoint = endpoint
        self._known: dict[str, tuple[KeyRecord, float]] = {}
        self._begun: dict[str, deque[float]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._unpriced: dict[str, str] = {}

    async def load(self) -> None:
        """Read all keys, so that `max_running` knows those of runs that waited over a restart."""
        self._learn(await self._keys.list())

    def max_running(self, key_id: str) -> int | None:
        """How many runs of this key may be running at once; None: as many as the service runs."""
        known = self._known.get(key_id)
        return known[0].max_running if known else None

    async def admit(self, caller: Caller) -> None:
        """Count a run that is about to be made. Raises a 429 that names the limit and when it ends.

        Raises a 403 where the key has a limit in dollars and its runs use a model without a price. A run that was
        counted stays counted, also where it is cancelled or fails.
        """
        record = await self._record(caller)
        if record is None:
            return
        async with self._locks.setdefault(record.key_id, asyncio.Lock()):
            self._check_minute(record)
            await self._check_day(record)
            # Taken before the wait: a charge that is cancelled may have been written.
            self._begun.setdefault(record.key_id, deque()).append(self._clock.now())
            await self._keys.charge(record.key_id, day_of(self._clock.wall()), runs=1)

    async def charge(self, key_id: str, usage: Usage) -> None:
        """Count what a run used, when it is over. Nothing happens where `key_id` is empty."""
        if not key_id:
            return
        usd = self._prices.cost_usd(usage.tokens, self._endpoint)
        if usd is None and key_id not in self._unpriced:
            model = self._unpriced[key_id] = self._prices.unpriced(usage.tokens, self._endpoint)[0]
            known = self._known.get(key_id)
            if known and known[0].usd_per_day is not None:
                _log.warning("no price for %s: key %s..., which has a limit in dollars, is refused now", model, key_id)
        day = day_of(self._clock.wall())
        await self._keys.charge(key_id, day, tokens=usage.total_tokens, usd=usd or 0.0)

    async def _record(self, caller: Caller) -> KeyRecord | None:
        if not caller.key_id:
            return None
        known = self._known.get(caller.key_id)
        if known is None or self._clock.now() - known[1] >= FRESH_S:
            self._learn(await self._keys.list(owner=caller.identity))
            known = self._known.get(caller.key_id)
        return known[0] if known else None

    def _learn(self, records: Iterable[KeyRecord]) -> None:
        now = self._clock.now()
        self._known.update({record.key_id: (record, now) for record in records})

    def _check_minute(self, record: KeyRecord) -> None:
        if record.rpm is None:
            return
        most = max(1, math.floor(record.rpm))
        window_s = _MINUTE_S * most / record.rpm  # longer than a minute for a rate below one
        begun, now = self._begun.setdefault(record.key_id, deque()), self._clock.now()
        while begun and now - begun[0] >= window_s:
            begun.popleft()
        if len(begun) >= most:
            wait_s = begun[len(begun) - most] + window_s - now
            raise too_many(
                f"key {record.key_id}...: {len(begun)} of {record.rpm:g} runs a minute were begun; the next may begin "
                f"in {_span(wait_s)}",
                wait_s,
            )

    async def _check_day(self, record: KeyRecord) -> None:
        limits = (record.runs_per_day, record.tokens_per_day, record.usd_per_day)
        if limits == (None, None, None):
            return
        if record.usd_per_day is not None and (model := self._unpriced.get(record.key_id)):
            raise problem(
                403,
                f"key {record.key_id}... may use ${record.usd_per_day:g} a day, and {model} has no price to count: the "
                f'operator adds one to langgraph.json: "plait": {{"prices": {{"{model}": '
                '{"input": 0.5, "output": 1.5}}}, or makes a key with another limit',
            )
        now = self._clock.wall()
        used = await self._keys.used(record.key_id, day_of(now))
        for counted, most, shown in (
            (used.runs, record.runs_per_day, f"{used.runs:,} of {record.runs_per_day or 0:,} runs"),
            (used.tokens, record.tokens_per_day, f"{used.tokens:,} of {record.tokens_per_day or 0:,} tokens"),
            (used.usd, record.usd_per_day, f"${used.usd:.4g} of ${record.usd_per_day or 0:g}"),
        ):
            if most is not None and counted >= most:
                resets_at = (now // _DAY_S + 1) * _DAY_S
                on = datetime.fromtimestamp(resets_at, UTC)
                raise too_many(
                    f"key {record.key_id}...: {shown} of this day (UTC) are used; the next day begins at "
                    f"{on:%Y-%m-%d %H:%M} UTC, in {_span(resets_at - now)}",
                    resets_at - now,
                )


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"

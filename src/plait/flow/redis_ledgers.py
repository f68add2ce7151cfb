"""A ledger in Redis: the law runs here, and a script on the server keeps what it made of it, all of it or nothing.

A step reads the states with their marks and the server's TIME, and writes the new ones if no mark has changed
meanwhile. Where one has, the answer brings the newer states and the step is done again: each round trip somebody gets
through. All keys have one hash tag; every state expires when nobody changes it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from plait.errors import SettingsError, StoreError
from plait.flow.clock import Clock
from plait.flow.ledgers import (
    FORGOTTEN_HERE_S,
    FORGOTTEN_S,
    LOOPBACK,
    PATIENCE_S,
    SERVER_CURE,
    VERSION,
    Change,
    Moment,
    ServerClock,
    is_spilt,
    missing_extra,
    other_version,
    server_again_s,
    unreadable_url,
)
from plait.masking import shown_url as shown

if TYPE_CHECKING:
    import redis
    from redis.commands.core import Script

PREFIX = "{plait}:limits"
_VERSION_KEY, _INDEX_KEY, _CHECK_KEY = f"{PREFIX}-version", f"{PREFIX}-index", f"{PREFIX}-check"
_STEP_S = 5.0
"""A step that others were quicker than for so long has failed."""
_JITTER_S = 0.002
_AT_ONCE = 3
"""Attempts without a pause between them."""

# Answers {seconds, microseconds, version, mark, state, mark, state, ...}; KEYS: the version's, then the states'.
_READ_BODY = """
local time = redis.call('TIME')
local found = {time[1], time[2], redis.call('GET', KEYS[1])}
for i = 3, #KEYS do
  local kept = redis.call('HMGET', KEYS[i], 'mark', 'state')
  found[#found + 1] = kept[1]
  found[#found + 1] = kept[2]
end
return found
"""
# ARGV: version, mark, time, then for each state: the mark it must have ('' for none), the seconds it lives, the state
# ('' removes it), its name. Answers 1, or what _READ_BODY does.
_WRITE_BODY = """
for i = 3, #KEYS do
  if (redis.call('HGET', KEYS[i], 'mark') or '') ~= ARGV[4 * (i - 2)] then
    ANSWER
  end
end
redis.call('SETNX', KEYS[1], ARGV[1])
for i = 3, #KEYS do
  local at = 4 * (i - 2)
  if ARGV[at + 2] == '' then
    redis.call('DEL', KEYS[i])
    redis.call('ZREM', KEYS[2], ARGV[at + 3])
  else
    redis.call('HSET', KEYS[i], 'mark', ARGV[2], 'state', ARGV[at + 2])
    redis.call('EXPIRE', KEYS[i], ARGV[at + 1])
    redis.call('ZADD', KEYS[2], ARGV[3] + ARGV[at + 1], ARGV[at + 3])
  end
end
return 1
""".replace("ANSWER", _READ_BODY.strip())


class RedisLedger:
    """See `ledgers.Ledger`. Works on Redis 5 and later and on Valkey, not on a cluster of several nodes.

    Raises SettingsError without the extra `redis` and for a server that evicts; StoreError for a replica and for
    another version's states; redis.RedisError for all else.
    """

    remote = True

    def __init__(self, url: str, clock: Clock) -> None:
        self.where = shown(url)
        self._url = url
        self._local = clock
        self._clock = ServerClock(clock)
        self._client: redis.Redis | None = None
        self._read: Script | None = None
        self._write: Script | None = None

    def change(self, names: Sequence[str], change: Change) -> None:
        self._connected()
        assert self._read is not None
        assert self._write is not None
        keys = _keys(names)
        until, attempts = time.monotonic() + _STEP_S, 0
        before = self._clock.before()
        found = self._read(keys=keys)
        while True:
            moment, marks, states = self._parse(before, found)
            new = change(states, moment)
            arguments: list[str | bytes] = [str(VERSION), secrets.token_hex(8), f"{moment.now:.3f}"]
            for name, mark, state in zip(names, marks, new, strict=True):
                lives_s = FORGOTTEN_HERE_S if name.startswith(LOOPBACK) else FORGOTTEN_S
                arguments += [mark, f"{lives_s:.0f}", state or "", name]
            before = self._clock.before()
            found = self._write(keys=keys, args=arguments)
            if found == 1:
                return
            attempts += 1
            if time.monotonic() > until:
                raise StoreError(f"{self.where}: others changed the same limits for {_STEP_S:g} s without a pause")
            if attempts >= _AT_ONCE:  # who computes longer than the others would else always be late
                time.sleep(self._local.uniform(_JITTER_S))
                before = self._clock.before()
                found = self._read(keys=keys)

    def _parse(self, before: float, found: Any) -> tuple[Moment, list[bytes], list[str | None]]:
        seconds, microseconds, version, *rest = found
        if version is not None and version != str(VERSION).encode():
            raise StoreError(other_version(f"the budget at {self.where}", version.decode(errors="replace")))
        moment = self._clock.moment(before, int(seconds) + int(microseconds) / 1e6)
        states = [None if state is None else state.decode(errors="replace") for state in rest[1::2]]
        return moment, [mark or b"" for mark in rest[::2]], states

    def states(self) -> tuple[dict[str, str], Moment]:
        client = self._connect()
        try:
            names = [name.decode() for name in cast("list[bytes]", client.zrange(_INDEX_KEY, 0, -1))]
            before = self._clock.before()
            found = client.register_script(_READ_BODY)(keys=_keys(names))
            moment, _, states = self._parse(before, found)
        finally:
            client.close()
        return {name: state for name, state in zip(names, states, strict=True) if state}, moment

    def check(self) -> None:
        self._connected()

    def again_s(self, error: Exception, failures: int) -> float:
        return server_again_s(failures)

    def cure(self, error: Exception) -> str:
        return SERVER_CURE

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    # --- connecting --------------------------------------------------------------------------------------

    def _connected(self) -> redis.Redis:
        if self._client is None:
            client = self._connect()
            try:
                self._prepare(client)
            except BaseException:
                client.close()
                raise
            self._read, self._write = client.register_script(_READ_BODY), client.register_script(_WRITE_BODY)
            self._client = client
        return self._client

    def _connect(self) -> redis.Redis:
        try:
            import redis  # noqa: PLC0415 - an extra
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415
        except ImportError as error:
            raise missing_extra(self.where, "redis", error) from error
        try:
            if is_spilt(self.where):
                raise ValueError
            return redis.Redis.from_url(
                self._url,
                socket_timeout=PATIENCE_S,
                socket_connect_timeout=PATIENCE_S,
                # A step that was sent twice would be counted twice; who retries is `shared_budgets`.
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
                single_connection_client=True,
            )
        except (ValueError, TypeError):
            raise unreadable_url(self.where) from None

    def _prepare(self, client: redis.Redis) -> None:
        """Refuse what would lose a day's quota or cannot be written."""
        memory = _info(client, "memory")
        policy = memory.get("maxmemory_policy", "noeviction")
        if memory.get("maxmemory") and policy != "noeviction":
            raise SettingsError(
                f"{self.where} evicts keys when its memory is full (maxmemory-policy {policy}), and with them the "
                "counts of a day's quota: expected noeviction (redis-cli CONFIG SET maxmemory-policy noeviction), or "
                "name another Redis or a PostgreSQL"
            )
        if _info(client, "replication").get("role") == "slave":
            raise StoreError(f"{self.where} is a replica, which cannot be written to: expected the primary's URL")
        # Rights, full memory, a disk that Redis no longer writes to: all show here.
        client.set(_CHECK_KEY, VERSION, ex=10)
        version = cast("bytes | None", client.get(_VERSION_KEY))
        if version is not None and version != str(VERSION).encode():
            raise StoreError(other_version(f"the budget at {self.where}", version.decode(errors="replace")))
        seconds, _ = client.time()
        client.zremrangebyscore(_INDEX_KEY, "-inf", seconds)


def _info(client: redis.Redis, section: str) -> dict[str, Any]:
    from redis.exceptions import NoPermissionError, ResponseError  # noqa: PLC0415 - an extra

    try:
        return client.info(section)
    except (NoPermissionError, ResponseError):  # a hosted Redis may keep it to itself
        return {}


def _keys(names: Sequence[str]) -> list[str]:
    return [_VERSION_KEY, _INDEX_KEY, *(f"{PREFIX}:{name}" for name in names)]

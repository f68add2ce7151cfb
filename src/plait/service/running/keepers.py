"""Keeps a server's place among the others on its store: says that it lives, takes over from those that do not."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time

from plait.service.crons import CronClock
from plait.service.options import ServiceOptions
from plait.service.running.admissions import ENDS_WITH_CLIENT
from plait.service.running.runners import Runner
from plait.service.webhooks import Webhooks
from plait.store.savers import Saver
from plait.store.service import ServiceStore
from plait.store.service.records import EVERYTHING, RunRecord
from plait.store.service.threads import MOST_SWEPT

logger = logging.getLogger("plait.service")

_BEAT_S = 1.0
_GONE_S = 10.0
"""So long a server may be silent, where its process cannot be seen, before others run what it ran."""
_SWEEP_EVERY = 60
_KEPT_S = 60.0
"""So long a stateless run can still be asked about."""


class Keeper:
    """Beats for one runner, hands it what other servers left, and removes what nobody can ask for any more."""

    def __init__(
        self,
        runner: Runner,
        store: ServiceStore,
        saver: Saver,
        options: ServiceOptions,
        *,
        crons: CronClock,
        webhooks: Webhooks,
    ) -> None:
        self._runner = runner
        self._store = store
        self._saver = saver
        self._options = options
        self._crons = crons
        self._webhooks = webhooks
        self._beaten = time.monotonic()
        self._keeping: asyncio.Task[None] | None = None
        self._resting = False
        self._behind = False

    async def begin(self) -> None:
        """Join the servers of the store, take over what those left that are gone, and go on with that until `leave`."""
        await self._store.servers.beat(self._runner.server)
        await self._adopt()
        self._keeping = asyncio.create_task(self._keep(), name="plait service keeper")

    def rest(self) -> None:
        """Take over no more, and begin no more crons; the server still lives, while its runs end."""
        self._resting = True

    async def leave(self) -> None:
        """The server ends: whoever is left may take its runs at once."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        await self._store.servers.forget(self._runner.server)

    async def _keep(self) -> None:
        for turn in itertools.count(1):
            await asyncio.sleep(_BEAT_S)
            try:
                await self._turn(turn)
            except Exception:
                # A server that beats no more is taken for dead, and its runs are run once more.
                logger.exception("the store cannot be used; trying again")

    async def _turn(self, turn: int) -> None:
        await self._store.servers.beat(self._runner.server)
        now = time.monotonic()
        silent_s, self._beaten = now - self._beaten, now
        if silent_s > _GONE_S / 2:
            # A process that was stopped for so long may have been taken for dead.
            await self._runner.check_owned()
        await self._runner.cancel_here(await self._store.runs.cancels(self._runner.server))
        if self._resting or self._runner.draining:
            return
        await self._adopt()
        await self._crons.begin_due()
        if self._behind or turn % _SWEEP_EVERY == 0:
            await self._sweep()

    async def _adopt(self) -> None:
        for dead in await self._store.servers.gone(_GONE_S):
            adopted = await self._store.runs.adopt(
                dead, self._runner.server, max_attempts=self._options.max_attempts, silent_s=_GONE_S
            )
            for run in adopted.given_up:
                logger.error("run %s was begun %d times and its server died each time", run.run_id, run.attempt)
                self._webhooks.tell(run)
            for run in adopted.resumed:
                logger.info("run %s is taken over from %s", run.run_id, dead)
                self._runner.take_over(run, temporary=await self._is_temporary(run))
                if run.cancel is not None or run.kwargs.get(ENDS_WITH_CLIENT):
                    reason = "its server ended, and its client with it (on_disconnect=cancel)"
                    await self._runner.cancel(run.run_id, action=run.cancel or "interrupt", reason=reason)

    async def _is_temporary(self, run: RunRecord) -> bool:
        noted = run.kwargs.get("temporary")
        if noted is not None:
            return bool(noted)
        thread = await self._store.threads.get(run.thread_id, EVERYTHING)
        return thread is None or thread.temporary

    async def _sweep(self) -> None:
        found = await self._store.threads.temporary_before(time.time() - _KEPT_S)
        self._behind = len(found) >= MOST_SWEPT
        for thread_id in found:
            await self._saver.adelete_thread(thread_id)
            await self._store.threads.delete(thread_id)
        await self._store.runs.delete_finished_events(time.time() - self._options.keep_events_s)

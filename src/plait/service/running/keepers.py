"""Keeps a server's place among the others on its store: says that it lives, takes over what others do not get to."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from functools import partial

from plait.errors import StoreError
from plait.service.auth.users import KnownUser
from plait.service.callers import Caller
from plait.service.crons import CronClock
from plait.service.options import ServiceOptions
from plait.service.running.admissions import ENDS_WITH_CLIENT
from plait.service.running.heartbeats import BEAT_S, SILENT_S, Heartbeat
from plait.service.running.runners import Runner
from plait.service.webhooks import Webhooks
from plait.store.savers import Saver
from plait.store.service import Adopted, ServiceStore
from plait.store.service.records import EVERYTHING, RunRecord
from plait.store.service.servers import GONE_S
from plait.store.service.threads import MOST_SWEPT

logger = logging.getLogger("plait.service")

_NEVER_S = 1e9
_WAITED_S = 1.0
"""So long a run that could begin waits at its server before an idle one takes it."""
_MOST_TAKEN = 50
_LOOK_EVERY = 10
_SWEEP_EVERY = 60
_KEPT_S = 60.0
"""So long a stateless run can still be asked about."""


class Keeper:
    """Beats for one runner, hands it what other servers left or cannot get to, and removes what nobody can ask for."""

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
        self._heart = Heartbeat(partial(store.servers.beat_soon, runner.server))
        self._steady_since = -_NEVER_S
        self._forgotten: set[str] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._resting = False
        self._troubled = False
        self._behind = False

    async def begin(self) -> None:
        """Join the servers of the store, take over what those left that are gone, and go on with that until `leave`."""
        await self._store.servers.beat(self._runner.server)
        self._heart.beaten()
        await self._adopt()
        self._heart.start()
        self._keeping = asyncio.create_task(self._keep(), name="plait service keeper")

    def rest(self) -> None:
        """Take over no more, and begin no more crons; the server still lives, while its runs end."""
        self._resting = True

    async def leave(self) -> None:
        """The server ends: whoever is left may take its runs at once."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        await asyncio.to_thread(self._heart.stop)
        await self._store.servers.forget(self._runner.server)

    @property
    def silent_s(self) -> float:
        """How long ago the store last answered; up to two seconds where all is well."""
        return self._heart.silent_s

    async def _keep(self) -> None:
        for turn in itertools.count(1):
            await asyncio.sleep(BEAT_S)
            self._heart.turn()
            try:
                await self._turn(turn)
            except StoreError as error:
                if not self._troubled:
                    logger.error("the store cannot be used; trying again every second: %s", error)
                self._troubled = True
            except Exception:
                # A server that beats no more is taken for dead, and its runs are run once more.
                logger.exception("a turn among the servers of the store failed; trying again")
            else:
                if self._troubled:
                    logger.warning("the store can be used again")
                self._troubled = False

    async def _turn(self, turn: int) -> None:
        if self.silent_s > SILENT_S:
            # A process that was stopped for so long may have been taken for dead: before its runs do anything more.
            await self._runner.check_owned()
        await self._store.servers.beat(self._runner.server)
        silent_s = self.silent_s
        self._heart.beaten()
        if silent_s > SILENT_S:
            # Where it was the store that did not answer, the others were as silent: they get time to be heard of.
            self._steady_since = time.monotonic()
            await self._runner.check_owned()
        else:
            await self._runner.let_go()
        await self._runner.cancel_here(await self._store.runs.cancels(self._runner.server))
        if self._resting or self._runner.draining:
            return
        await self._adopt()
        if turn % _LOOK_EVERY == 0 or self._forgotten:
            await self._recall()
        await self._take()
        await self._crons.begin_due()
        if self._behind or turn % _SWEEP_EVERY == 0:
            await self._sweep()

    async def _adopt(self) -> None:
        steady = time.monotonic() - self._steady_since >= GONE_S
        silent_s = GONE_S if steady else _NEVER_S
        for dead in await self._store.servers.gone(silent_s):
            adopted = await self._store.runs.adopt(
                dead, self._runner.server, max_attempts=self._options.max_attempts, silent_s=silent_s
            )
            await self._go_on(adopted, dead)

    async def _recall(self) -> None:
        """Go on with runs of this server that it lost track of, as where the store was gone when they ended."""
        forgotten = await self._runner.forgotten()
        lost = forgotten & self._forgotten
        self._forgotten = forgotten - lost
        if lost:
            server, most = self._runner.server, self._options.max_attempts
            await self._go_on(await self._store.runs.adopt(server, server, max_attempts=most, only=lost), server)

    async def _go_on(self, adopted: Adopted, dead: str) -> None:
        for run in adopted.given_up:
            logger.error("run %s was begun %d times and its server died each time", run.run_id, run.attempt)
            self._webhooks.tell(run)
        for run in adopted.resumed:
            logger.info("run %s is taken over from %s", run.run_id, dead)
            self._runner.take_over(run, temporary=await self._is_temporary(run), caller=await self._caller_of(run))
            if run.cancel is not None or run.kwargs.get(ENDS_WITH_CLIENT):
                reason = "its server ended, and its client with it (on_disconnect=cancel)"
                await self._runner.cancel(run.run_id, action=run.cancel or "interrupt", reason=reason)

    async def _take(self) -> None:
        """Begin what waits at other servers, if nothing waits here."""
        most = min(self._runner.room, _MOST_TAKEN)
        if not most:
            return
        for run in await self._store.runs.take(self._runner.server, most=most, waited_s=_WAITED_S):
            logger.info("run %s waited at another server and is taken from it", run.run_id)
            temporary, caller = await self._is_temporary(run), await self._caller_of(run)
            # One that was parked, adopted or taken before may have been begun.
            resumed = run.attempt > 0 or run.updated_at != run.created_at
            self._runner.take_over(run, temporary=temporary, caller=caller, resumed=resumed)

    async def _is_temporary(self, run: RunRecord) -> bool:
        noted = run.kwargs.get("temporary")
        if noted is not None:
            return bool(noted)
        thread = await self._store.threads.get(run.thread_id, EVERYTHING)
        return thread is None or thread.temporary

    async def _caller_of(self, run: RunRecord) -> Caller | None:
        """Who asked for it, as its own server knew them, where the store can tell."""
        if not run.key_id:
            return None
        for key in await self._store.keys.list(run.owner):
            if key.key_id == run.key_id:
                return Caller(run.owner, key_id=key.key_id, user=KnownUser(run.owner, {"display_name": key.name}))
        return None

    async def _sweep(self) -> None:
        found = await self._store.threads.temporary_before(self._store.clock() - _KEPT_S)
        self._behind = len(found) >= MOST_SWEPT
        for thread_id in found:
            await self._saver.adelete_thread(thread_id)
            await self._store.threads.delete(thread_id)
        await self._store.runs.delete_finished_events(self._store.clock() - self._options.keep_events_s)

"""One service: what its routes share, from the start of its lifespan to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from plait.app import App
from plait.batches.rows import known_keys
from plait.flow.clock import SystemClock
from plait.flow.registry import gate_for
from plait.masking import masked, redacted
from plait.prices import load_prices
from plait.service.auth.authorities import authority_for
from plait.service.auth.quotas import KeyLimits
from plait.service.callers import Authority
from plait.service.crons import CronClock
from plait.service.graphs import Graphs
from plait.service.listeners import Listener, Listeners
from plait.service.metrics import Metrics
from plait.service.observation import own_listeners
from plait.service.options import ServiceOptions
from plait.service.running.equipment import Equipment
from plait.service.running.keepers import Keeper
from plait.service.running.runners import Runner
from plait.service.webhooks import Webhooks
from plait.settings import Settings
from plait.store.addresses import Address
from plait.store.items import Items, prepare_items
from plait.store.savers import Saver, prepare_checkpoints
from plait.store.service import ServiceStore, prepare_answers
from plait.store.service.servers import lives, new_server

FILE_NAME = "service.db"
_SILENT_S = 4.0  # it is asked once a second


def address_for(settings: Settings, store: Address | None = None) -> Address:
    """Where a service of these settings keeps what it has to: `store`, else their DSN, else a file in their home."""
    return store or settings.store or settings.home / FILE_NAME


class Service:
    """What stands behind the routes. `async with` opens the store and begins to run what waits in it.

    `address` is where everything is kept: a file, or a PostgreSQL database that servers on other hosts may share.
    Leaving the block drains: no new runs, running ones have `options.grace_s` to finish and are parked after that.
    Everything but `app`, `settings` and `options` is there inside the block only.
    """

    store: ServiceStore
    saver: Saver
    items: Items
    graphs: Graphs
    authority: Authority
    limits: KeyLimits
    runner: Runner
    keeper: Keeper

    def __init__(
        self,
        *,
        app: App,
        settings: Settings,
        address: Address,
        options: ServiceOptions,
        authority: Authority | None = None,
        require_keys: bool = False,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.app = app
        self.settings = settings
        self._keys = known_keys(settings)
        self.options = options
        self.address = address
        self._authority = authority
        self._require_keys = require_keys
        self.metrics = Metrics()
        self._listener = Listeners([*own_listeners(self.metrics, log_content=options.log_content), *listeners])
        self._stack = AsyncExitStack()
        self._users = 0

    async def __aenter__(self) -> Self:
        # A router may be included in several applications, or its lifespan entered by more than one of them.
        self._users += 1
        if self._users == 1:
            try:
                async with AsyncExitStack() as stack:
                    await self._open(stack)
                    self._stack = stack.pop_all()
            except BaseException:
                self._users = 0
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._users == 0:
            await self._stack.aclose()

    @property
    def is_open(self) -> bool:
        """Whether this is inside the block."""
        return self._users > 0

    def trouble(self) -> str | None:
        """Why requests had better go to another server, in words; None where all is well."""
        if not self.is_open:
            return "the service was not started"
        if self.runner.draining:
            return "the server is shutting down"
        if self.keeper.silent_s > _SILENT_S:
            return f"the store has not answered for {self.keeper.silent_s:.0f} s"
        return None

    def clean(self, text: str) -> str:
        """The text of an error without keys and passwords, which what failed may have repeated."""
        return redacted(masked(text), self._keys)

    async def _open(self, stack: AsyncExitStack) -> None:
        self.store = await stack.enter_async_context(
            ServiceStore(self.address, also=(prepare_checkpoints, prepare_items, prepare_answers), lives=lives)
        )
        server = await asyncio.to_thread(new_server)
        self.saver = Saver(self.store.writer, self.store.read, clean=self.clean, server=server)
        self.items = Items(self.store.writer, self.store.read)
        self.graphs = Graphs(self.app, self.saver, self.items)
        self.metrics.watch(gate_for(self.settings))
        clock = SystemClock()
        if self._authority is None:
            self.authority = await authority_for(self.app, self.store.keys, clock, require_keys=self._require_keys)
        else:
            self.authority = self._authority
        prices = await asyncio.to_thread(load_prices, self.settings.prices, self.settings.prices_file)
        self.limits = KeyLimits(self.store.keys, clock, prices=prices)
        await self.limits.load()
        await self.store.assistants.ensure_system(self.graphs.assistants())
        # It ends last: what runs that end now have to tell is sent before.
        webhooks = await stack.enter_async_context(Webhooks(self.options.webhook_hosts, clock=clock))
        self.runner = Runner(
            Equipment(
                server,
                self.store,
                self.saver,
                self.graphs,
                self.settings,
                self.options,
                self.limits,
                self._listener,
                prices,
                webhooks,
            )
        )
        crons = CronClock(self, clock)
        self.keeper = keeper = Keeper(self.runner, self.store, self.saver, self.options, crons=crons, webhooks=webhooks)
        # It beats until the last run has ended: others would take them over while they run.
        stack.push_async_callback(keeper.leave)
        await stack.enter_async_context(self.runner)
        await stack.enter_async_context(crons)
        stack.callback(keeper.rest)
        await keeper.begin()

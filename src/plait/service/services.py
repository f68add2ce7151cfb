"""One service: what its routes share, from the start of its lifespan to the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from plait.app import App
from plait.batches.rows import known_keys
from plait.flow.clock import SystemClock
from plait.flow.holders import placed
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
from plait.store.items import Items, prepare_items
from plait.store.savers import Saver, prepare_checkpoints
from plait.store.schema import prepare_calls
from plait.store.service import ServiceStore

FILE_NAME = "service.db"


class Service:
    """What stands behind the routes. `async with` opens the store and begins to run what waits in it.

    `file` is what everything is kept in. Leaving the block drains: no new runs, running ones have `options.grace_s` to
    finish and are parked after that. Everything but `app`, `settings` and `options` is there inside the block only.
    """

    store: ServiceStore
    saver: Saver
    items: Items
    graphs: Graphs
    authority: Authority
    limits: KeyLimits
    runner: Runner

    def __init__(
        self,
        *,
        app: App,
        settings: Settings,
        file: Path,
        options: ServiceOptions,
        authority: Authority | None = None,
        require_keys: bool = False,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.app = app
        self.settings = settings
        self._keys = known_keys(settings)
        self.options = options
        self._file = file
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

    def clean(self, text: str) -> str:
        """The text of an error without keys and passwords, which what failed may have repeated."""
        return redacted(masked(text), self._keys)

    async def _open(self, stack: AsyncExitStack) -> None:
        self.store = await stack.enter_async_context(
            ServiceStore(self._file, also=(prepare_checkpoints, prepare_items, prepare_calls))
        )
        server = await asyncio.to_thread(placed, f"{os.getpid()}-{uuid4().hex[:12]}")
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
        keeper = Keeper(self.runner, self.store, self.saver, self.options, crons=crons, webhooks=webhooks)
        # It beats until the last run has ended: others would take them over while they run.
        stack.push_async_callback(keeper.leave)
        await stack.enter_async_context(self.runner)
        await stack.enter_async_context(crons)
        stack.callback(keeper.rest)
        await keeper.begin()

"""Workers in actors of a Ray cluster; one of this machine's own is made where it is asked for."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import re
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from plait.app import App
from plait.batches.channels import NoMore, Orders
from plait.batches.parcels import pack
from plait.batches.ray_links import RayLink, RemoteWorker, first_words
from plait.batches.ray_sessions import CHECKS, RaySession
from plait.batches.workplaces import NoRoom
from plait.errors import PlaitError, SettingsError
from plait.scale.ray_actors import RayWorker, versions

__all__ = ["RayWorkplace"]

logger = logging.getLogger("plait")

_ENTRY = "plait.batches.ray_work:work_in_actor"
_HOST_AND_PORT = re.compile(r"[^/]+:\d+")
_KNOCK_S = 5.0
_HEAD_S = 2.0
_HEAD_FAILURES = 5
_FAREWELL_S = 2.0
_TRIES = 3
_OWN_CLIENTS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")


class RayWorkplace:
    """A Workplace on the cluster at `address`: host:port of its head, "auto" or "local".

    `workers` is how many are asked for, 0 for as many as the cluster has CPUs. `timeout_s` bounds the wait for the
    cluster, and for each worker; one that does not answer for `silence_s` is given up, and one that is not asked for
    as long ends itself.
    """

    ahead = 200

    def __init__(
        self, address: str, app: App, *, workers: int = 0, timeout_s: float = 60.0, silence_s: float = 30.0
    ) -> None:
        self.room = workers
        self._address = address
        self._app = app
        self._timeout_s = timeout_s
        self._silence_s = silence_s
        self._session: RaySession | None = None
        self._packing: asyncio.Future[object] | None = None
        self._environment: dict[str, str] = {}
        self._versions: dict[str, str] = {}
        self._warned = False
        self._abandoned = False
        self._links: weakref.WeakSet[RayLink] = weakref.WeakSet()
        self._gone = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> RayWorkplace:
        """Raises SettingsError where Ray is missing or the cluster cannot be had."""
        await self._knock()
        connecting = asyncio.ensure_future(asyncio.to_thread(self._connect))
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(connecting)
        except TimeoutError:
            self._abandoned = True  # its thread cannot be stopped
            connecting.cancel()
            raise NoRoom(f"--ray {self._address}: no answer within {self._timeout_s:g} s: {CHECKS}") from None
        except BaseException:
            await asyncio.wait([connecting])
            await asyncio.to_thread(self._let_go)
            raise
        self._watching = asyncio.create_task(self._watch(), name="plait ray: head")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self._packing is not None:  # its thread cannot be stopped, and uses Ray
            await asyncio.gather(self._packing, return_exceptions=True)
            self._packing = None
        await asyncio.to_thread(self._let_go)

    @property
    def _open(self) -> RaySession:
        assert self._session is not None, "workers are hired inside the context"
        return self._session

    async def _knock(self) -> None:
        """Ray waits long for a head that is not there."""
        address, words = self._address, f"--ray {self._address}"
        if address == "auto" and (found := os.environ.get("RAY_ADDRESS")):  # where Ray looks first
            scheme, is_url, _ = found.partition("://")
            if is_url:  # of Ray's client, or of the dashboard, as `ray job submit` wants it
                raise SettingsError(
                    f"{words}: RAY_ADDRESS: expected HOST:PORT of the cluster's head, found {scheme}://...: unset it "
                    "on a machine of the cluster, or give --ray HOST:6379"
                )
            address, words = found, f"{words} (RAY_ADDRESS={found})"
        if not _HOST_AND_PORT.fullmatch(address):
            return
        try:
            await _reach(address)
        except (OSError, TimeoutError) as error:
            reason = str(error) or f"no answer within {_KNOCK_S:g} s"
            raise SettingsError(f"{words}: nobody is there ({reason}): {CHECKS}") from None

    async def _watch(self) -> None:
        """Notice that the head is gone, before Ray does: a minute later it ends this process."""
        failures = 0
        while failures < _HEAD_FAILURES:
            await asyncio.sleep(_HEAD_S)
            try:
                await _reach(self._open.head)
                failures = 0
            except (OSError, TimeoutError):
                failures += 1
        self._gone.set()
        # Nobody ends them now, while their own machines' Ray waits for the head: each would pay for all it has leased.
        stop, fate = NoMore(at_once=True), "the head of the cluster is gone"
        await asyncio.gather(*(link.left(fate, last=stop, within_s=_FAREWELL_S) for link in self._links))

    async def hire(self, orders: Orders) -> RayLink:
        """As Workplace says; AppError where the app cannot travel, SettingsError where a worker's machine will not do.

        What is another machine is seen by each worker's own address: machines may join at any time.
        """
        hiring = asyncio.ensure_future(self._hired(orders))
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait([hiring, gone], return_when=asyncio.FIRST_COMPLETED)
            if hiring.done():
                return hiring.result()
            raise PlaitError(
                f"--ray {self._address}: the head of the cluster is gone: go on once it is there again, on another "
                "cluster, or with --workers"
            )
        finally:
            gone.cancel()
            if not hiring.done():
                hiring.cancel()
                await asyncio.wait([hiring])

    async def _hired(self, orders: Orders) -> RayLink:
        if self._open.elsewhere:
            self._check_store(orders, self._open.elsewhere)
        words = ""
        try:
            async with asyncio.timeout(self._timeout_s):
                for _ in range(_TRIES):
                    try:
                        return await self._begun(orders)
                    except self._open.ray.exceptions.RayError as error:
                        words = first_words(error)
                        if _is_missing(words):
                            raise SettingsError(
                                f"--ray {self._address}: expected plait {self._versions['plait']} on every machine of "
                                f"the cluster: {words}"
                            ) from None
        except TimeoutError:
            raise NoRoom(await asyncio.to_thread(self._what_is_missing)) from None
        raise NoRoom(f"--ray {self._address}: workers die as they begin: {words}")

    async def _begun(self, orders: Orders) -> RayLink:
        actor = await asyncio.to_thread(self._actor)
        try:
            found = await actor.greet.remote()
            _check_versions(self._versions, found)
            where = f"worker {found['pid']} on {found['host']}: "
            # Also on this machine: an actor has its node's environment, not this process's.
            orders = replace(orders, environment=self._environment)
            batch, parcel = os.getpid() if found["address"] == self._open.here else None, None
            if batch is None:
                self._check_store(orders, [found["address"]])
                self._warn_of_limits(orders)
                orders, parcel = replace(orders, app=None), await self._packed()
            begun = pickle.dumps((orders, where))
            await actor.begin.remote(_ENTRY, begun, parcel, batch, self._silence_s)
        except BaseException:
            self._kill(actor)
            raise
        ray_error = self._open.ray.exceptions.RayError
        link = RayLink(actor, kill=partial(self._kill, actor), ray_error=ray_error, silence_s=self._silence_s)
        self._links.add(link)
        return link

    async def _packed(self) -> object:
        """The app as Ray holds it for workers on other machines; made for the first of them."""
        if self._packing is None:
            self._packing = asyncio.ensure_future(asyncio.to_thread(self._pack))
        return await asyncio.shield(self._packing)

    def _actor(self) -> RemoteWorker:
        made = self._open.ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(RayWorker)
        actor: RemoteWorker = made.remote()
        return actor

    def _kill(self, actor: RemoteWorker) -> None:
        if not self._gone.is_set():
            self._open.ray.kill(actor)

    # --- the cluster; in a thread ------------------------------------------------------------------------

    def _connect(self) -> None:
        session = RaySession(self._address, cpus=self.room)
        try:
            self._versions = versions()
            self._environment = _environment(self._app)
            self.room = self.room or max(1, session.cpus()[0])
        except BaseException:
            session.close()
            raise
        self._session = session
        if self._abandoned:
            self._let_go()

    def _pack(self) -> object:
        parcel = None if self._app.bundled else pack(self._app.root, self._app.file.name)
        if parcel is not None and parcel.large:
            logger.warning("too large to send to workers, which will miss it: %s", ", ".join(parcel.large[:5]))
        return self._open.ray.put(pickle.dumps(parcel))

    def _let_go(self) -> None:
        if self._session is not None:
            self._session.close()

    def _what_is_missing(self) -> str:
        has, free = self._open.cpus()
        return (
            f"--ray {self._address}: a worker found no place within {self._timeout_s:g} s: asked for {self.room} "
            f"of 1 CPU each, the cluster has {has}, {free} of them free: give a smaller --workers, or add machines "
            "(where some are on their way: a longer --ray-timeout)"
        )

    def _check_store(self, orders: Orders, elsewhere: Sequence[str]) -> None:
        if orders.answers is not None and not orders.answers.is_shared:
            raise SettingsError(
                f"--ray {self._address}: expected a store that all machines of the cluster reach, found SQLite files "
                f"of this one ({', '.join(elsewhere[:3])} cannot write them): give --store postgresql://..."
            )

    def _warn_of_limits(self, orders: Orders) -> None:
        settings = orders.settings
        if not self._warned and settings.share and not (settings.budget or settings.store):
            self._warned = True
            logger.warning(
                "limits are learnt and kept by each machine of the cluster for itself: share them by "
                "--budget redis://... or --store postgresql://..."
            )


async def _reach(address: str) -> None:
    """Raises OSError or TimeoutError."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(_KNOCK_S):
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()


def _is_missing(words: str) -> bool:
    return words.startswith(("ModuleNotFoundError", "ImportError"))


def _check_versions(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name, here in expected.items():
        if (there := found.get(name)) != here:
            raise SettingsError(
                f"expected {name} {here} on every machine of the cluster, as here, found {there} on "
                f"{found.get('host')}: install the same there"
            )


def _environment(app: App) -> dict[str, str]:
    """What a graph's own clients may ask for where the workers are; plait's settings travel by themselves."""
    # Not for us: whoever reads these is the user's code, which finds them here in the environment, too.
    own = {name: os.environ[name] for name in _OWN_CLIENTS if name in os.environ}
    return {name: os.environ.get(name, value) for name, value in app.env.items()} | own

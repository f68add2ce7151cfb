"""Workers in actors of a Ray cluster; one of this machine's own is made where it is asked for."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from plait.app import App
from plait.batches.channels import Orders
from plait.batches.parcels import pack
from plait.batches.ray_actors import RayWorker, versions
from plait.batches.ray_links import RayLink, first_words
from plait.batches.workplaces import NoRoom
from plait.errors import SettingsError

if TYPE_CHECKING:
    from ray.actor import ActorHandle

__all__ = ["RayWorkplace", "nodes_elsewhere"]

logger = logging.getLogger("plait")

LOCAL = "local"
_OBJECTS_BYTES = 80 * 2**20
"""Ray's smallest, about: messages and an app's files go through it, results do not stay."""
_KNOCK_S = 5.0
_OWN_CLIENTS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")


class RayWorkplace:
    """A Workplace on the cluster at `address`: host:port of its head, "auto" or "local".

    `workers` is how many are asked for, 0 for as many as the cluster has CPUs. `timeout_s` bounds the wait for the
    cluster, and for each worker; one that does not answer for `silence_s` is given up.
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
        self._ray: Any = None
        self._is_ours = False
        self._elsewhere: list[str] = []
        self._parcel: object | None = None
        self._folder: str | None = None
        self._environment: dict[str, str] = {}
        self._versions: dict[str, str] = {}
        self._warned = False

    async def __aenter__(self) -> RayWorkplace:
        """Raises SettingsError where Ray is missing or the cluster cannot be had, AppError for an app too large."""
        self._ray = await asyncio.to_thread(_imported)
        await self._knock()
        connecting = asyncio.ensure_future(asyncio.to_thread(self._connect))
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(connecting)
            await asyncio.to_thread(self._prepare)
        except TimeoutError:
            # Its thread cannot be stopped; it ends with the process.
            connecting.cancel()
            raise NoRoom(f"--ray {self._address}: no answer within {self._timeout_s:g} s: {_CHECKS}") from None
        except BaseException:
            await asyncio.wait([connecting])
            await asyncio.to_thread(self._let_go)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._let_go)

    async def _knock(self) -> None:
        """Ray waits long for a head that is not there."""
        host, colon, port = self._address.rpartition(":")
        if not colon or self._ray.is_initialized():
            return
        try:
            async with asyncio.timeout(_KNOCK_S):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except (OSError, TimeoutError) as error:
            reason = str(error) or f"no answer within {_KNOCK_S:g} s"
            raise SettingsError(f"--ray {self._address}: nobody is there ({reason}): {_CHECKS}") from None
        writer.close()

    async def hire(self, orders: Orders) -> RayLink:
        if self._elsewhere and orders.answers is not None and not orders.answers.is_shared:
            raise SettingsError(
                f"--ray {self._address}: expected a store that all machines of the cluster reach, found SQLite files "
                f"of this one ({', '.join(self._elsewhere[:3])} cannot write them): give --store postgresql://..."
            )
        self._warn_of_limits(orders)
        actor: ActorHandle[Any] | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                actor = await asyncio.to_thread(self._actor)
                found = await actor.greet.remote()
                _check_versions(self._versions, found)
                where = f"worker {found['pid']} on {found['host']}: "
                parcel = None
                if self._elsewhere:
                    parcel = self._parcel
                    orders = replace(orders, app=None, environment=self._environment)
                batch = None if self._elsewhere else os.getpid()
                await actor.begin.remote(pickle.dumps(orders), parcel, where, batch)
        except TimeoutError:
            self._kill(actor)
            raise NoRoom(await asyncio.to_thread(self._what_is_missing)) from None
        except self._ray.exceptions.RayError as error:
            self._kill(actor)
            raise SettingsError(f"--ray {self._address}: {first_words(error)}") from None
        except BaseException:
            self._kill(actor)
            raise
        return RayLink(
            actor,
            kill=partial(self._kill, actor),
            ray_error=self._ray.exceptions.RayError,
            silence_s=self._silence_s,
        )

    def _actor(self) -> ActorHandle[Any]:
        made = self._ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(RayWorker)
        actor: ActorHandle[Any] = made.remote()
        return actor

    def _kill(self, actor: ActorHandle[Any] | None) -> None:
        if actor is not None:
            self._ray.kill(actor)

    # --- the cluster; in a thread ------------------------------------------------------------------------

    def _connect(self) -> None:
        ray = self._ray
        if ray.is_initialized():
            return  # by the process that we are a guest in
        with _quiet(alone=self._address == LOCAL):
            if self._address != LOCAL:
                try:
                    ray.init(self._address, **_SILENT)
                except (OSError, RuntimeError, ValueError) as error:
                    raise SettingsError(f"--ray {self._address}: {first_words(error)}: {_CHECKS}") from None
            else:
                cpus = self.room or len(os.sched_getaffinity(0))
                # Short, for the paths of its sockets, and nobody else's: Ray would leave its logs to all.
                self._folder = tempfile.mkdtemp(prefix="plait-ray-", dir="/tmp")
                ray.init(
                    LOCAL,
                    num_cpus=cpus,
                    include_dashboard=False,
                    object_store_memory=_OBJECTS_BYTES,
                    _temp_dir=self._folder,
                    **_SILENT,
                )
        self._is_ours = True

    def _prepare(self) -> None:
        self._versions = versions()
        here = self._ray.util.get_node_ip_address()
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        self._elsewhere = nodes_elsewhere(nodes, here)
        self.room = self.room or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        if self._elsewhere:
            parcel = None if self._app.bundled else pack(self._app.root, self._app.file.name)
            if parcel is not None and parcel.large:
                logger.warning("too large to send to workers, which will miss it: %s", ", ".join(parcel.large[:5]))
            self._parcel = self._ray.put(pickle.dumps(parcel))
            self._environment = _environment(self._app)

    def _let_go(self) -> None:
        if self._is_ours:
            self._is_ours = False
            self._parcel = None
            self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _what_is_missing(self) -> str:
        has, free = (int(each().get("CPU", 0)) for each in (self._ray.cluster_resources, self._ray.available_resources))
        return (
            f"--ray {self._address}: a worker found no place within {self._timeout_s:g} s: asked for {self.room} "
            f"of 1 CPU each, the cluster has {has}, {free} of them free: give a smaller --workers, or add machines "
            "(where some are on their way: a longer --ray-timeout)"
        )

    def _warn_of_limits(self, orders: Orders) -> None:
        settings = orders.settings
        if self._elsewhere and not self._warned and settings.share and not (settings.budget or settings.store):
            self._warned = True
            logger.warning(
                "limits are learnt and kept by each machine of the cluster for itself: share them by "
                "--budget redis://... or --store postgresql://..."
            )


_CHECKS = (
    "is it up (`ray status`), and this machine one of its nodes? Where it asks for a token: RAY_AUTH_MODE=token and "
    "RAY_AUTH_TOKEN"
)
_SILENT: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}


def nodes_elsewhere(nodes: Iterable[Mapping[str, Any]], here: str) -> list[str]:
    """The addresses of the nodes (as `ray.nodes()` gives them) that are other machines than the one at `here`."""
    return sorted({str(node["NodeManagerAddress"]) for node in nodes} - {here})


def _imported() -> ModuleType:
    try:
        import ray  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise SettingsError("--ray: expected Ray, found none: pip install 'plait[ray]'") from None
    return ray


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
    return {**app.env, **own}


@lru_cache(maxsize=1)
def _token() -> str:
    # Ray reads its token once in a process.
    return secrets.token_hex(32)


@contextmanager
def _quiet(*, alone: bool) -> Iterator[None]:
    """Ray's variables while it begins: it tells nobody that it is used, and leaves no token in the home folder."""
    before = dict(os.environ)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if alone and not before.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        os.environ["RAY_AUTH_TOKEN"] = _token()
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]

"""A process's connection to a Ray cluster, made and let go of without a trace in the process. All of it blocks."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import ModuleType
from typing import Any

from plait.batches.ray_links import first_words
from plait.errors import SettingsError

__all__ = ["CHECKS", "LOCAL", "RaySession", "nodes_elsewhere"]

logger = logging.getLogger("plait")

LOCAL = "local"
CHECKS = (
    "is it up (`ray status`), and this machine one of its nodes? Where it asks for a token: RAY_AUTH_MODE=token and "
    "RAY_AUTH_TOKEN"
)
_OBJECTS_BYTES = 80 * 2**20
"""Ray's smallest, about: messages and an app's files go through it, results do not stay."""
_FOLDERS = "/tmp"  # noqa: S108 - what is made in it is private
"""Short: the path of a socket has at most 107 bytes, and Ray adds 65 of its own."""
_OURS = re.compile(r"plait-ray-\d+-\w{8}")
_SILENT: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}


class RaySession:
    """Ray in this process, connected to `address` until `close`; "local" is a cluster of its own, of `cpus` CPUs.

    Where the process is connected already, by whoever it belongs to, that connection is used and left as it is.
    Raises SettingsError where Ray is not installed or the cluster cannot be had.
    """

    def __init__(self, address: str, *, cpus: int = 0) -> None:
        self.ray = _imported()
        self._is_ours = not self.ray.is_initialized()
        self._folder: str | None = None
        self._lock = -1
        try:
            if self._is_ours:
                # Ray prints what its daemons say as they die, to the stdout that results go to.
                self._say(False)
                self._connect(address, cpus)
            self.head: str = self.ray.get_runtime_context().gcs_address
            self.here: str = self.ray.util.get_node_ip_address()
            """The address of this machine, as its workers give theirs."""
            self.elsewhere = nodes_elsewhere((node for node in self.ray.nodes() if node["Alive"]), self.here)
            """The addresses of the machines that are others now; more may join."""
        except BaseException as error:
            self.close()
            if isinstance(error, Exception):  # RayError, OSError, RuntimeError, ValueError, or no more than Exception
                raise SettingsError(_refusal(address, error)) from error
            raise

    def _connect(self, address: str, cpus: int) -> None:
        if address != LOCAL:
            with _quiet():
                self.ray.init(address, **_SILENT)
            return
        self._folder, self._lock = _new_folder()
        inside = os.path.join(self._folder, "r")
        os.mkdir(inside)
        with _quiet(alone=True):
            self.ray.init(
                LOCAL,
                num_cpus=cpus or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
                include_dashboard=False,
                object_store_memory=_OBJECTS_BYTES,
                _temp_dir=inside,
                **_SILENT,
            )

    def cpus(self) -> tuple[int, int]:
        """Those of the cluster, and the free ones of them."""
        ray = self.ray
        return int(ray.cluster_resources().get("CPU", 0)), int(ray.available_resources().get("CPU", 0))

    def close(self) -> None:
        """Let go; harmless the second time."""
        if self._is_ours:
            self._is_ours = False
            try:
                self.ray.shutdown()
            except Exception as error:  # noqa: BLE001 - what the batch did is done
                logger.warning("Ray did not end well, and may have left processes: %s", _first_sentence(error))
            self._say(True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
            os.close(self._lock)

    def _say(self, aloud: bool) -> None:
        self.ray._private.worker._worker_logs_enabled = aloud  # noqa: SLF001 - as its own debugger does it


def _new_folder() -> tuple[str, int]:
    """A folder that nobody else may enter, for Ray, which opens its own to all; and its lock, which dies with us.

    Those whose processes are dead are removed.
    """
    for found in os.scandir(_FOLDERS):
        if _OURS.fullmatch(found.name):
            with suppress(OSError):  # not ours, locked, or gone by now
                _remove_left(found.path)
    made = tempfile.mkdtemp(prefix="plait-new-", dir=_FOLDERS)
    lock = os.open(made, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = os.path.join(_FOLDERS, f"plait-ray-{os.getpid()}-{made[-8:]}")
    os.rename(made, folder)  # others look at it from now on
    return folder, lock


def _remove_left(folder: str) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def nodes_elsewhere(nodes: Iterable[Mapping[str, Any]], here: str) -> list[str]:
    """The addresses of the nodes (as `ray.nodes()` gives them) that are other machines than the one at `here`."""
    return sorted({str(node["NodeManagerAddress"]) for node in nodes} - {here})


def _imported() -> ModuleType:
    try:
        import ray  # noqa: PLC0415 - an extra
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "ray":
            raise SettingsError("--ray: expected Ray, found none: pip install 'plait[ray]'") from None
        raise SettingsError(
            f"--ray: expected Ray, found one that cannot be imported ({type(error).__name__}: {error}): install it "
            "again, pip install --force-reinstall 'plait[ray]'"
        ) from error
    return ray


def _refusal(address: str, error: Exception) -> str:
    if address == LOCAL:
        return (
            f"--ray local: expected Ray to start on this machine, found: {_first_sentence(error)}: make room in memory "
            "and in /tmp, or use --workers without --ray"
        )
    return f"--ray {address}: {_first_sentence(error)}: {CHECKS}"


def _first_sentence(error: Exception) -> str:
    return first_words(error).partition(". ")[0].rstrip(".")


@lru_cache(maxsize=1)
def _token() -> str:
    # Ray reads its token once in a process.
    return secrets.token_hex(32)


@contextmanager
def _quiet(*, alone: bool = False) -> Iterator[None]:
    """Ray's variables while it begins: it tells nobody that it is used, and leaves no token in the home folder."""
    before = dict(os.environ)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if alone and not before.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        os.environ["RAY_AUTH_TOKEN"] = _token()
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("RAY_") or name == "PYTHONBREAKPOINT"]:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]

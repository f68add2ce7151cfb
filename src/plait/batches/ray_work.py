"""A worker's beginning in a Ray actor, on a machine that may not be the batch's."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

from plait.batches.channels import Orders, Said, Talk
from plait.batches.parcels import Parcel, unpack
from plait.batches.worker import work
from plait.settings import Settings, from_env

__all__ = ["work_in_actor"]

_HOMES = ("HOME", "PLAIT_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")


async def work_in_actor(talk: Talk, orders: bytes, parcel: bytes | None) -> None:
    """`work` as the pickled (Orders, where) say; `parcel` is the pickled app, where this machine has no such folder."""
    found: Orders
    found, where = pickle.loads(orders)  # noqa: S301 - from the batch
    logging.getLogger("plait").addHandler(_Voice(talk))
    os.environ.update({name: value for name, value in found.environment.items() if name not in os.environ})
    if parcel is not None:
        found = await asyncio.to_thread(_moved, found, parcel)
    await work(talk, found, where=where)


class _Voice(logging.Handler):
    """Sends warnings to the batch: what a Ray worker prints ends in a file that nobody reads."""

    def __init__(self, talk: Talk) -> None:
        super().__init__(logging.WARNING)
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        self._talk.send(Said(record.levelno, record.getMessage()))


def _moved(orders: Orders, parcel: bytes) -> Orders:
    """Orders for a machine that is not the batch's: with folders of its own."""
    found: Parcel | None = pickle.loads(parcel)  # noqa: S301 - from the batch
    app = unpack(found) if found is not None else None
    return replace(orders, app=app, settings=_at_home(orders.settings))


def _at_home(settings: Settings) -> Settings:
    here = from_env({name: os.environ[name] for name in _HOMES if name in os.environ})
    home = here.home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        home = Path(tempfile.mkdtemp(prefix="plait-home-"))
    return replace(settings, home=home, cache=here.cache)

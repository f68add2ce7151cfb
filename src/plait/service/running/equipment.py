"""What a server runs its runs with."""

from __future__ import annotations

from dataclasses import dataclass

from plait.prices import Prices
from plait.service.graphs import Graphs
from plait.service.listeners import Listener
from plait.service.options import ServiceOptions
from plait.service.running.courses import Limits
from plait.service.webhooks import Webhooks
from plait.settings import Settings
from plait.store.savers import Saver
from plait.store.service import ServiceStore


@dataclass(frozen=True, slots=True)
class Equipment:
    """The parts of a service that its runs need."""

    server: str
    """Its name in the store."""
    store: ServiceStore
    saver: Saver
    graphs: Graphs
    settings: Settings
    options: ServiceOptions
    limits: Limits
    listener: Listener
    prices: Prices
    webhooks: Webhooks

"""What the service keeps: one SQLite file, reached through a ServiceStore."""

from __future__ import annotations

from plait.store.service.adoptions import Adopted
from plait.store.service.assistants import AssistantQuery
from plait.store.service.crons import CronQuery
from plait.store.service.keys import KeyUsage
from plait.store.service.runs import Admission, RunOutcome
from plait.store.service.stores import ServiceStore, prepare_answers
from plait.store.service.threads import ThreadOutcome, ThreadQuery

__all__ = [
    "Admission",
    "Adopted",
    "AssistantQuery",
    "CronQuery",
    "KeyUsage",
    "RunOutcome",
    "ServiceStore",
    "ThreadOutcome",
    "ThreadQuery",
    "prepare_answers",
]

"""Where the budget of some settings is kept: this process, this host's file, PostgreSQL or Redis."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from plait.errors import PlaitError, SettingsError, StoreError
from plait.flow.clock import Clock, SystemClock
from plait.flow.entries import Entry
from plait.flow.file_ledgers import FileLedger
from plait.flow.ledgers import Ledger, readable
from plait.flow.postgres_ledgers import PostgresLedger
from plait.flow.redis_ledgers import RedisLedger
from plait.settings import Settings

CHECK_S = 5.0
"""What a server's budget must answer within before work begins."""


def budget_url(settings: Settings) -> str | None:
    """The URL of the server that limits are shared on: the budget's own, else the store's; None where no server is."""
    return (settings.budget or settings.store) if settings.share else None


def budget_ledger(settings: Settings) -> Callable[[Clock], Ledger] | None:
    """Makes the ledger that limits are shared in; None where each process keeps to itself."""
    url = budget_url(settings)
    if url is not None:
        return ledger_at(url)
    if settings.share and settings.home != Path():
        return partial(FileLedger, settings.home / "limits.db")
    return None


def ledger_at(url: str) -> Callable[[Clock], Ledger]:
    """Makes the ledger on a server. Its URL is one that `settings.server_url` let through."""
    if urlsplit(url).scheme in {"redis", "rediss"}:
        return partial(RedisLedger, url)
    return partial(PostgresLedger, url)


def budget_place(settings: Settings) -> str:
    """Where what is learnt is kept, for messages: a path, or a URL without its password."""
    found = budget_ledger(settings)
    return "this process" if found is None else found(SystemClock()).where


def check_budget(settings: Settings) -> None:
    """Find out whether the server that limits are shared on can be used, and make its tables. Blocks: at most 5 s.

    Does nothing where no server is named: a file that cannot be used is done without. Raises SettingsError for what
    must be set otherwise (a missing extra, a URL that cannot be read, a Redis that evicts), StoreError for a server
    that cannot be reached, refuses the password, is read-only or belongs to another version of plait.
    """
    url = budget_url(settings)
    if url is None:
        return
    ledger = ledger_at(url)(SystemClock())
    found: list[Exception] = []

    def check() -> None:
        try:
            ledger.check()
        except Exception as error:  # noqa: BLE001 - told by who asked
            found.append(error)
        finally:
            ledger.close()

    # A thread, which is left alone if it is stuck: no driver bounds the time that a name takes to be looked up.
    thread = threading.Thread(target=check, name="plait budget check", daemon=True)
    thread.start()
    thread.join(CHECK_S)
    if thread.is_alive():
        found.append(TimeoutError(f"no answer within {CHECK_S:g} s"))
    if found:
        raise _told(ledger, found[0]) from found[0]


def read_budget(settings: Settings) -> tuple[Mapping[str, Entry], float, float]:
    """What is known of all limits, with the time by the budget's own two clocks: `now` and `wall`. Blocks.

    Empty where nothing is shared or known. Raises SettingsError and StoreError, as `check_budget` does and for a file
    that cannot be read.
    """
    clock = SystemClock()
    found = budget_ledger(settings)
    if found is None:
        return {}, clock.now(), clock.wall()
    ledger = found(clock)
    with told(ledger):
        states, moment = ledger.states()
    return readable(states), moment.now, moment.wall


@contextmanager
def told(ledger: Ledger) -> Generator[None]:
    """Turns what a ledger raises within into SettingsError or StoreError, and closes it at the end."""
    try:
        yield
    except Exception as error:
        raise _told(ledger, error) from error
    finally:
        ledger.close()


def _told(ledger: Ledger, error: Exception) -> PlaitError:
    if isinstance(error, SettingsError | StoreError):
        return error
    said = " ".join(str(error).split()) or type(error).__name__
    if ledger.remote:
        return StoreError(f"cannot use the budget at {ledger.where}: {said}; {ledger.cure(error)}")
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        said += "; the next model call sets it aside and learns anew"
    return StoreError(f"cannot read {ledger.where}: {said}")

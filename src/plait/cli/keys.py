"""`plait keys`: makes, lists and revokes the API keys of `plait serve`."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from plait.cli.groups import grouped
from plait.cli.options import LIMITS, App, Json, Store, option, span
from plait.errors import InputError

if TYPE_CHECKING:
    from plait.store.addresses import Address
    from plait.store.service.keys import Keys, KeyUsage
    from plait.store.service.records import KeyRecord

T = TypeVar("T")
Work = Callable[[], int]
Where = tuple[Path | None, str | None]
"""The app's folder and the store, as the command line names them."""
_LONGEST_NAME = 100
_DAY_S = 86_400
_LIMITS = ("rpm", "runs_per_day", "tokens_per_day", "usd_per_day", "max_running")

keys = typer.Typer(
    help="Make, list and revoke the API keys of `plait serve`.", no_args_is_help=True, pretty_exceptions_enable=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Most:
    """What a key may be used for."""

    rpm: Annotated[float | None, option("--rpm", "N", "Runs a minute.", LIMITS)] = None
    runs_per_day: Annotated[int | None, option("--runs-per-day", "N", "Runs a day (UTC).", LIMITS)] = None
    tokens_per_day: Annotated[
        int | None, option("--tokens-per-day", "N", "Tokens a day (UTC); runs that are begun end.", LIMITS)
    ] = None
    usd_per_day: Annotated[float | None, option("--usd-per-day", "X", "Dollars a day (UTC); likewise.", LIMITS)] = None
    max_running: Annotated[int | None, option("--max-running", "N", "Runs at once; further ones wait.", LIMITS)] = None
    expires: Annotated[
        str | None,
        option("--expires", "TIME", "How long it works, e.g. 30d, or its last day, e.g. 2027-01-31 (UTC).", LIMITS),
    ] = None


@keys.command("create")
@grouped
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for, as shown in lists.", show_default=False)],
    limits: Most,
    owner: Annotated[
        str | None,
        typer.Option("--owner", metavar="ID", help="Whose threads its callers see; keys may share one. Default: NAME."),
    ] = None,
    directory: App = None,
    store: Store = None,
) -> Work:
    """Make a key and print it, once: only a hash of it is kept.

    [bold]plait keys create frontend --rpm 60 --usd-per-day 5[/bold]
    """
    return partial(_create, name, owner, limits, (directory, store))


@keys.command("list")
def list_keys(as_json: Json = False, directory: App = None, store: Store = None) -> Work:
    """List the keys with their limits and what today (UTC) has used of them."""
    return partial(_list, (directory, store), as_json=as_json)


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Its id; `plait keys list` shows it.")],
    directory: App = None,
    store: Store = None,
) -> Work:
    """End a key; servers refuse it within a few seconds."""
    return partial(_revoke, key_id, (directory, store))


def _await(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(work)


def _address(where: Where) -> Address:
    from plait.cli.apps import open_app

    directory, store = where
    _, settings = open_app(directory)
    return store or settings.store or settings.home / "service.db"


@asynccontextmanager
async def _opened(address: Address) -> AsyncIterator[Keys]:
    from plait.store.service import ServiceStore

    async with ServiceStore(address) as store:
        yield store.keys


# --- create --------------------------------------------------------------------------------------------


def _create(name: str, owner: str | None, limits: Most, where: Where) -> int:
    now = time.time()
    _check_name("NAME", name)
    owner = name if owner is None else owner
    _check_name("--owner", owner)
    _check_limits(limits)
    expires_at = None if limits.expires is None else end_of(limits.expires, now)
    key, record = _await(_add(_address(where), name, owner, limits, (now, expires_at)))
    sys.stdout.write(f"{key}\n")
    sys.stdout.flush()
    sys.stderr.write(
        f"{record.key_id}... of {owner}: {_limits(record) or 'no limits'}\n"
        "this is the only time that the key is shown; send it as X-Api-Key, or as Authorization: Bearer\n"
        "a server that was started before there were keys asks for them from its next start\n"
    )
    return 0


async def _add(
    address: Address, name: str, owner: str, limits: Most, times: tuple[float, float | None]
) -> tuple[str, KeyRecord]:
    from plait.store.service.key_texts import digest_of, id_of, new_key
    from plait.store.service.records import KeyRecord

    async with _opened(address) as store:
        taken = {record.key_id for record in await store.list()}
        key = next(key for key in iter(new_key, None) if id_of(key) not in taken)
        record = KeyRecord(
            key_id=id_of(key),
            digest=digest_of(key),
            owner=owner,
            name=name,
            created_at=times[0],
            expires_at=times[1],
            rpm=limits.rpm,
            runs_per_day=limits.runs_per_day,
            tokens_per_day=limits.tokens_per_day,
            usd_per_day=limits.usd_per_day,
            max_running=limits.max_running,
        )
        await store.create(record)
    return key, record


def _check_name(what: str, text: str) -> None:
    if not text.strip() or not text.isprintable() or len(text) > _LONGEST_NAME:
        shown = repr(text if len(text) <= _LONGEST_NAME else f"{text[:40]}...")
        raise InputError(f"{what}: expected 1 to {_LONGEST_NAME} printable characters, found {shown}")


def _check_limits(limits: Most) -> None:
    for name in _LIMITS:
        value = getattr(limits, name)
        # SQLite keeps integers of 64 bits.
        if value is not None and not 0 < value < 2**63:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag}: expected a number above 0, found {value:g}; leave it out for no limit")


def end_of(text: str, now: float) -> float:
    """When a key ends, in seconds since the epoch: after a time, or with a day in UTC. Raises InputError."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            at = now + span(text, "--expires")
        except InputError:
            raise InputError(
                f"--expires: expected a time such as 12h or 30d, or a day such as 2027-01-31, found {text!r}"
            ) from None
    else:
        at = datetime.combine(day, datetime.min.time(), UTC).timestamp() + _DAY_S
    if not now < at < datetime.max.replace(tzinfo=UTC).timestamp():
        raise InputError(f"--expires: expected a day that is not over (UTC), before the year 10000, found {text!r}")
    return at


# --- list ----------------------------------------------------------------------------------------------


def _list(where: Where, *, as_json: bool) -> int:
    from plait.json_values import dumps

    now = time.time()
    found = _await(_read(_address(where), now))
    if as_json:
        sys.stdout.write(f"{dumps([_as_json(*each, now) for each in found], indent=2)}\n")
        return 0
    if not found:
        sys.stdout.write("there are no keys yet: plait keys create NAME makes one\n")
        return 0
    from rich.console import Console
    from rich.text import Text

    from plait.cli.values import clean

    console = Console(file=sys.stdout, highlight=False, markup=False)
    for record, used in found:
        state = _state(record, now)
        style = "" if state == "active" else "dim"
        line = Text(record.key_id, style=f"bold {style}").append(f"  {clean(record.name)}", style="not bold")
        if record.owner != record.name:
            line.append(f" (owner {clean(record.owner)})", style="not bold dim")
        facts = [_described(record, state, now), _limits(record), _used(used)]
        line.append("\n  " + "\n  ".join(fact for fact in facts if fact), style="not bold dim")
        console.print(line, soft_wrap=True)
    return 0


async def _read(address: Address, now: float) -> list[tuple[KeyRecord, KeyUsage]]:
    from plait.store.service.key_texts import day_of

    async with _opened(address) as store:
        records = sorted(await store.list(), key=lambda record: (record.created_at, record.key_id), reverse=True)
        return [(record, await store.used(record.key_id, day_of(now))) for record in records]


def _state(record: KeyRecord, now: float) -> str:
    if record.revoked_at is not None:
        return "revoked"
    return "expired" if record.expires_at is not None and record.expires_at <= now else "active"


def _described(record: KeyRecord, state: str, now: float) -> str:
    from plait.cli.durations import roughly

    parts = [state, f"made {roughly(now - record.created_at)} ago"]
    if record.expires_at is not None and state != "revoked":
        verb = "ended" if state == "expired" else "ends"
        parts.append(f"{verb} {datetime.fromtimestamp(record.expires_at, UTC):%Y-%m-%d %H:%M} UTC")
    used = record.last_used_at
    parts.append("never used" if used is None else f"last used {roughly(now - used)} ago")
    return ", ".join(parts)


def _limits(record: KeyRecord) -> str:
    parts = (
        (record.rpm, f"{record.rpm or 0:g} run{'' if record.rpm == 1 else 's'} a minute"),
        (record.runs_per_day, f"{record.runs_per_day or 0:,} run{'' if record.runs_per_day == 1 else 's'} a day"),
        (record.tokens_per_day, f"{record.tokens_per_day or 0:,} tokens a day"),
        (record.usd_per_day, f"${record.usd_per_day or 0:g} a day"),
        (record.max_running, f"{record.max_running or 0:,} at once"),
    )
    return ", ".join(text for value, text in parts if value is not None)


def _used(used: KeyUsage) -> str:
    from plait.cli.durations import money

    if not (used.runs or used.tokens or used.usd):
        return ""
    runs = f"{used.runs:,} run{'' if used.runs == 1 else 's'}"
    return f"today: {runs}, {used.tokens:,} tokens" + (f", {money(used.usd)}" if used.usd else "")


def _as_json(record: KeyRecord, used: KeyUsage, now: float) -> dict[str, object]:
    times = ("created_at", "expires_at", "revoked_at", "last_used_at")
    return {
        "key_id": record.key_id,
        "name": record.name,
        "owner": record.owner,
        "status": _state(record, now),
        **{name: _moment(getattr(record, name)) for name in times},
        "limits": {name: getattr(record, name) for name in _LIMITS},
        "today": {"runs": used.runs, "tokens": used.tokens, "usd": used.usd},
    }


def _moment(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


# --- revoke --------------------------------------------------------------------------------------------


def _revoke(key_id: str, where: Where) -> int:
    from plait.store.service.key_texts import id_of, is_key

    wanted = id_of(key_id) if is_key(key_id) else key_id.removesuffix("...")
    revoked = _await(_end(_address(where), wanted, time.time()))
    sys.stderr.write(f"{'revoked' if revoked else 'was revoked before:'} {wanted}\n")
    return 0


async def _end(address: Address, key_id: str, now: float) -> bool:
    async with _opened(address) as store:
        known = {record.key_id: record for record in await store.list()}
        if key_id not in known:
            near = difflib.get_close_matches(key_id, [*known, *(record.name for record in known.values())], n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise InputError(f"expected the id of a key, found {key_id!r}: {hint}`plait keys list` shows the ids")
        return known[key_id].revoked_at is None and await store.revoke(key_id, now)

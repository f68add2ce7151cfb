"""`plait simulate`: a simulated provider in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO, TypeVar

from rich.console import Console
from rich.live import Live
from rich.text import Text

from plait.cli.signals import Stop
from plait.errors import InputError, SettingsError
from plait.json_values import dumps
from plait.simulator import PRESETS, Answering, Counters, Profile, Simulator, preset, scripted

_Number = TypeVar("_Number", int, float)

_REFRESH_S = 0.25
_LINE_EVERY_S = 10.0
_FLAGS = {
    "require_key": "--key",
    "latency_s": "--latency",
    "ttft_s": "--ttft",
    "gap_s": "--gap",
    "cache_ttl_s": "--cache-ttl",
    "faults": "--fault",
}
_WHOLE = {"rpd", "tpd", "max_concurrency", "seed"}
_TEXT = {"over_limit", "headers", "retry_after", "latency_law", "require_key", "vague"}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says, as it says it."""

    profile: str | None = None
    changes: Mapping[str, str | bool | None] = field(default_factory=dict)
    """By the name of the profile's field; None where the option was not given."""
    faults: Sequence[str] = ()
    answer: Sequence[str] = ()
    answers: str | None = None
    host: str = "127.0.0.1"
    port: str = "8989"
    as_json: bool = False


def simulate(options: Options) -> int:
    """Serve until a signal comes; returns the exit code. Raises PlaitError for what cannot be used."""
    profile = _profile(options)
    port = _number(options.port, "--port", int)
    if not 0 <= port <= 65535:
        raise InputError(f"--port: expected a number from 0 (any that is free) to 65535, found {options.port!r}")
    # Not recorded: it may run for days.
    simulator = Simulator(profile, answer=_answering(options), record=False, host=options.host, port=port)
    return asyncio.run(_serve(simulator, options))


# --- what the options mean ---------------------------------------------------------------------------


def _profile(options: Options) -> Profile:
    changes: dict[str, object] = {}
    for name, found in options.changes.items():
        if found is None or found is False:
            continue
        if name in _TEXT:
            changes[name] = found
        else:
            changes[name] = _number(str(found), _flag(name), int if name in _WHOLE else float)
    base = preset(options.profile) if options.profile else Profile()
    faults: dict[str, float] = dict(base.faults.items())
    for each in options.faults:
        kind, _, chance = each.rpartition("=")
        faults[kind] = _number(chance, f"--fault {kind}" if kind else "--fault KIND=PROBABILITY", float)
    try:
        return base.but(**changes, faults=faults)
    except SettingsError as error:
        name, _, rest = str(error).partition(":")
        raise InputError(f"{_flag(name)}:{rest}") from None


def _flag(name: str) -> str:
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _number(text: str, flag: str, kind: Callable[[str], _Number]) -> _Number:
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"{flag}: expected {what}, found {text!r}") from None


def _answering(options: Options) -> Answering | None:
    if options.answer and options.answers:
        raise InputError("--answer and --answers: expected one of them, found both")
    if options.answers:
        return _imported(options.answers)
    rules = [each.partition("=") for each in options.answer]
    for pattern, equals, _ in rules:
        if not equals:
            raise InputError(f"--answer: expected REGEX=TEXT, found {pattern!r}")
    try:
        return scripted([(pattern, text) for pattern, _, text in rules]) if rules else None
    except SettingsError as error:
        raise InputError(f"--{error}") from None


def _imported(target: str) -> Answering:
    module, _, name = target.partition(":")
    if not module or not name:
        raise InputError(f"--answers: expected package.module:function, found {target!r}")
    sys.path.insert(0, os.getcwd())
    try:
        found: Answering | None = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise InputError(f"--answers: {module} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise InputError(f"--answers: {module} has no function {name!r}")
    return found


# --- while it runs -----------------------------------------------------------------------------------


async def _serve(simulator: Simulator, options: Options) -> int:
    started = time.monotonic()
    stop = Stop(lambda: "" if options.as_json else summary(simulator.counters, time.monotonic() - started))
    try:
        async with simulator:
            _introduce(simulator, options)
            await _watch(simulator.counters, options)
    except asyncio.CancelledError:
        if stop.code is None:
            raise
    if options.as_json:
        _print_json(simulator.counters.as_json())
    else:
        stop.say()
    return stop.code or 0


def _introduce(simulator: Simulator, options: Options) -> None:
    if options.as_json:
        _print_json({"base_url": simulator.base_url})
        return
    sys.stdout.write(f"{simulator.base_url}\n")
    sys.stdout.flush()
    key = simulator.profile.require_key or "none"
    imitated = f"{options.profile}: {PRESETS[options.profile].note}" if options.profile else "no profile"
    told = (
        f"{imitated}",
        "run a workflow against it:",
        f"  export OPENAI_BASE_URL={simulator.base_url} OPENAI_API_KEY={key}",
        '  plait run story topic="a magical forest" --model openai:simulated',
        f"counters: {simulator.origin}/simulator/counters (Ctrl-C stops)",
    )
    sys.stderr.write("\n".join(told) + "\n")
    sys.stderr.flush()


async def _watch(counters: Counters, options: Options) -> None:
    console = Console(stderr=True, highlight=False)
    if options.as_json or not console.is_terminal or console.is_dumb_terminal:
        await _tell(counters, sys.stdout if options.as_json else sys.stderr, as_json=options.as_json)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        accepted, rate = 0, 0.0
        while True:
            # Smooth enough to be read.
            rate += 0.2 * ((counters.accepted - accepted) / _REFRESH_S - rate)
            accepted = counters.accepted
            live.update(Text(f"{line(counters)}, {rate:.0f}/s", no_wrap=True, overflow="ellipsis"), refresh=True)
            await asyncio.sleep(_REFRESH_S)


async def _tell(counters: Counters, out: TextIO, *, as_json: bool) -> None:
    told = ""
    while True:
        await asyncio.sleep(_LINE_EVERY_S)
        now = dumps(counters.as_json()) if as_json else line(counters)
        if now != told:
            told = now
            out.write(f"{now}\n")
            out.flush()


def line(counters: Counters) -> str:
    """The counters in short."""
    refused = f"refused {counters.refused.total()}{_parts(counters.refused)}"
    faults = f", faults {counters.faults.total()}" if counters.faults else ""
    return f"accepted {counters.accepted}, {refused}{faults}, in flight {counters.in_flight}, peak {counters.peak}"


def summary(counters: Counters, seconds: float) -> str:
    """The counters as a table."""
    rows = [
        ("received", f"{counters.received} in {seconds:.0f} s"),
        ("accepted", f"{counters.accepted}"),
        ("refused", f"{counters.refused.total()}{_parts(counters.refused)}"),
        ("faults", f"{counters.faults.total()}{_parts(counters.faults)}"),
        ("duplicates", f"{counters.duplicates}"),
        ("peak in flight", f"{counters.peak}"),
        ("left early", f"{counters.closed_early}"),
        (
            "tokens",
            f"{counters.prompt_tokens} in ({counters.cached_tokens} cached) + {counters.completion_tokens} out",
        ),
    ]
    return "\n".join(f"{name:<16}{value}" for name, value in rows)


def _parts(counted: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {number}' for name, number in counted.items())})" if counted else ""


def _print_json(found: Mapping[str, object]) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{dumps(found)}\n")
        sys.stdout.flush()

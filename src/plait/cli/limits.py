"""`plait limits`: what has been learnt of endpoints, what is in flight there now, and what today has used."""

from __future__ import annotations

import queue
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from plait.cli.apps import open_app
from plait.cli.values import clean
from plait.errors import InputError
from plait.flow.budget_places import budget_ledger, budget_place, read_budget, told
from plait.flow.clock import SystemClock
from plait.flow.forgetting import forget
from plait.flow.known_limits import Known, Rate, known_limits
from plait.json_values import dumps
from plait.settings import Settings

_EVERY_S = 1.0
_REASONS = {"concurrency": "calls at once", "day": "the day's quota", "unknown": "no reason told"}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    part: str = ""
    """A part of the names to show or to forget."""
    watch: bool = False
    forget: bool = False
    forget_today: bool = False
    as_json: bool = False
    app: Path | None = None


def show_limits(options: Options) -> int:
    """Print what is known, once or until a signal comes, or forget it; returns the exit code."""
    forgets = options.forget or options.forget_today
    if options.watch and forgets:
        raise InputError("--watch only looks: expected it without --forget and --forget-today")
    _, settings = open_app(options.app)
    if options.watch:
        return _watch(settings, options, sys.stdout)
    found = _find(settings, options.part)
    if options.part and not found:
        raise InputError(_no_match(options.part, _find(settings, "")))
    if forgets:
        _forget(settings, found, options)
    elif options.as_json:
        sys.stdout.write(f"{dumps(found, indent=2)}\n")
    elif found:
        Console(file=sys.stdout, highlight=False).print(_page(found))
    else:
        sys.stdout.write(f"{_nothing(settings)}\n")
    return 0


def _find(settings: Settings, part: str) -> list[Known]:
    entries, now, wall = read_budget(settings)
    found = known_limits(entries, settings, now, wall)
    return [known for known in found if part.lower() in f"{known.endpoint} {known.account} {known.model}".lower()]


def _nothing(settings: Settings) -> str:
    if not settings.share:
        return 'nothing is kept: PLAIT_SHARE=0 (or "share": false) leaves what is learnt to each process'
    return f"nothing has been learnt yet: the first model call begins to ({budget_place(settings)})"


def _no_match(part: str, known: Sequence[Known]) -> str:
    names = "".join(f"\n{each.endpoint} {each.model}" for each in known)
    return f"expected a part of a known name, found {part!r}; known:{names or ' nothing yet'}"


def _forget(settings: Settings, found: Sequence[Known], options: Options) -> None:
    opened = budget_ledger(settings)
    if opened is not None and found:
        ledger = opened(SystemClock())
        zones = {each.name: each.timezone for each in found}
        with told(ledger):
            forget(ledger, zones, learnt=options.forget, today=options.forget_today)
    if options.as_json:
        sys.stdout.write(f"{dumps([each.name for each in found], indent=2)}\n")
        return
    what = " and ".join(["what was learnt"] * options.forget + ["what was used today"] * options.forget_today)
    for each in found:
        sys.stdout.write(f"forgot {what} of {each.endpoint} {each.title}\n")
    if not found:
        sys.stdout.write("nothing to forget\n")


# --- watching ------------------------------------------------------------------------------------------


def _watch(settings: Settings, options: Options, out: TextIO) -> int:
    # Unlike an event, its put may interrupt its own get.
    stops: queue.SimpleQueue[int] = queue.SimpleQueue()
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda number, _: stops.put(number))
    console = Console(file=out, highlight=False)
    if options.as_json or not console.is_terminal or console.is_dumb_terminal:
        return _print_changes(lambda: _find(settings, options.part), stops, out, as_json=options.as_json)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = _find(settings, options.part)
            page = _page(found) if found else Text(_nothing(settings))
            # The cursor stands on an empty line, where the terminal's own ^C disturbs nothing.
            live.update(Group(page, Text()), refresh=True)
            if number := _pause(stops):
                return 128 + number


def _print_changes(
    look: Callable[[], list[Known]], stops: queue.SimpleQueue[int], out: TextIO, *, as_json: bool
) -> int:
    """A line for each endpoint and model whenever something changed there."""
    shown: dict[str, str] = {}
    while True:
        for each in look():
            line = dumps(each) if as_json else _line(each)
            if shown.get(each.name) != line:
                shown[each.name] = line
                out.write(line if as_json else f"{time.strftime('%H:%M:%S')} {line}")
                out.write("\n")
        out.flush()
        if number := _pause(stops):
            return 128 + number


def _pause(stops: queue.SimpleQueue[int]) -> int | None:
    try:
        return stops.get(timeout=_EVERY_S)
    except queue.Empty:
        return None


# --- for people ----------------------------------------------------------------------------------------


def _page(found: Sequence[Known]) -> Group:
    parts: list[Text | Padding] = []
    for endpoint, models in groupby(found, key=lambda each: each.endpoint):
        if parts:
            parts.append(Text())
        parts.append(Text(clean(endpoint), style="bold cyan", overflow="fold"))
        for known in models:
            parts.append(Padding(Text(clean(known.title), style="bold", overflow="fold"), (0, 0, 0, 2), expand=False))
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(no_wrap=True, style="dim")
            table.add_column(overflow="fold")
            for label, value in {**facts(known), "last used": _ago(time.time() - known.last_used.timestamp())}.items():
                table.add_row(label, value)
            parts.append(Padding(table, (0, 0, 0, 4), expand=False))
    return Group(*parts)


def _line(known: Known) -> str:
    said = "; ".join(f"{label} {value}" for label, value in facts(known).items())
    return clean(f"{known.endpoint} {known.title}: {said}")


def facts(known: Known) -> Mapping[str, str]:
    """What is said of an endpoint or model, by label."""
    rates = {"requests/min": known.requests, "tokens/min": known.tokens}
    if all(rate.per_minute is None and rate.set_per_minute is None for rate in rates.values()):
        found = {"limits": "none found yet"} if known.learns else {}
    else:
        found = {label: said for label, rate in rates.items() if (said := _rate(rate, learns=known.learns))}
    found["in flight"] = _in_flight(known)
    if known.paused_until is not None:
        left_s = known.paused_until.timestamp() - time.time()
        found["paused"] = f"until {_clock(known.paused_until.timestamp())}, {_duration(left_s)}"
    today = known.today
    used = [
        _used(today.requests, today.most_requests, "request"),
        _used(today.tokens, today.most_tokens, "token"),
    ]
    found["today"] = ", ".join([*used, *["the endpoint says that is all"] * today.used_up])
    answers = [f"{known.accepted:,} accepted"] if known.accepted else []
    if known.refused:
        kinds = ", ".join(f"{_REASONS.get(kind, kind)} {number:,}" for kind, number in known.refused.items())
        answers.append(f"{sum(known.refused.values()):,} refused ({kinds})")
    if answers:
        found["answers"] = ", ".join(answers)
    return found


def _rate(rate: Rate, *, learns: bool) -> str:
    said = [] if rate.set_per_minute is None else [f"at most {_number(rate.set_per_minute)} as set"]
    if rate.per_minute is None:
        return ", ".join(["not found yet"] * learns + said)
    number = _number(rate.per_minute)
    if rate.source == "headers":
        said.insert(0, f"{number}, told by headers")
    elif rate.certainty == "guess":
        said.insert(0, f"about {number}, a guess after refusals")
    else:
        said.insert(0, f"{number}, learnt from refusals")
    if rate.at_once is not None:
        said.append(f"{_number(rate.at_once)} at once after a rest")
    if rate.trying_per_minute is not None:
        said.append(f"trying {_number(rate.trying_per_minute)}")
    return "; ".join(said)


def _in_flight(known: Known) -> str:
    bound = known.concurrency
    sources = {"set": "as set", "refusals": "learnt from refusals", "latency": "learnt from latency"}
    if bound.limit is None or bound.source is None:
        said = f"{known.in_flight:,}"
    else:
        said = f"{known.in_flight:,} of {bound.limit:,} {sources[bound.source]}"
    if known.waiting:
        said += f"; {known.waiting:,} waiting"
    if known.processes > 1:
        said += f"; {known.processes} processes"
    return said


def _used(number: int, most: int | None, noun: str) -> str:
    if most is None:
        return f"{number:,} {noun}{'' if number == 1 else 's'}"
    return f"{number:,} of {most:,} {noun}s"


def _number(number: float) -> str:
    return f"{number:,.1f}".removesuffix(".0") if number < 10 else f"{number:,.0f}"


def _clock(wall: float) -> str:
    return time.strftime("%H:%M:%S" if wall - time.time() < 43_200 else "%d %b %H:%M", time.localtime(wall))


def _ago(seconds: float) -> str:
    return "now" if seconds < 3 else f"{_duration(seconds)} ago"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"

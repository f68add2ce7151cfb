"""`plait plan`: runs a probe of a batch and says what the rest will cost, when it will be done, and what to change."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from plait.app import App
from plait.batches import BatchOptions, NewBatch
from plait.batches.plans import Planned, plan
from plait.cli import arguments, exits
from plait.cli.batch import check_home, check_model_named, open_for_rows, selection_of
from plait.cli.batch_words import error_lines
from plait.cli.durations import money, rows, spell
from plait.cli.options import Limits, RowFlags, span
from plait.cli.signals import Stop, leave_soon
from plait.forecasts import Forecast, Interval
from plait.json_values import dumps
from plait.process import own_process, run_loop
from plait.settings import Settings

_FREE = "nothing"
_SURE = 0.02
"""Intervals that are no wider than this are one number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says, as it says it."""

    workflow: str
    data: str
    rows: RowFlags
    limits: Limits
    probe: int = 20
    model: str | None = None
    context: Sequence[str] = ()
    app: Path | None = None
    timeout: str | None = None
    as_json: bool = False


def make_plan(options: Options) -> int:
    """Run the probe and print the plan; returns the exit code, 1 where every row of the probe failed."""
    app, settings = open_for_rows(options.app, options.model, options.limits)
    context = arguments.parse(options.context)
    timeout_s = span(options.timeout, "--timeout") if options.timeout is not None else None
    new = NewBatch(
        workflow=options.workflow,
        rows=options.data,
        selection=selection_of(options.rows),
        options=BatchOptions(timeout_s=timeout_s),
        context=context or None,
        app=app,
        settings=settings,
        probe=options.probe,
    )
    check_home(settings)
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what nodes print must not mix with the plan
        found = run_loop(_run(app, options, settings, new))
    if isinstance(found, int):
        return found
    if options.as_json:
        out.write(f"{dumps(found.to_json(), indent=2)}\n")
    else:
        print_plan(found, f"{options.workflow} over {options.data}", Console(file=out, highlight=False))
    code = exits.FAILED if found.probe.failed == found.probe.rows else 0
    leave_soon(code)  # threads of rows that timed out in synchronous nodes may linger
    return code


async def _run(app: App, options: Options, settings: Settings, new: NewBatch) -> Planned | int:
    probed = ("", 0)

    def last_words() -> str:
        batch_id, done = probed
        if not batch_id:
            return "stopped; nothing was run"
        return f"stopped; {rows(done)} of the probe kept: plait resume {batch_id} runs all the others"

    stop = Stop(last_words)
    try:
        await check_model_named(app, options.workflow, settings, arguments.parse(options.context))
        with own_process(settings), _shown(options) as show:

            def note(batch_id: str, done: int) -> None:
                nonlocal probed
                probed = batch_id, done
                show(done)

            return await plan(new, note=note)
    except asyncio.CancelledError:
        if stop.code is None:
            raise
        stop.say()
        return stop.code


@contextlib.contextmanager
def _shown(options: Options) -> Iterator[Callable[[int], None]]:
    """Shows on a terminal how far the probe is."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal or options.as_json:
        yield lambda done: None
        return

    def words(done: int) -> str:
        return f"probe: {done:,} of {rows(options.probe)}"

    with console.status(words(0)) as status:
        yield lambda done: status.update(words(done))


# --- the plan for people -------------------------------------------------------------------------------


def print_plan(planned: Planned, title: str, console: Console) -> None:
    """What it will cost, when it will be done, what binds, what to change, how to go on."""
    probe, foreseen = planned.probe, planned.forecast

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    say(f"{title}: {rows(planned.total)}", "bold")
    say(_probe_words(planned))
    for line in error_lines(probe.errors, probe.last_errors):
        say(f"  {line}", "red")
    if not foreseen.rows:
        say(f"That was the whole batch: plait export {planned.batch_id} FILE")
        return
    say(f"\nThe other {rows(foreseen.rows)} will take, if they begin now:")
    console.print(Padding(_table(foreseen, time.time()), (0, 0, 0, 2), expand=False))
    if planned.unpriced:
        say(_unpriced_words(planned.unpriced))
    where = f" of {foreseen.binding_part}" if foreseen.binding_part else ""
    say(f"\nWhat binds: {foreseen.binding}{where}")
    for advice in foreseen.advice:
        console.print(Padding(Text(f"- {advice}"), (0, 0, 0, 2)))
    say("\nThe probe's answers are kept; nothing is paid for twice. Run the others:")
    say(f"  plait resume {planned.batch_id}", "bold")


def _probe_words(planned: Planned) -> str:
    probe = planned.probe
    tokens = f"{probe.input_tokens + probe.output_tokens:,} tokens"
    if probe.cached_tokens:
        tokens += f" ({probe.cached_tokens:,} from the provider's cache)"
    calls = f"{probe.calls:,} call{'' if probe.calls == 1 else 's'}"
    parts = [f"{calls}, {tokens}"] if probe.calls else ["no model calls"]
    if probe.cost_usd:
        parts.append(money(probe.cost_usd))
    failed = f", {probe.failed:,} failed" if probe.failed else ""
    return f"Probe: {rows(probe.rows)} drawn at random{failed}; {'; '.join(parts)}; {spell(probe.duration_s)}"


def _table(foreseen: Forecast, now: float) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    table.add_column("likely", justify="right", no_wrap=True)
    table.add_column("9 of 10 times", no_wrap=True)
    cost = foreseen.cost_usd
    if cost is not None:
        table.add_row("cost", *(_spread(cost, money) if cost.high else (_FREE, "")))
    table.add_row("time", *_spread(foreseen.duration_s, spell))
    table.add_row("done at", *_spread(foreseen.duration_s, lambda seconds: _clock(now, seconds)))
    table.add_row("tokens", *_spread(foreseen.tokens, _count))
    table.add_row("calls", *_spread(foreseen.calls, _count))
    table.add_row("failed rows", *_spread(foreseen.failures, _count))
    return table


def _spread(interval: Interval, show: Callable[[float], str]) -> tuple[str, str]:
    """The likely value, and the interval where it says more."""
    low, likely, high = show(interval.low), show(interval.likely), show(interval.high)
    if low == high or interval.high - interval.low <= _SURE * interval.high:
        return likely, ""
    return likely, f"{low} to {high}"


def _count(number: float) -> str:
    """Three digits are all that a forecast knows."""
    whole = round(number)
    digits = len(str(whole)) - 3
    return f"{round(whole, -digits) if digits > 0 else whole:,}"


def _clock(now: float, seconds: float) -> str:
    begun, at = datetime.fromtimestamp(now).astimezone(), datetime.fromtimestamp(now + seconds).astimezone()
    if at.date() == begun.date():
        return f"{at:%H:%M}"
    return f"{at:%a %H:%M}" if (at.date() - begun.date()).days < 7 else f"{at:%b %d, %H:%M}"


def _unpriced_words(models: Sequence[str]) -> str:
    entry = f'"plait": {{"prices": {{"{models[0]}": {{"input": 0.5, "output": 1.5}}}}}}'
    return (
        f"\nNo price is known for {', '.join(models)}, so this says tokens, not dollars. Prices go into "
        f"langgraph.json, in dollars per 1,000,000 tokens: {entry}"
    )

"""`plait run --timings`: where the time of a run's model calls went, node by node, for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TextIO

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from plait.cli.values import clean
from plait.events import Result
from plait.flow.timings import WAITS, Timing, total

_WAITING_FOR = {
    "concurrency": "a free slot",
    "rpm": "requests per minute",
    "tpm": "tokens per minute",
    "quota": "the day's quota",
    "retry": "another attempt",
}
_COLUMNS = {"concurrency": "free slot", "rpm": "rpm", "tpm": "tpm", "quota": "quota", "retry": "retry"}
_PARTS: dict[str, Callable[[Timing], float]] = {
    "connect": lambda timing: timing.connect_s,
    "first token": lambda timing: timing.first_token_s,
    "generation": lambda timing: timing.generation_s,
}
_DOING = {
    "connect": "opening connections",
    "first token": "waiting for the first token",
    "generation": "generating the rest of the answers",
}


def print_timings(result: Result, out: TextIO) -> None:
    """Say where most of the time went, then a row for each node; nodes below each other where there is no room."""
    console = Console(file=out, highlight=False, markup=False)
    whole = total(result.timings)
    console.print(Text(_summary(whole, result.duration_s)))
    if not whole.calls:
        return
    rows = [(clean(node) or "(no node)", timing) for node, timing in result.timings.items()]
    if len(rows) > 1:
        rows.append(("all", whole))
    table = _table(rows, whole)
    fits = console.measure(table, options=console.options.update(max_width=10_000)).maximum <= console.width
    console.print(table if fits else _blocks(rows, whole))


def _summary(whole: Timing, duration_s: float) -> str:
    if not whole.calls:
        return "no model call ended, so there are no timings"
    spent = {f"waiting for {_WAITING_FOR.get(cause, cause)}": seconds for cause, seconds in whole.waits.items()}
    spent |= {_DOING[name]: seconds(whole) for name, seconds in _PARTS.items()}
    most = max(spent, key=lambda what: spent[what])
    said = f"most of the time: {most} ({_rounded(spent[most], whole)} s of {_rounded(whole.total_s, whole)} s call time"
    return f"{said}; the run took {_rounded(duration_s, whole)} s)"


def _rounded(seconds: float, whole: Timing) -> str:
    return f"{seconds:.{1 if whole.total_s >= 10 else 2}f}"


def _seconds(timing: Timing, whole: Timing) -> dict[str, float]:
    """By column; causes that came to nothing in the whole run have none."""
    order = [*WAITS, *(cause for cause in whole.waits if cause not in WAITS)]
    causes = [cause for cause in order if float(_rounded(whole.waits.get(cause, 0.0), whole))]
    waits = {_COLUMNS.get(cause, cause): timing.waits.get(cause, 0.0) for cause in causes}
    return {**waits, **{name: seconds(timing) for name, seconds in _PARTS.items()}, "total": timing.total_s}


def _table(rows: Sequence[tuple[str, Timing]], whole: Timing) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("seconds in", overflow="fold")
    for label in ("calls", *_seconds(whole, whole)):
        table.add_column(label.replace(" ", "\n"), justify="right", vertical="bottom", no_wrap=True)
    for name, timing in rows:
        cells = [_rounded(seconds, whole) for seconds in _seconds(timing, whole).values()]
        table.add_row(name, f"{timing.calls}", *cells, style="bold" if timing is whole else None)
    return table


def _blocks(rows: Sequence[tuple[str, Timing]], whole: Timing) -> Group:
    parts: list[Text | Padding] = []
    for name, timing in rows:
        heading = Text(name, style="bold", overflow="fold")
        parts.append(
            heading.append(
                f"  {timing.calls} call{'' if timing.calls == 1 else 's'}, {_rounded(timing.total_s, whole)} s",
                style="not bold",
            )
        )
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim")
        grid.add_column(justify="right")
        for label, seconds in _seconds(timing, whole).items():
            if label != "total" and float(said := _rounded(seconds, whole)):
                grid.add_row(label, f"{said} s")
        parts.append(Padding(grid, (0, 0, 0, 2), expand=False))
    return Group(*parts)

"""The pictures of docs/performance.md: which bars of which result."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from benchmarks.page_pictures import Bar, Target, bars
from benchmarks.records import Result

Results = Mapping[str, Result]

_RACE = re.compile(r"^(\S.*?)\s+(\d+/\d+)\s+([\d.]+)s\s+([\d.]+x|-)\s+(\d+)\s")
_KILLED = re.compile(r"^(\S.*?)\s+(\d+/\d+)\s+\d+\s+\d+\s+\d+\s+\d+\s+(-?\d+) \((-?\d+)%\)")
_OURS = "plait"


def cpu(result: Result) -> str:
    """CPU of a row."""
    sdk = result.figure("AsyncOpenAI, default client", "ms").median
    found = _figures(result, "ms", skip=("journal and store",))
    return bars("CPU of a row of one call, ms", found, [Target(1.25 * sdk, "1.25x of AsyncOpenAI")])


def throughput(result: Result) -> str:
    """Shares of the ideal."""
    found = []
    for name in result.subjects("share of the ideal"):
        each = result.figure(name, "share of the ideal")
        text, ours = f"{each.median:.0%}", name.startswith(_OURS)
        if ours:
            text += f", steady {result.figure(name, 'steady').median:.0%}"
        found.append(Bar(name, each.median * 100, text, each.low * 100, each.high * 100, ours))
    targets = [Target(70, "70 %"), Target(95, "95 %")]
    return bars("500 ms, 500 in flight: share of the ideal 1,000 rows/s, %", found, targets)


def tokens(result: Result) -> str:
    """CPU of a token."""
    raw = result.figure("AsyncOpenAI stream").median
    found = _figures(result, "us", digits=0)
    return bars("CPU of a streamed token, us", found, [Target(raw * 130 / 83, "130/83 of the bare SDK")])


def limits(result: Result) -> str:
    """Refusals under a limit that nobody configured."""
    found = []
    for line in result.lines:
        if match := _RACE.match(line):
            name, rows, _, ratio, refusals = match.groups()
            time = "" if ratio == "-" else f", {ratio} of the ideal time"
            found.append(Bar(name, int(refusals), f"{refusals}; {rows} rows{time}", ours=name.startswith(_OURS)))
    return bars("600 rpm that nobody configured: refusals for 300 rows", found)


def killed(result: Result) -> str:
    """Calls paid again after a kill."""
    found = []
    for line in result.lines:
        if match := _KILLED.match(line):
            name, rows, again, share = match.groups()
            found.append(Bar(name, int(again), f"{again} ({share} %), {rows} rows", ours=name.startswith(_OURS)))
    return bars("kill -9 when half of 600 calls are paid: calls paid again", found)


def experiments(result: Result) -> str:
    """CPU of an example."""
    return bars("CPU of an example with one evaluator, ms", _figures(result, "ms"))


def capacity(result: Result) -> str:
    """Rows a second that machines carry."""
    found = []
    for each in result.notes:
        if each.measure.startswith("rows/s"):
            value, bound = each.figure.median, each.measure.partition(": ")[2]
            found.append(Bar(each.subject, value, f"{value:,.0f}, bound by {bound}", ours=True))
    return bars("Rows a second by the simulation", found)


PLOTS: dict[str, tuple[str, Callable[[Result], str]]] = {
    "cpu": ("costs", cpu),
    "throughput": ("throughput", throughput),
    "tokens": ("tokens", tokens),
    "limits": ("limits.peers", limits),
    "killed": ("batch.peers", killed),
    "experiments": ("eval.cost", experiments),
    "capacity": ("capacity", capacity),
}


def draw(results: Results) -> dict[str, str]:
    """SVG documents by file name, of the results that there are."""
    return {f"performance-{name}.svg": plot(results[of]) for name, (of, plot) in PLOTS.items() if of in results}


def _figures(result: Result, measure: str, *, skip: tuple[str, ...] = (), digits: int = 2) -> list[Bar]:
    found = []
    for name in result.subjects(measure):
        if name not in skip:
            each = result.figure(name, measure)
            text = f"{each.median:.{digits}f}"
            found.append(Bar(name, each.median, text, each.low, each.high, name.startswith(_OURS)))
    return found

"""Rounds in which every subject takes its turn, and what is made of them: medians, spread, ratios."""

from __future__ import annotations

import gc
import os
import platform
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("plait", "langgraph", "langchain-openai", "openai", "httpx2", "httptools", "uvloop")


@dataclass(frozen=True, slots=True)
class Figure:
    """The middle of several measurements, and the range that half of them lie in; of fewer than five: all of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        if len(values) < 5:
            return cls(statistics.median(values), min(values), max(values))
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def text(self, unit: str = "", *, scale: float = 1.0, digits: int = 2) -> str:
        low, median, high = (f"{value * scale:.{digits}f}" for value in (self.low, self.median, self.high))
        return f"{median}{unit} ({low} to {high})"


@dataclass(frozen=True, slots=True)
class Note:
    """A figure of a table, for whoever keeps the result beside what is printed."""

    subject: str
    measure: str
    """What was measured, with its unit: "CPU, ms"."""
    values: tuple[float, ...]
    """One a round."""

    @property
    def figure(self) -> Figure:
        return Figure.of(self.values)


_NOTES: ContextVar[list[Note] | None] = ContextVar("notes", default=None)


@contextmanager
def noting() -> Generator[list[Note]]:
    """Collect what is noted meanwhile."""
    notes: list[Note] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def note(subject: str, measure: str, values: Sequence[float]) -> None:
    """Note a figure, a value a round; nothing happens where nobody collects. A figure noted twice is kept once."""
    notes = _NOTES.get()
    found = Note(subject, measure, tuple(values))
    if notes is not None and found not in notes:
        notes.append(found)


def interleave(subjects: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    """Measure every subject once a round (A B A B), so that a busy machine slows all of them alike.

    The first of a round rotates: nobody always comes after the same neighbour.
    A subject returns its measurement.
    """
    names = list(subjects)
    found: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            gc.collect()
            found[name].append(subjects[name]())
    return found


def ratios(subject: Sequence[float], peer: Sequence[float]) -> Figure:
    """Subject divided by peer, round by round."""
    return Figure.of([mine / theirs for mine, theirs in zip(subject, peer, strict=True)])


def print_ratios(found: Mapping[str, Sequence[float]], peer: str, *, unit: str, scale: float) -> None:
    """A line per subject: its figure and its ratio to the peer; in brackets the middle half of the rounds."""
    width = max(map(len, found))
    for name, values in found.items():
        note(name, unit, [value * scale for value in values])
        ratio = "the peer" if name == peer else ratios(values, found[peer]).text("x")
        print(f"{name:<{width}}  {Figure.of(values).text(f' {unit}', scale=scale):<32}  {ratio}")


def describe_machine() -> str:
    """Cores, load, Python and the versions of what is measured."""
    versions = ", ".join(f"{package} {found}" for package, found in versions_here().items())
    return f"{describe_hardware()}, load {os.getloadavg()[0]:.1f}\n{versions}"


def describe_hardware() -> str:
    """System, processor, cores and Python."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{_processor()}, "
        f"Python {platform.python_version()}"
    )


def versions_here() -> dict[str, str]:
    """Of the packages that are measured; "-" for one that is not installed."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "-"
    return versions


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f" ({names[0]})" if names else ""

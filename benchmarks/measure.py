"""Rounds in which every subject takes its turn, and what is made of them: medians, spread, ratios."""

from __future__ import annotations

import gc
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("plait", "langgraph", "langchain-openai", "openai", "httpx2", "aiohttp", "uvloop")


@dataclass(frozen=True, slots=True)
class Figure:
    """The middle of several measurements, and the range that half of them lie in."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def text(self, unit: str = "", *, scale: float = 1.0, digits: int = 2) -> str:
        low, median, high = (f"{value * scale:.{digits}f}" for value in (self.low, self.median, self.high))
        return f"{median}{unit} ({low} to {high})"


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
        ratio = "the peer" if name == peer else ratios(values, found[peer]).text("x")
        print(f"{name:<{width}}  {Figure.of(values).text(f' {unit}', scale=scale):<32}  {ratio}")


def describe_machine() -> str:
    """Cores, load, Python and the versions of what is measured."""
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} -")
    cores = os.cpu_count()
    load = f"load {os.getloadavg()[0]:.1f}"
    system = f"{platform.system()} {platform.machine()}, {cores} cores, {load}, Python {platform.python_version()}"
    return f"{system}\n{', '.join(versions)}"

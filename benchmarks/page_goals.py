"""The goals that plait's speed is held to, and where it stands: benchmarks/goals.toml against the kept results."""

from __future__ import annotations

import re
import statistics
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records import Result

GOALS = Path(__file__).parent / "goals.toml"
Results = Mapping[str, Result]


class Unreadable(Exception):
    """A result does not say what a goal asks for; says which line was expected."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound of something measured; goals.toml says what the fields mean."""

    part: str
    """Of plait, or who set it."""
    words: str
    result: str
    most: float | None = None
    least: float | None = None
    unit: str = ""
    digits: int = 2
    ratio: tuple[str, str] | None = None
    noted: str = ""
    line: str = ""
    measure: str = ""
    scale: float = 1.0
    pick: str = ""

    @property
    def target(self) -> str:
        return f"<= {self.most:g}{self.unit}" if self.most is not None else f">= {self.least:g}{self.unit}"

    def met(self, value: float) -> bool:
        """As it is shown: what is rounded to the bound meets it."""
        shown = round(value, self.digits)
        return (self.most is None or shown <= self.most) and (self.least is None or shown >= self.least)

    def value(self, result: Result) -> float:
        """What the result says. Raises Unreadable."""
        try:
            if self.ratio:
                mine, theirs = (result.values(name, self.measure) for name in self.ratio)
                return statistics.median(one / other for one, other in zip(mine, theirs, strict=True))
            if self.noted:
                return result.figure(self.noted, self.measure).median * self.scale
        except KeyError as error:
            raise Unreadable(str(error)) from error
        found = [float(match[1].replace(",", "")) for each in result.lines for match in re.finditer(self.line, each)]
        if not found:
            raise Unreadable(f"{result.name}: expected a line like {self.line!r}; measure it again or mend goals.toml")
        return {"": found[0], "min": min(found), "max": max(found)}[self.pick]


def read_goals(file: Path = GOALS) -> list[Goal]:
    """All of them, in their order."""
    found = []
    for said in tomllib.loads(file.read_text(encoding="utf-8"))["goal"]:
        if "ratio" in said:
            said["ratio"] = tuple(said["ratio"])
        found.append(Goal(**said))
    return found


def goals_table(goals: Sequence[Goal], results: Results) -> str:
    """Counts, and a Markdown table: target, measured, met or missed. Raises Unreadable."""
    known = [(goal, goal.value(results[goal.result])) for goal in goals if goal.result in results]
    met = sum(goal.met(value) for goal, value in known)
    unknown = len(goals) - len(known)
    said = f"{met} of {len(known)} met, {len(known) - met} missed" + (f", {unknown} not measured." if unknown else ".")
    rows = [f"| {goal.part} | {goal.words} | {goal.target} | {_verdict(goal, results)} |" for goal in goals]
    return "\n".join([said, "", "| of | goal | target | measured | | table |", "|---|---|---|---|---|---|", *rows])


def _verdict(goal: Goal, results: Results) -> str:
    if goal.result not in results:
        return f"- | not measured | `{goal.result}`"
    value = goal.value(results[goal.result])
    return f"{value:.{goal.digits}f}{goal.unit} | {'met' if goal.met(value) else '**missed**'} | `{goal.result}`"

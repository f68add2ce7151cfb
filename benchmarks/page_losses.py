"""Where others are ahead of plait, read from the kept results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.page_goals import Goal, read_goals
from benchmarks.records import Result


@dataclass(frozen=True, slots=True)
class Contest:
    """A figure that plait and its peers have in common."""

    words: str
    result: str
    ours: str
    measure: str
    unit: str
    scale: float = 1.0
    most_wins: bool = False


CONTESTS = (
    Contest("CPU of a row", "costs", "plait.batch, limiter, journal, store", "ms", " ms"),
    Contest("Rows a second of the ideal", "throughput", "plait.batch", "share of the ideal", " %", 100, True),
    Contest("CPU of a streamed token", "tokens", "plait.runs.stream of the graph", "us", " us"),
    Contest("CPU of an example", "eval.cost", "plait.evaluate", "ms", " ms"),
)


def losses(results: Mapping[str, Result]) -> str:
    """A list: the peers that need less, then the goals that are missed. Raises Unreadable."""
    lines = [
        f"- {contest.words} (`{contest.result}`): {ahead}"
        for contest in CONTESTS
        if contest.result in results and (ahead := _ahead(contest, results[contest.result]))
    ]
    missed = [line for goal in read_goals() if (line := _missed(goal, results))]
    return "\n".join([*lines, *missed]) or "Nowhere, in these tables."


def _ahead(contest: Contest, result: Result) -> str:
    def shown(value: float) -> str:
        return f"{value * contest.scale:.{0 if contest.scale > 1 else 2}f}{contest.unit}"

    mine = result.figure(contest.ours, contest.measure).median
    found = []
    for name in result.subjects(contest.measure):
        if name.startswith("plait") or name == "journal and store":
            continue
        theirs = result.figure(name, contest.measure).median
        if theirs > mine if contest.most_wins else theirs < mine:
            found.append(f"{name} {shown(theirs)}")
    return f"{', '.join(found)}; {contest.ours} {shown(mine)}." if found else ""


def _missed(goal: Goal, results: Mapping[str, Result]) -> str:
    if goal.result not in results or goal.met(value := goal.value(results[goal.result])):
        return ""
    shown = f"{value:.{goal.digits}f}{goal.unit}"
    return f"- Missed, of {goal.part}: {goal.words}: {shown}, where {goal.target} was wanted (`{goal.result}`)."

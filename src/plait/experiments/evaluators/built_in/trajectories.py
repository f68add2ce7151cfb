"""The built-in evaluator of agents: did it call the tools it should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from plait.errors import InputError
from plait.experiments.evaluators.forms import Evaluator
from plait.experiments.evaluators.scores import MissingValue
from plait.experiments.records import ExampleRun, Score
from plait.json_values import Json, to_json

__all__ = ["trajectory"]

Mode = Literal["strict", "unordered", "subset", "superset"]
Arguments = Literal["exact", "ignore"]

Step = tuple[str, Json]
"""A tool's name and its arguments; None: any."""


def trajectory(*, mode: Mode = "strict", args: Arguments = "exact", reference: str = "trajectory") -> Evaluator:
    """Passed where the run called the tools of `reference_outputs["trajectory"]`, a list of names or `{name, args}`.

    strict: these, in this order; unordered: these, in any order; subset: none but these; superset: at least these. Each
    entry stands for one call. A mere name, and all with `args="ignore"`, fit any arguments. Raises InputError for
    another mode.
    """
    for name, value, known in (("mode", mode, get_args(Mode)), ("args", args, get_args(Arguments))):
        if value not in known:
            raise InputError(f"trajectory: {name}: expected one of {', '.join(known)}, found {value!r}")

    def call(run: ExampleRun) -> Score:
        wanted = _wanted(run, reference, args)
        called: list[Step] = [(tool.name, to_json(tool.args)) for tool in run.tools]
        unexpected, missing = _rest(called, wanted)
        unexpected, missing = [] if mode == "superset" else unexpected, [] if mode == "subset" else missing
        passed = not unexpected and not missing
        if passed and mode == "strict":
            passed = all(map(_fits, called, wanted))
        return Score(score=passed, comment=None if passed else _comment(called, unexpected, missing))

    return Evaluator(name="trajectory", call=call, way="inline", takes=frozenset({"reference_outputs"}))


def _wanted(run: ExampleRun, key: str, args: str) -> list[Step]:
    entries = (run.example.reference_outputs or {}).get(key)
    if not isinstance(entries, list):
        found = "none" if entries is None else type(entries).__name__
        raise MissingValue(f"expected a list of tools in reference_outputs[{key!r}], found {found}")
    steps: list[Step] = []
    for entry in entries:
        if isinstance(entry, Mapping) and isinstance(name := entry.get("name"), str):
            steps.append((name, None if args == "ignore" else to_json(entry.get("args"))))
        elif isinstance(entry, str):
            steps.append((entry, None))
        else:
            raise MissingValue(
                f"expected a tool's name or {{name, args}} in reference_outputs[{key!r}], found {entry!r}"
            )
    return steps


def _fits(call: Step, wanted: Step) -> bool:
    return call[0] == wanted[0] and (wanted[1] is None or call[1] == wanted[1])


def _rest(called: list[Step], wanted: list[Step]) -> tuple[list[Step], list[Step]]:
    """The calls and the entries that are left when as many as possible are paired."""
    calls, missing = list(called), []
    # Entries with arguments choose first: calls that fit them are all alike, and a mere name takes any other.
    for entry in sorted(wanted, key=lambda step: step[1] is None):
        match = next((place for place, call in enumerate(calls) if _fits(call, entry)), None)
        if match is None:
            missing.append(entry)
        else:
            del calls[match]
    return calls, missing


def _comment(called: list[Step], unexpected: list[Step], missing: list[Step]) -> str:
    faults = [("missing", missing), ("not asked for", unexpected)]
    said = [f"{what}: {', '.join(name for name, _ in steps)}" for what, steps in faults if steps]
    return "; ".join(said or [f"in another order: {', '.join(name for name, _ in called)}"])[:500]

"""Parts of what a search finds, by paths such as `values.messages[-1].content`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from plait.service.problems import problem

_STEP = re.compile(r"\.?(?P<key>[^.\[\]]+)|\[(?P<index>-?\d{1,9})\]")
_LONGEST = 1000

Path = list[str | int]


def parsed(extract: Mapping[str, str]) -> dict[str, Path]:
    """The steps of each path. Raises HTTPException (422) for what is no path."""
    return {name: _steps(path) for name, path in extract.items()}


def extracted(found: Mapping[str, object], paths: Mapping[str, Path]) -> dict[str, object]:
    """What is at each path; None where there is nothing."""
    return {name: _at(found, path) for name, path in paths.items()}


def _steps(path: str) -> Path:
    steps: Path = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            break
        steps.append(match["key"] if match["key"] is not None else int(match["index"]))
        position = match.end()
    if not steps or position < len(path) or path.startswith(".") or len(path) > _LONGEST:
        raise problem(
            422, f"extract: expected a path such as values.messages[-1].content, found {path[:100]!r}: check its dots"
        )
    return steps


def _at(value: object, path: Path) -> object:
    for step in path:
        if isinstance(step, int):
            if not isinstance(value, list) or not -len(value) <= step < len(value):
                return None
            value = value[step]
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
    return value

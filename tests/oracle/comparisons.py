"""Compares what our server answered with what the reference answered, but for the differences that we mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.oracle.observations import Json

MISSING = "<missing>"


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where our answer is meant to differ."""

    scenario: str
    """Its name, or `*` for every scenario."""
    label: str
    """Of the observation, or a pattern of labels with `*`."""
    path: str
    """Where in the observation, such as `status`, `headers.location` or `body.values.*`; a status that is meant
    to differ settles the whole of it."""
    ours: Json
    """What our server answers there; MISSING where it leaves it out."""
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """One place where two answers differ."""

    label: str
    path: str
    expected: Json
    found: Json

    def __str__(self) -> str:
        return f"{self.label}: {self.path}: expected {_short(self.expected)}, found {_short(self.found)}"


def unexplained(
    scenario: str,
    recorded: Sequence[dict[str, Json]],
    seen: Sequence[dict[str, Json]],
    *,
    differences: Sequence[Difference],
) -> list[str]:
    """Lines on what differs without being meant to, and on meant differences that are none any more."""
    meant = [one for one in differences if one.scenario in (scenario, "*")]
    unused = [one for one in meant if one.scenario == scenario]
    lines: list[str] = []
    if [one["label"] for one in recorded] != [one["label"] for one in seen]:
        return [f"expected the labels {[one['label'] for one in recorded]}, found {[one['label'] for one in seen]}"]
    for expected, found in zip(recorded, seen, strict=True):
        settled = False
        for place in sorted(differing(expected, found), key=lambda place: place.path != "status"):
            difference = next((one for one in meant if _explains(one, place)), None)
            if difference is not None:
                unused = [one for one in unused if one is not difference]
                settled = settled or place.path == "status"
            elif not settled:
                lines.append(str(place))
    lines += [f"{one.label}: {one.path}: no longer differs: take it out of DIFFERENCES" for one in unused]
    return lines


def _explains(difference: Difference, place: Found) -> bool:
    return (
        fnmatchcase(place.label, difference.label)
        and fnmatchcase(place.path, difference.path)
        and difference.ours == place.found
    )


def differing(expected: dict[str, Json], found: dict[str, Json]) -> Iterator[Found]:
    """Every place where two observations differ."""
    label = str(expected["label"])
    for key in expected.keys() | found.keys():
        if key not in ("label", "request"):
            for path, one, other in _places(key, expected.get(key, MISSING), found.get(key, MISSING)):
                yield Found(label, path, one, other)


def _places(path: str, expected: Json, found: Json) -> Iterator[tuple[str, Json, Json]]:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            yield from _places(f"{path}.{key}", expected.get(key, MISSING), found.get(key, MISSING))
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for place, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _places(f"{path}.{place}", one, other)
    elif type(expected) is not type(found) or expected != found:
        yield path, expected, found


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 600 else f"{text[:600]}..."

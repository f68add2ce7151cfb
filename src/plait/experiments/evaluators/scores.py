"""Turns what an evaluator returned, of whatever make, into scores, or says why it is none."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import replace

from plait.experiments.records import Score
from plait.json_values import to_json

__all__ = ["BadScore", "MissingValue", "read_scores"]

LONGEST_CATEGORY = 200
"""Characters; a longer text is an answer or a reason, and no report could count it."""

_EXPECTED = "a bool, a finite number, a category (str), a Score, or a list of these"
_REASONS = ("comment", "reasoning", "reason", "explanation")


class BadScore(ValueError):
    """An evaluator returned what is no score."""


class MissingValue(ValueError):
    """A run or its example has not what an evaluator needs."""


def read_scores(value: object, *, name: str, key: str | None = None) -> tuple[Score, ...]:
    """The scores in what the evaluator `name` returned, in order; at least one.

    Takes bools, numbers (numpy's too), categories (str), Score, LangSmith's EvaluationResult(s), the dicts of
    LangSmith, openevals and agentevals (`key`, `score`, `value`, `comment` or `reasoning`, `metadata`; `results`), and
    lists of these. A score without a key gets `name`; `key` goes before the key of a single score. Raises BadScore for
    all else, and for two scores with one key.
    """
    found = [_read(item, name) for item in _items(value, name)]
    if key is not None and len(found) == 1:
        found = [replace(found[0], key=key)]
    seen: set[str] = set()
    for score in found:
        if score.key in seen:
            raise BadScore(f"{name}: expected scores of different keys, found two with the key {score.key!r}")
        seen.add(score.key)
    return tuple(found)


def _items(value: object, name: str) -> list[object]:
    if isinstance(value, Mapping) and "results" in value and "score" not in value:
        value = value["results"]
    elif not isinstance(value, Mapping | list | tuple) and isinstance(getattr(value, "results", None), list):
        value = value.results  # type: ignore[attr-defined]
    if not isinstance(value, list | tuple):
        return [value]
    if not value:
        raise BadScore(f"{name}: expected {_EXPECTED}, found an empty list: return a score for every run, or raise")
    return list(value)


def _read(value: object, name: str) -> Score:
    # numpy's scalars, without importing numpy: only its bool is no number of Python's.
    if getattr(value, "shape", None) == () and hasattr(value, "dtype"):
        value = value.item()  # type: ignore[attr-defined]
    if isinstance(value, bool | numbers.Real):
        return Score(name, _number(value, name))
    if isinstance(value, str):
        return Score(name, value=_category(value, name))
    if isinstance(value, Mapping):
        return _of_parts(value, name)
    if isinstance(value, Score) or (hasattr(value, "key") and hasattr(value, "score")):
        parts = ("key", "score", "value", "comment", "metadata", "node")
        return _of_parts({part: getattr(value, part, None) for part in parts}, name)
    hint = ": did it forget to return?" if value is None else ": is it async, without `async def`?" * _awaitable(value)
    found = "None" if value is None else f"{type(value).__name__} ({_short(value)})"
    raise BadScore(f"{name}: expected {_EXPECTED}, found {found}{hint}")


def _awaitable(value: object) -> bool:
    return hasattr(value, "__await__")


def _of_parts(parts: Mapping[object, object], name: str) -> Score:
    key = parts.get("key")
    if key is not None and not isinstance(key, str):
        raise BadScore(f"{name}: expected a text as a score's key, found {type(key).__name__} ({_short(key)})")
    given, value = parts.get("score"), parts.get("value")
    if given is None and isinstance(value, bool | numbers.Real):
        given, value = value, None
    if given is None and value is None:
        keys = ", ".join(repr(part) for part in parts if parts[part] is not None) or "nothing"
        raise BadScore(f"{name}: expected a score or a value (a category), found neither, only {keys}")
    if getattr(given, "shape", None) == () and hasattr(given, "dtype"):
        given = given.item()  # type: ignore[attr-defined]
    if given is not None and not isinstance(given, bool | numbers.Real):
        raise BadScore(
            f"{name}: expected a bool or a number as score, found {type(given).__name__} ({_short(given)}): "
            "a category goes under 'value'"
        )
    metadata = _metadata(parts.get("metadata"))
    if value is not None and not isinstance(value, str):
        if given is None:
            raise BadScore(f"{name}: expected a text as value, found {type(value).__name__} ({_short(value)})")
        metadata, value = {**metadata, "value": to_json(value)}, None
    node = parts.get("node")
    return Score(
        (key or "").strip() or name,
        None if given is None else _number(given, name),
        # Beside a number the text is a note: it need not be one of few.
        value if value is None or given is not None else _category(value, name),
        next((str(reason) for part in _REASONS if (reason := parts.get(part)) is not None), None),
        metadata,
        node if isinstance(node, str) else None,
    )


def _number(value: object, name: str) -> bool | float:
    if isinstance(value, bool):
        return value
    assert isinstance(value, numbers.Real)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadScore(f"{name}: expected a finite number as score, found {_short(value)}")
    return number


def _category(value: str, name: str) -> str:
    if not value.strip():
        raise BadScore(f"{name}: expected a category, found an empty text")
    if len(value) > LONGEST_CATEGORY:
        raise BadScore(
            f"{name}: expected a category of at most {LONGEST_CATEGORY} characters, found {len(value):,} "
            f"({_short(value)}): a reason goes into a score's comment"
        )
    return value


def _metadata(value: object) -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {}
    try:
        read = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        read = to_json(value)
    return dict(read) if isinstance(read, dict) else {}


def _short(value: object) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # noqa: BLE001  (a foreign object's own repr)
        return f"its repr raises {type(error).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}..."

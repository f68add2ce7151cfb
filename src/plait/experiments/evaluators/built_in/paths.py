"""Finds what is compared: a value in a run's outputs, and its counterpart in the example's reference outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plait.experiments.evaluators.scores import MissingValue
from plait.experiments.records import ExampleRun
from plait.json_values import dumps, to_json

__all__ = ["WHOLE", "output_of", "pair_of", "read_path", "text_of"]

WHOLE = "."
"""The path of everything."""


def read_path(value: object, path: str, *, what: str) -> object:
    """The value at a dotted path such as `report.title` or `messages.-1.content`; a key may itself have dots.

    Raises MissingValue, naming what is there instead.
    """
    if path == WHOLE:
        return value
    if isinstance(value, Mapping) and path in value:
        return value[path]
    found = value
    for part in path.split("."):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, Sequence) and not isinstance(found, str) and _index(part, len(found)) is not None:
            found = found[int(part)]
        else:
            raise MissingValue(f"expected {path!r} in {what}, found {_contents(found)} where {part!r} should be")
    return found


def _index(part: str, length: int) -> int | None:
    number = int(part) if part.lstrip("-").isdecimal() else None
    return number if number is not None and -length <= number < length else None


def _contents(value: object) -> str:
    if isinstance(value, Mapping):
        return f"the keys {', '.join(map(str, value))}" if value else "an empty object"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a list of {len(value)}"
    return "nothing" if value is None else f"{type(value).__name__}"


def output_of(run: ExampleRun, path: str | None, *, whole: bool = False) -> object:
    """The output at `path`; without one the only output there is, or with `whole` all of them.

    Raises MissingValue where there are several and nothing says which.
    """
    if path is not None:
        return read_path(run.outputs, path, what="the outputs")
    value = run.outputs
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        return next(iter(value.values()))
    if whole:
        return value
    raise MissingValue(f"expected one output, found {_contents(value)}: say which with output")


def pair_of(run: ExampleRun, output: str | None, reference: str | None) -> tuple[object, object]:
    """The output and its reference.

    Without a path the reference is the one at the output's path, else the only one there is; the output is the only
    one, else that of the reference's name. Raises MissingValue where either is not there or nothing says which.
    """
    references = run.example.reference_outputs
    if references is None:
        wanted = f"reference_outputs[{(reference or output)!r}]" if reference or output else "reference_outputs"
        raise MissingValue(f"expected {wanted}, found that the example {run.example.id!r} has no reference_outputs")
    path = reference
    if path is None and output is not None and output.split(".")[0] in references:
        path = output
    if path is None and len(references) == 1:
        path = next(iter(references))
    if path is None and isinstance(run.outputs, Mapping) and len(run.outputs) == 1:
        path = next((key for key in run.outputs if key in references), None)
    if path is None:
        raise MissingValue(f"expected one reference, found {_contents(references)}: say which with reference")
    expected = read_path(references, path, what="reference_outputs")
    several = isinstance(run.outputs, Mapping) and len(run.outputs) > 1
    if output is None and several and path in run.outputs:  # type: ignore[operator]
        output = path
    return output_of(run, output), expected


def text_of(value: object) -> str:
    """A value as text: of a message its content, of what is no text its JSON, of None nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    read = to_json(value)
    if isinstance(read, dict) and isinstance(content := read.get("content"), str):
        return content
    return read if isinstance(read, str) else dumps(read)

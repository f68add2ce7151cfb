"""The built-in evaluator of structured outputs: does the JSON have the shape it should."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from plait.errors import InputError
from plait.experiments.evaluators.built_in.paths import output_of
from plait.experiments.evaluators.forms import Evaluator
from plait.experiments.records import ExampleRun, Score
from plait.json_values import to_json

__all__ = ["json_schema"]


def json_schema(
    schema: Mapping[str, object] | None = None, *, file: str | Path | None = None, output: str | None = None
) -> Evaluator:
    """Passed where the output fits the JSON schema, given as such or in a file; a text is parsed as JSON first.

    `output` is a dotted path; without one it is the only output there is, or all of them. References to other places
    are not fetched. Raises InputError for a schema that is none, and where plait[eval] is not installed.
    """
    try:
        from jsonschema import validators  # noqa: PLC0415  (of an extra)
        from jsonschema.exceptions import SchemaError, best_match  # noqa: PLC0415
        from referencing import Registry  # noqa: PLC0415
    except ImportError as error:
        raise InputError(f"json_schema needs {error.name}: pip install 'plait[eval]'") from error
    wanted = _read(schema, file)
    kind = validators.validator_for(wanted)
    try:
        kind.check_schema(wanted)
    except SchemaError as error:
        raise InputError(f"json_schema: expected a JSON schema, found a fault: {error.message}") from error
    validator = kind(wanted, registry=Registry())

    def call(run: ExampleRun) -> Score:
        value = output_of(run, output, whole=True)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                return Score(score=False, comment=f"not JSON: {error}")
        fault = best_match(validator.iter_errors(to_json(value)))
        return Score(
            score=fault is None, comment=None if fault is None else f"{fault.json_path}: {fault.message}"[:500]
        )

    return Evaluator(name="json_schema", call=call, way="thread", takes=frozenset({"outputs"}))


def _read(schema: Mapping[str, object] | None, file: str | Path | None) -> dict[str, object]:
    if (schema is None) == (file is None):
        raise InputError("json_schema: expected a schema or a file, found both or neither")
    read: object = schema
    if file is not None:
        try:
            read = json.loads(Path(file).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise InputError(f"json_schema: expected a JSON schema in {file}, found {error}") from error
    if not isinstance(read, Mapping):
        raise InputError(f"json_schema: expected a schema (an object), found {type(read).__name__}")
    return dict(read)

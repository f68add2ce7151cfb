"""Reads which inputs a graph takes from its schemas, and checks and converts values before anything runs.

A graph with an input schema of its own says what is required and what exists. A graph with a state schema
only requires nothing (any part of a TypedDict state may be absent), but its types hold and unknown names are
mistakes.
"""

from __future__ import annotations

import difflib
import inspect
import json
import shlex
import typing
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel, PydanticUserError, ValidationError

from plait.errors import InputError
from plait.schemas import InputField, Schema, adapter_of, is_typeddict, read_schema, short_type, takes_messages

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

__all__ = ["InputField", "check_context", "check_inputs", "input_fields", "input_json_schemas"]


def input_fields(graph: Pregel[Any, Any, Any, Any]) -> list[InputField]:
    """The inputs by name, in the order of the schema; none where the input is no mapping of names."""
    schema = _input_schema(graph)
    return list(schema.fields.values()) if isinstance(schema, Schema) else []


def input_json_schemas(graph: Pregel[Any, Any, Any, Any]) -> dict[str, dict[str, Any]]:
    """The JSON schema of each input by name; an empty one, which says nothing, where its type has none."""
    schema = _input_schema(graph)
    found: dict[str, dict[str, Any]] = {}
    for name, adapter in (schema.adapters if isinstance(schema, Schema) else {}).items():
        found[name] = {}
        with suppress(PydanticUserError):
            found[name] = adapter.json_schema() if adapter is not None else {}
    return found


def check_inputs(
    graph: Pregel[Any, Any, Any, Any], values: Mapping[str, object], *, workflow: str
) -> dict[str, object]:
    """The values, converted to their types as pydantic does (`"100"` to 100).

    Raises InputError with one line for each field that is missing, mistyped or unknown. Messages are not
    checked: LangGraph converts them. A graph whose input has no named fields gets the values as they are.
    """
    schema = _input_schema(graph)
    if isinstance(schema, Schema):
        return _check(schema, values, f"inputs of {workflow}", "input")
    adapter = adapter_of(schema)
    if adapter is None:
        return dict(values)
    try:
        checked = adapter.validate_python(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = f"{first['loc'][0]}: " if first["loc"] else ""
        raise InputError(
            f"{where}expected {short_type(schema)} as the input of {workflow}, found {_shown(first['input'])}"
        ) from error
    return checked if isinstance(checked, dict) else dict(values)


def check_context(graph: Pregel[Any, Any, Any, Any], values: Mapping[str, object]) -> dict[str, object]:
    """The values of the run's context, converted to the types of the graph's context schema.

    No values are always right: a run may have no context. Raises InputError as `check_inputs` does, and where
    the graph has no context schema.
    """
    if not values:
        return {}
    if graph.context_schema is None:
        raise InputError(
            f"context: expected none, found {', '.join(values)}: the workflow has no context schema, "
            "so leave the context out"
        )
    return _check(read_schema(graph.context_schema, strict=True), values, "context", "context value")


_schemas: WeakKeyDictionary[object, Schema | Any] = WeakKeyDictionary()
"""By graph: a batch checks the inputs of every row."""


def _input_schema(graph: Pregel[Any, Any, Any, Any]) -> Schema | Any:
    """A Schema, or the bare type of an input that has no named fields."""
    if graph not in _schemas:
        _schemas[graph] = _read_input_schema(graph)
    return _schemas[graph]


def _read_input_schema(graph: Pregel[Any, Any, Any, Any]) -> Schema | Any:
    builder = getattr(graph, "builder", None)
    if builder is None:
        annotation = _entrypoint_annotation(graph)
        schema = read_schema(annotation, strict=True)
        return schema if schema.fields else annotation
    declared = builder.input_schema
    strict = declared is not builder.state_schema
    schema = read_schema(declared, strict=strict or _is_built_at_start(builder), without=frozenset(builder.managed))
    if "__root__" in builder.schemas.get(declared, {}) and not schema.fields:
        return Any
    return schema


def _is_built_at_start(builder: Any) -> bool:
    """Whether a first node gets the state as an object, which LangGraph makes from the input alone.

    Fields without default are required then. A TypedDict state may lack any key.
    """
    if is_typeddict(builder.state_schema) or not isinstance(builder.state_schema, type):
        return False
    first = [end for start, end in builder.edges if start == "__start__"]
    return any(builder.nodes[name].input_schema is builder.state_schema for name in first if name in builder.nodes)


def _entrypoint_annotation(graph: Pregel[Any, Any, Any, Any]) -> Any:
    """What the function of a functional graph says about its first parameter."""
    if not isinstance(graph.input_channels, str):
        return Any
    for node in graph.nodes.values():
        bound = node.bound
        function = getattr(bound, "func", None) or getattr(bound, "afunc", None)
        if function is None:
            continue
        try:
            hints = typing.get_type_hints(function, include_extras=True)
            return hints.get(next(iter(inspect.signature(function).parameters)), Any)
        except Exception:  # noqa: BLE001  (names that only type checkers know)
            return Any
    return Any


def _check(schema: Schema, values: Mapping[str, object], whole: str, what: str) -> dict[str, object]:
    lines: list[str] = []
    checked: dict[str, object] = {}
    for name, field in schema.fields.items():
        if name in values:
            adapter = schema.adapters[name]
            try:
                checked[name] = adapter.validate_python(values[name]) if adapter else values[name]
            except ValidationError as error:
                lines.append(_wrong(field, values[name], error))
        elif field.required:
            about = f": {field.description}" if field.description else ""
            lines.append(f"{name}: missing ({field.type}{about})")
    for name in values:
        if name not in schema.fields:
            near = difflib.get_close_matches(name, schema.fields, n=1)
            known = f"{whole}: {', '.join(schema.fields) or 'none'}"
            lines.append(f"{name}: no such {what}; " + (f"did you mean {near[0]!r}?" if near else known))
    if not lines and schema.model is not None:
        lines = _whole_model(schema.model, checked)
    if lines:
        raise InputError("\n".join(lines))
    return checked


def _whole_model(model: type[BaseModel], values: Mapping[str, object]) -> list[str]:
    """What the validators of a pydantic input say that see more than one field's type."""
    if any(takes_messages(field.annotation) for field in model.model_fields.values()):
        return []
    try:
        model.model_validate(values, by_alias=True, by_name=True)
    except ValidationError as error:
        problems = {str(problem["loc"][0]) if problem["loc"] else "": problem for problem in error.errors()}
        return [
            f"{name or 'input'}: {_expectation(problem)}"
            + (f", found {_shown(values[name])}" if name in values else "")
            for name, problem in problems.items()
        ]
    return []


def _wrong(field: InputField, value: object, error: ValidationError) -> str:
    """One line, about the first thing that is wrong in the value."""
    name = field.name
    problem: Any = error.errors(include_url=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    is_union = any(getattr(part, "__class__", None) is str for part in problem["loc"]) and len(error.errors()) > 1
    kind = problem["type"]
    if not place or is_union:
        plain = is_union or kind.endswith(("_type", "_parsing")) or kind in {"int_from_float", "enum"}
        expected = f"expected {field.type}" if plain or kind == "literal_error" else _expectation(problem)
        return f"{name}: {expected}, found {_shown(value)}" + _json_hint(name, value, kind)
    if kind == "missing":
        return f"{name}{place}: missing"
    return f"{name}{place}: {_expectation(problem)}, found {_shown(problem['input'])}"


_SEQUENCES = {"list_type", "set_type", "tuple_type", "frozen_set_type", "sequence_type", "iterable_type"}
_OBJECTS = {"dict_type", "model_type", "dataclass_type", "model_attributes_type", "mapping_type"}


def _json_hint(name: str, value: object, kind: str) -> str:
    """How the command line spells a list or an object, for those who wrote `topics=a`."""
    if not isinstance(value, str) or kind not in _SEQUENCES | _OBJECTS:
        return ""
    wanted: type = list if kind in _SEQUENCES else dict
    try:
        is_json = isinstance(json.loads(value), wanted)
    except ValueError:
        is_json = False
    example = json.dumps([value], ensure_ascii=False) if wanted is list else '{"key": "value"}'
    return f"; write {name}:={shlex.quote(value if is_json else example)}"


def _expectation(problem: Any) -> str:
    """pydantic's words in ours: "String should have at least 1 item" is "expected at least 1 item"."""
    message = str(problem["msg"]).partition(" after validation, not ")[0]
    if message.startswith("Value error, "):
        return message.removeprefix("Value error, ")
    for phrase in (" should have ", " should be ", " should "):
        if phrase in message:
            return f"expected {message.split(phrase, 1)[1]}"
    return message[:1].lower() + message[1:]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

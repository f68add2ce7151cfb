"""The plainest value that a JSON schema allows, so that structured answers can be simulated."""

from __future__ import annotations

from typing import Any

from plait.simulator.behaviours import Body

_DEEPEST = 12
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "127.0.0.1",
}


def instance(schema: Body, text: str) -> Any:
    """A value with all properties; free strings are `text`. Patterns are not looked at."""
    return _Maker(schema, text).value(schema, 0)


class _Maker:
    def __init__(self, root: Body, text: str) -> None:
        self._root = root
        self._text = text

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return None
        schema = self._resolved(schema)
        for name in ("const", "default"):
            if name in schema:
                return schema[name]
        if schema.get("enum"):
            return schema["enum"][0]
        for name in ("anyOf", "oneOf"):
            if schema.get(name):
                return self._one(schema[name], depth)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Body, depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = kind[0] if isinstance(kind, list) and kind else kind
        match kind:
            case "object":
                # Deep down only what is required, or a schema that contains itself would not end.
                names = schema.get("properties", {}) if depth < _DEEPEST / 2 else schema.get("required", ())
                return {name: self.value(schema["properties"].get(name), depth + 1) for name in names}
            case "array":
                least = schema.get("minItems", 1 if depth < _DEEPEST / 2 else 0)
                return [self.value(schema.get("items", {}), depth + 1) for _ in range(least)]
            case "integer" | "number":
                return _number(schema, 1 if kind == "integer" else 0.5)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(schema)

    def _resolved(self, schema: Body) -> Body:
        for _ in range(_DEEPEST):
            parts = [schema.get("allOf") or [], [schema]]
            if "$ref" not in schema and not parts[0]:
                return schema
            merged = {name: value for name, value in schema.items() if name not in {"$ref", "allOf"}}
            for part in parts[0]:
                merged = {**part, **merged}
            if "$ref" in schema:
                merged = {**self._at(str(schema["$ref"])), **merged}
            schema = merged
        return schema

    def _at(self, pointer: str) -> Body:
        found: Any = self._root
        for name in pointer.removeprefix("#").split("/")[1:]:
            found = found.get(name.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}

    def _one(self, schemas: list[Any], depth: int) -> Any:
        nothing = [each for each in schemas if isinstance(each, dict) and each.get("type") == "null"]
        return self.value((nothing or schemas)[0] if depth >= _DEEPEST / 2 else schemas[0], depth + 1)

    def _string(self, schema: Body) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        return self._text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]


def _number(schema: Body, preferred: float) -> float:
    step = 1 if isinstance(preferred, int) else 0.001
    least = schema.get("minimum", schema["exclusiveMinimum"] + step if "exclusiveMinimum" in schema else None)
    most = schema.get("maximum", schema["exclusiveMaximum"] - step if "exclusiveMaximum" in schema else None)
    found = preferred if least is None else max(preferred, least)
    return found if most is None else min(found, most)

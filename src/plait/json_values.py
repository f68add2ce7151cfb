"""Turns what workflows return (messages, models, dataclasses, anything) into JSON."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import cast
from uuid import UUID

from pydantic import BaseModel

from plait.masking import masked

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_MOST_DEPTH = 100
_PLAIN = frozenset({str, int, bool, type(None)})


def to_json(value: object, depth: int = 0) -> Json:
    """The value as JSON can say it; what JSON has no word for becomes its text."""
    if type(value) in _PLAIN:  # most are, and asking for classes takes longer
        return cast("Json", value)
    if isinstance(value, bool | int | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, enum.Enum):
        return to_json(value.value, depth)
    if depth >= _MOST_DEPTH:
        return str(value)
    value = _named(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, BaseModel):
        return _model(value, depth)
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Iterable) and not isinstance(value, PurePath | UUID):
        return [to_json(item, depth + 1) for item in value]
    if isinstance(value, BaseException):
        return masked(f"{type(value).__name__}: {value}")
    return str(value)


def _named(value: object) -> object:
    """A dataclass or a named tuple as a mapping; anything else as it is."""
    if type(value) is dict:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    as_dict = getattr(value, "_asdict", None) if isinstance(value, tuple) else None
    return value if as_dict is None else as_dict()


def _model(value: BaseModel, depth: int) -> Json:
    fields = {name: getattr(value, name) for name in type(value).model_fields} | (value.model_extra or {})
    if is_message(value):
        # A message's empty fields say nothing, and providers' raw metadata would drown its text.
        hidden = {"response_metadata", "additional_kwargs", "example"}
        fields = {
            k: v for k, v in fields.items() if (k not in hidden and v not in (None, "", [], {})) or k == "content"
        }
    return to_json(fields, depth + 1)


def dumps(value: object, *, indent: int | None = None) -> str:
    """`to_json` as text."""
    return json.dumps(to_json(value), ensure_ascii=False, indent=indent)


def is_message(value: object) -> bool:
    """Whether the value is one of LangChain's messages."""
    return isinstance(value, BaseModel) and {"content", "type"} <= type(value).model_fields.keys()

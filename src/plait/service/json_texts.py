"""Anything a graph may hold, as the JSON that clients of the Agent Server API expect."""

from __future__ import annotations

import dataclasses
import enum
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from re import Pattern
from typing import Any

import orjson
from langchain_core import messages
from pydantic import BaseModel

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def dumps(value: object) -> bytes:
    """JSON of any value: models and dataclasses as objects, sets as lists, bytes as base64, the rest as its repr."""
    try:
        return orjson.dumps(value, _default, _OPTIONS)
    except TypeError:
        # Lone surrogates, or a depth or a number that orjson refuses.
        return orjson.dumps(_plain(value, 0), _default, _OPTIONS)


def plain(value: object) -> Any:
    """The same as Python values: what `json.loads(dumps(value))` gives."""
    return orjson.loads(dumps(value))


def loads(text: bytes | str) -> Any:
    """What a JSON text holds; ValueError where it is none."""
    return orjson.loads(text)


def _default(value: object) -> object:
    if type(value) in _MESSAGES:
        return _fields(value)
    for kinds, made in _FORMS:
        if isinstance(value, kinds):
            return made(value)
    for name in ("model_dump", "_asdict"):
        if not isinstance(value, type) and callable(method := getattr(value, name, None)):
            return method()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return repr(value)


_MESSAGES = frozenset(
    {
        messages.AIMessage,
        messages.AIMessageChunk,
        messages.HumanMessage,
        messages.HumanMessageChunk,
        messages.SystemMessage,
        messages.SystemMessageChunk,
        messages.ToolMessage,
        messages.ToolMessageChunk,
    }
)
"""Exactly these: their fields have no serializers, so `model_dump` would only copy them, once a token."""


def _fields(message: Any) -> dict[str, object]:
    extra = message.__pydantic_extra__
    return {**message.__dict__, **extra} if extra else message.__dict__


def _number(value: Decimal) -> object:
    return int(value) if value == value.to_integral_value() else float(value)


_FORMS: tuple[tuple[type | tuple[type, ...], Callable[[Any], object]], ...] = (
    (BaseModel, lambda model: model.model_dump()),
    (BaseException, lambda error: {"error": type(error).__name__, "message": str(error)}),
    ((set, frozenset, deque), list),
    (tuple, lambda items: items._asdict() if hasattr(items, "_asdict") else list(items)),
    (Mapping, dict),
    ((bytes, bytearray, memoryview), lambda data: b64encode(bytes(data)).decode()),
    (enum.Enum, lambda member: member.value),
    (timedelta, timedelta.total_seconds),
    (Decimal, _number),
    (Pattern, lambda pattern: pattern.pattern),
    ((Path, IPv4Address, IPv4Network, IPv6Address, IPv6Network), str),
)


_DEEPEST = 200


def _plain(value: object, depth: int) -> object:
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < 10**300 else str(value)
    if isinstance(value, Mapping):
        return {str(_plain(str(key), depth)): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, depth + 1) for inner in value]
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    made = _default(value)
    return _plain(made, depth + 1)

"""What the shapes of all endpoints have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from plait.simulator.answers import Reply, pieces_of

_MARK = "\x00"


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream's events as bytes: what comes first, one piece for each token, what comes last."""

    head: bytes
    pieces: Sequence[bytes]
    tail: bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """How an endpoint answers; without `stream` it never streams."""

    plain: Callable[[Reply], bytes]
    stream: Callable[[Reply], Stream] | None = None


def to_json(value: Mapping[str, object]) -> bytes:
    """As bytes."""
    return json.dumps(value).encode()


def event(value: Mapping[str, object], name: str | None = None) -> bytes:
    """A server-sent event."""
    line = b"event: " + name.encode() + b"\n" if name else b""
    return line + b"data: " + to_json(value) + b"\n\n"


def token_events(made: Callable[[str], bytes], text: str) -> list[bytes]:
    """One event for each token of the text. `made` is asked once: most of an event is the same for all."""
    before, _, after = made(_MARK).partition(json.dumps(_MARK).encode())
    return [before + json.dumps(piece).encode() + after for piece in pieces_of(text)]

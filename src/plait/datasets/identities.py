"""Gives every example its id: what a column says, or a hash of its inputs that is the same in every run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b

import orjson

from plait.datasets.examples import Fault
from plait.datasets.tables import Table

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


def content_hash(inputs: Mapping[str, object]) -> bytes:
    """8 bytes of BLAKE2b over the inputs as JSON with sorted keys."""
    try:
        text = orjson.dumps(inputs, default=str, option=_CANONICAL)
    except (TypeError, ValueError):
        # Whole numbers beyond 64 bits and lone surrogates.
        text = json.dumps(inputs, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str).encode()
    return blake2b(text, digest_size=8).digest()


class Identities:
    """The ids given so far. One object serves one reading of a source, from its first row on."""

    def __init__(self) -> None:
        self._seen = Table()

    def of_content(self, inputs: Mapping[str, object]) -> str:
        """16 hex digits; equal inputs get `-2`, `-3` behind them, in the order of the source."""
        digest = content_hash(inputs)
        times = self._seen.count(int.from_bytes(digest, "little"))
        return digest.hex() if times == 1 else f"{digest.hex()}-{times}"

    def of_column(self, value: object, column: str, place: int, unit: str) -> str:
        """The value as text. Raises Fault where it is none, or where an earlier place had it."""
        text = named(value, column)
        before = self._seen.put(hash(text), place)
        if before:
            raise Fault(f"expected an id of its own, found {text!r}, which {unit} {before} has too", column)
        return text


def named(value: object, column: str) -> str:
    """An id as text. Raises Fault where the value cannot be one."""
    if value is None or value == "":
        raise Fault("expected an id, found nothing", column)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Fault(f"expected text or a number as the id, found {type(value).__name__}", column)
    return str(value)

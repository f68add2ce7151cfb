"""Hides in whatever a report shows what no file may hold: keys, and users and passwords of URLs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from plait.json_values import to_json
from plait.masking import masked, redacted

__all__ = ["Hide", "hidden", "hider"]

Hide = Callable[[str], str]
"""A text without what must not be seen in it, and that UTF-8 can say."""


def hider(keys: Sequence[str]) -> Hide:
    """What hides `keys`, and what looks like a key or a URL's password. Lone surrogates become their escapes."""

    def hide(text: str) -> str:
        text = redacted(masked(text), keys)
        return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()

    return hide


def hidden(value: object, hide: Hide) -> object:
    """The value as JSON can say it, with every text in it hidden.

    Never of JSON's own text: an escape before a key (`\\nsk-...`) makes it look like the middle of a word.
    """
    if isinstance(value, str):
        return hide(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {hide(str(key)): hidden(part, hide) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(part, hide) for part in value]
    return hidden(to_json(value), hide)

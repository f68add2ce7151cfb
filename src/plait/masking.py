"""Hides what no text that is shown or stored may hold: users and passwords of URLs, and keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_USERINFO = re.compile(r"(?<=://)[^/\s]+(?=@)")
# A word after "Bearer" is a token where it is long or has a digit; "Bearer authentication" says something.
_BEARER = re.compile(r"\b(bearer\s+)(?:(?=[\w.~+/=-]*\d)[\w.~+/=-]{6,}|[\w.~+/=-]{20,})", re.IGNORECASE)
_TOKEN = re.compile(r"(?<![\w-])(?:g?sk[-_]|lsv2_|plait_(?=[\w-]{20})|xai-|tvly-|AIza)[\w-]{12,}")
_PLACE = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::\d*)?")
"""A host and a port, each if it is there."""
_UNMISTAKABLE = 8
"""Characters of a key that is no part of other words."""


def masked(text: str) -> str:
    """The text, with `***` for the user and password of the URLs in it."""
    return _USERINFO.sub("***", text)


_NO_KEYS = frozenset({"none", "null", "no", "empty", "dummy", "test", "unused", "local", "ollama", "key", "x", "-"})
"""What people give as a key to endpoints that want none: words of any text."""


def redacted(text: str, keys: Iterable[str] = ()) -> str:
    """The text, with `***` for each of `keys` in it and for what looks like one: `Bearer <token>`, `sk-...`."""
    # The longest first: one key may begin with another.
    for key in sorted((key for key in keys if key and key.lower() not in _NO_KEYS), key=len, reverse=True):
        if len(key) >= _UNMISTAKABLE:
            text = text.replace(key, "***")
        else:
            text = re.sub(rf"(?<![\w-]){re.escape(key)}(?![\w-])", "***", text)
    return _TOKEN.sub("***", _BEARER.sub(r"\1***", text))


def shown_url(url: str) -> str:
    """A server's URL for messages: scheme, host, port and path, never a user, a password or an option."""
    scheme = url.partition("://")[0]
    if is_spilt(url):
        return f"{scheme}://..."
    parts = urlsplit(url)
    return f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_spilt(url: str) -> bool:
    """Whether its user and password cannot be told from its host and port, so that nothing of it is to be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket in a password
        return True
    # A password that is not percent-encoded spills over; libpq ends it at the first @, redis-py and we at the last.
    ends_early = parts.scheme in ("postgresql", "postgres") and parts.netloc.count("@") > 1
    # Where no host follows them, a user is read as the host and a password as its port.
    places = parts.netloc.rpartition("@")[2].split(",")
    return ends_early or "@" in f"{parts.path}{parts.query}{parts.fragment}" or not all(map(_PLACE.fullmatch, places))

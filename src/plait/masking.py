"""Hides what a URL may hold before its host: a user's name and password."""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?<=://)[^/\s]+(?=@)")


def masked(text: str) -> str:
    """The text, with `***` for the user and password of the URLs in it."""
    return _USERINFO.sub("***", text)

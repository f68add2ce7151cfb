"""API keys as text: what makes a new one, what is kept of it, and what it is called."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime

__all__ = ["PREFIX", "day_of", "digest_of", "id_of", "is_key", "new_key"]

PREFIX = "plait_"
_ID_LENGTH = 12
_FORM = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)


def new_key() -> str:
    """A key of 256 random bits. It is shown once; only its digest is kept."""
    return f"{PREFIX}{secrets.token_urlsafe(32)}"


def is_key(text: str) -> bool:
    """Whether a text has the form of our keys."""
    return _FORM.fullmatch(text) is not None


def id_of(key: str) -> str:
    """What a key is called in lists and logs: its first characters."""
    return key[:_ID_LENGTH]


def digest_of(key: str) -> str:
    """SHA-256 of a key, in hex: what it is found by."""
    return hashlib.sha256(key.encode()).hexdigest()


def day_of(at: float) -> str:
    """The UTC day that a key's use is counted for, as `2026-11-21`; `at` is in seconds since the epoch."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()

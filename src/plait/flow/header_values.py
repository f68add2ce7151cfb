"""Numbers, periods, dates and lists as header values write them; what makes no sense is read as None."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MILLISECONDS = 1e11
"""Above this a number is a time in milliseconds since the epoch."""
_SECONDS = 1e9
# More than any limit that was ever sold; what is above stands for "none" (2**63 - 1).
_MOST = 1e12
# The longest period that a limit is sold for.
_LONGEST_S = 31 * 86_400.0
_LONGEST_TEXT = 40

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|us|µs|ns|[smhd])")


def number(text: str | None) -> float | None:
    """A finite number of zero or more."""
    if text is None or len(text) > _LONGEST_TEXT:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def amount(text: str | None) -> float | None:
    """Requests or tokens, of a limit that is one."""
    value = number(text)
    return value if value is not None and value <= _MOST else None


def seconds(text: str | None, wall: float) -> float | None:
    """Seconds from "6m0s", "120ms", "11.38" or, told by its size, a time in seconds or milliseconds since the epoch."""
    if text is None or len(text) > _LONGEST_TEXT:
        return None
    text = text.strip()
    value = number(text)
    if value is None:
        parts = _DURATION.findall(text)
        if not parts or sum(map(len, (digits + unit for digits, unit in parts))) != len(text):
            return seconds_until_date(text, wall)
        return period(sum(float(digits) * _UNITS_S[unit] for digits, unit in parts))
    if value > MILLISECONDS:
        value /= 1000
    return period(max(0.0, value - wall) if value > _SECONDS else value)


def seconds_until_date(text: str | None, wall: float) -> float | None:
    """Seconds until an RFC 3339 time; none when it is over."""
    if text is None or len(text) > _LONGEST_TEXT:
        return None
    try:
        date = datetime.fromisoformat(text.strip())
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return period(max(0.0, date.timestamp() - wall))
    except (ValueError, OverflowError):
        return None


def period(seconds: float) -> float | None:
    """The seconds, where somebody may have meant them."""
    return seconds if 0 <= seconds <= _LONGEST_S else None


def items(text: str | None) -> list[tuple[str, dict[str, str]]]:
    """The members of a structured list (RFC 9651) with their parameters: `"a";q=1, "b"` or `100, 100;w=60`."""
    found = []
    for item in (text or "")[:1000].split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        fields = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        if name:
            found.append((name, fields))
    return found


def seconds_until_http_date(text: str, wall: float) -> float | None:
    """Seconds until a date of RFC 9110, section 5.6.7; none when it is over."""
    if len(text) > _LONGEST_TEXT:
        return None
    try:
        return period(max(0.0, parsedate_to_datetime(text).timestamp() - wall))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None

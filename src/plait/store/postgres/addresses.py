"""DSNs as they may be shown: without passwords."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

__all__ = ["shown"]

_PASSWORD = re.compile(r"(password=)(?:'[^']*'|[^&\s]*)", re.IGNORECASE)


def shown(dsn: str) -> str:
    """The DSN without its password and options: `postgresql://user@host:5432/database`."""
    try:
        found = urlsplit(dsn)
        port = found.port
    except ValueError:
        return "postgresql://..."
    if not found.scheme or "://" not in dsn:
        return _PASSWORD.sub(r"\1***", dsn)
    user = f"{found.username}@" if found.username else ""
    host = found.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{found.scheme}://{user}{host}{f':{port}' if port else ''}{found.path}"

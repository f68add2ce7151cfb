"""Say which extra is missing."""

from __future__ import annotations

from plait.errors import SettingsError

__all__ = ["need_postgres"]


def need_postgres() -> None:
    """Raise SettingsError where psycopg cannot be imported."""
    try:
        import psycopg  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise SettingsError(
            f"a store in PostgreSQL needs psycopg, which cannot be imported ({error}): pip install 'plait[postgres]'"
        ) from None

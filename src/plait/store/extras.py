"""Say which extra is missing."""

from __future__ import annotations

from importlib.util import find_spec

from plait.errors import StoreError

__all__ = ["need_postgres"]


def need_postgres() -> None:
    """Raise StoreError where psycopg is not installed."""
    if find_spec("psycopg") is None:
        raise StoreError("a store in PostgreSQL needs a package that is not installed: pip install 'plait[postgres]'")

"""Where a store is, as users name it: a file, or the DSN of a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path

from plait.store.extras import need_postgres
from plait.store.files import Durability
from plait.store.media import FileMedium, Medium, Prepare

__all__ = ["Address", "is_dsn", "medium_of"]

Address = Path | str
"""A file, or a text that is one's path or begins with `postgresql://`."""


def is_dsn(address: Address) -> bool:
    """Whether it names a PostgreSQL database."""
    return isinstance(address, str) and address.startswith(("postgresql://", "postgres://"))


def medium_of(address: Address, *, prepare: Prepare | None = None, durability: Durability = "power") -> Medium:
    """What writes and reads there. Raises SettingsError where a DSN needs a package that is not installed."""
    if not is_dsn(address):
        return FileMedium(Path(address), prepare=prepare, durability=durability)
    need_postgres()
    from plait.store.postgres.media import PostgresMedium  # noqa: PLC0415 - an extra

    return PostgresMedium(str(address), prepare=prepare, durability=durability)

"""The users that hosts and Auth handlers name, in one form: what identifies them, and all that is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

_ABSENT = object()


class KnownUser(Mapping[str, Any]):
    """A user as nodes and Auth handlers see it: LangGraph's `BaseUser`, with what its source says besides.

    Fields can be read as attributes and as items. As a mapping it holds what JSON can say of it; further attributes
    of the source object are read through.
    """

    def __init__(self, identity: str, source: object = None) -> None:
        self._source = source
        fields = {str(key): value for key, value in source.items()} if isinstance(source, Mapping) else {}
        self._fields = fields | {
            "identity": identity,
            "display_name": _text(_field(source, "display_name")) or identity,
            "is_authenticated": True,
            "permissions": permissions_of(source),
        }

    @property
    def identity(self) -> str:
        """What tells this user from all others."""
        return str(self._fields["identity"])

    @property
    def display_name(self) -> str:
        return str(self._fields["display_name"])

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def permissions(self) -> list[str]:
        return list(self._fields["permissions"])

    def __getitem__(self, key: str) -> Any:
        if key in self._fields:
            return self._fields[key]
        found = _ABSENT if key.startswith("_") else _field(self._source, key, _ABSENT)
        if found is _ABSENT:
            raise KeyError(key)
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the user has no {name!r}") from None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and (key in self._fields or _field(self._source, key, _ABSENT) is not _ABSENT)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"KnownUser({self.identity!r})"


def permissions_of(source: object) -> list[str]:
    """What the source says that the user may do."""
    found = _field(source, "permissions")
    if isinstance(found, str):
        return [found]
    return [str(each) for each in found] if isinstance(found, list | tuple | set | frozenset) else []


def known_user(source: object, names: tuple[str, ...] = ("identity",)) -> KnownUser | None:
    """The user that a source tells of: a text, a mapping or an object with one of `names`. None: it tells of nobody.

    Nobody is None, "", an identity that is one of these, and what says of itself `is_authenticated: False`. Raises
    TypeError where it cannot be read.
    """
    if source is None:
        return None
    if isinstance(source, str | int | UUID) and not isinstance(source, bool):
        return KnownUser(str(source)) if str(source) else None
    # Asked first: starlette's UnauthenticatedUser raises when it is asked for its identity.
    if _field(source, "is_authenticated", True) is False:
        return None
    for name in names:
        found = _field(source, name, _ABSENT)
        if found is _ABSENT:
            continue
        if found is None or found == "":
            return None
        if isinstance(found, str | int | UUID) and not isinstance(found, bool):
            return KnownUser(str(found), source)
        raise TypeError(f"expected text as {name!r} of the user, found {type(found).__name__}")
    wanted = " or ".join(map(repr, names))
    raise TypeError(f"expected the user's id, or a mapping or an object with {wanted}, found {type(source).__name__}")


def _field(source: object, name: str, default: object = None) -> Any:
    if isinstance(source, Mapping):
        return source.get(name, default)
    return getattr(source, name, default)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

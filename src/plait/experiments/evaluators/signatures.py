"""What a user's function asks for: which of the known parameters it has, and whether it is async."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from plait.errors import InputError

__all__ = ["Signature", "is_async", "name_of", "read_signature"]


@dataclass(frozen=True, slots=True)
class Signature:
    """The known parameters of a function, in its order."""

    names: tuple[str, ...]
    positional: frozenset[str] = frozenset()
    """Those that can only be given by position."""
    optional: frozenset[str] = frozenset()
    """Those with a default."""
    annotations: Mapping[str, object] | None = None

    def call(self, function: Callable[..., object], values: Mapping[str, object]) -> object:
        """`function` with its part of `values`; an optional one that is None keeps the function's own default."""
        given = {name: values[name] for name in self.names if values[name] is not None or name not in self.optional}
        if not self.positional:
            return function(**given)
        by_position = [given.pop(name) for name in self.names if name in self.positional and name in given]
        return function(*by_position, **given)


def read_signature(function: Callable[..., object], known: Sequence[str], *, name: str) -> Signature:
    """What `function` takes of `known`; all but `run` and `example` where it has only `**kwargs`.

    Raises InputError for a required parameter of another name, where nothing known is taken, and where Python cannot
    tell.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: expected a function whose parameters can be read, found {error}: "
            f"wrap it in one that takes any of {', '.join(known)}"
        ) from error
    fixed = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    for parameter in fixed:
        if parameter.name not in known and parameter.default is parameter.empty:
            near = difflib.get_close_matches(parameter.name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(
                f"{name}: expected parameters of {', '.join(known)}, found {parameter.name!r}: "
                f"{hint}give others a default"
            )
    mine = [p for p in fixed if p.name in known]
    if mine:
        return Signature(
            tuple(p.name for p in mine),
            frozenset(p.name for p in mine if p.kind is p.POSITIONAL_ONLY),
            frozenset(p.name for p in mine if p.default is not p.empty),
            {p.name: p.annotation for p in mine},
        )
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return Signature(tuple(each for each in known if each.endswith("puts")))
    raise InputError(f"{name}: expected a function of any of {', '.join(known)}, found one that takes none of them")


def is_async(function: object) -> bool:
    """Whether calling it gives something to await: async functions, partials and methods of them, objects with such
    a `__call__`.
    """
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004  (its kind is asked, not whether there is one)
    )


def name_of(function: object) -> str:
    """What an evaluator is called where nobody named it."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)

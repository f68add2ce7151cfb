"""Lets a command take groups of options as frozen dataclasses, so that commands can share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, signature
from typing import Any, get_type_hints


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with every parameter of a dataclass type spread out into its fields, for typer to read.

    The fields are declared as a command's parameters are: `rpm: Annotated[str | None, typer.Option("--rpm")] = None`.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name in groups:
            parameters += _fields_of(groups[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY))

    def spread(**given: object) -> object:
        for name, group in groups.items():
            given[name] = group(**{part.name: given.pop(part.name) for part in fields(group)})
        return command(**given)

    spread.__name__, spread.__doc__ = command.__name__, command.__doc__
    spread.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": hints.get("return")}
    return spread


def _fields_of(group: Any) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            part.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if part.default is MISSING else part.default,
            annotation=hints[part.name],
        )
        for part in fields(group)
    ]

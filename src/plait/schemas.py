"""Reads the fields of a TypedDict, dataclass or pydantic class: types, defaults, descriptions."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, Required, Union

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typing_extensions import ReadOnly

_EMPTY_FACTORIES: tuple[object, ...] = (list, dict, set, tuple)


@dataclass(frozen=True, slots=True)
class InputField:
    """An input of a workflow, as it is shown to people."""

    name: str
    type: str
    """Short: `str`, `list[str]`, `int | None`."""
    required: bool
    description: str = ""
    default: str | None = None
    """As Python writes it; None where there is none or it is not known."""


@dataclass(frozen=True)
class Schema:
    """A class with named fields."""

    fields: Mapping[str, InputField]
    adapters: Mapping[str, TypeAdapter[Any] | None]
    """What checks and converts a value; None where any value passes."""
    model: type[BaseModel] | None = None
    """Set for a pydantic class whose fields are all to be given."""


def read_schema(schema: Any, *, strict: bool, without: frozenset[str] = frozenset()) -> Schema:
    """The fields of a class; no fields for any other annotation.

    With `strict`, fields without default (and a TypedDict's required keys) are required. `without` are names
    that are no input, such as LangGraph's managed values.
    """
    cls = typing.get_origin(schema) or schema
    model = cls if isinstance(cls, type) and issubclass(cls, BaseModel) else None
    if model is None and not is_typeddict(cls) and not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        return Schema({}, {})
    found = _model_fields(model) if model is not None else _class_fields(cls)
    fields: dict[str, InputField] = {}
    adapters: dict[str, TypeAdapter[Any] | None] = {}
    for name, (annotation, required, default) in found.items():
        if name in without:
            continue
        adapters[name] = adapter_of(annotation)
        fields[name] = InputField(name, short_type(annotation), strict and required, _description(annotation), default)
    return Schema(fields, adapters, model if strict else None)


def adapter_of(annotation: Any) -> TypeAdapter[Any] | None:
    """None for messages, which LangGraph converts, and for types pydantic knows nothing about."""
    if annotation is Any or takes_messages(annotation):
        return None
    try:
        return TypeAdapter(annotation)
    except Exception:  # noqa: BLE001  (pydantic, and the type's own hooks, raise what they like)
        return None


def is_typeddict(cls: Any) -> bool:
    """Also for a TypedDict of typing_extensions, which typing does not recognize on older Pythons."""
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__required_keys__")


_Found = dict[str, tuple[Any, bool, str | None]]


def _model_fields(model: type[BaseModel]) -> _Found:
    return {
        name: (
            Annotated[field.annotation, field],
            field.is_required(),
            _default_text(field.default, PydanticUndefined, field.default_factory),
        )
        for name, field in model.model_fields.items()
    }


def _class_fields(cls: Any) -> _Found:
    hints = typing.get_type_hints(cls, include_extras=True)
    if not dataclasses.is_dataclass(cls):
        keys: frozenset[str] = getattr(cls, "__required_keys__", frozenset())
        found: _Found = {}
        for name, hint in hints.items():
            annotation, marked = _unwrap(hint)
            found[name] = (annotation, name in keys if marked is None else marked, None)
        return found
    return {
        field.name: (
            hints[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            _default_text(field.default, dataclasses.MISSING, field.default_factory),
        )
        for field in dataclasses.fields(cls)
        if field.init
    }


def _unwrap(hint: Any) -> tuple[Any, bool | None]:
    """The annotation without Required, NotRequired and ReadOnly, and what they said about being required.

    `__required_keys__` misses them where a module's annotations are strings.
    """
    marked: bool | None = None
    extras: tuple[Any, ...] = ()
    while True:
        origin = typing.get_origin(hint)
        if origin in (Required, NotRequired):
            marked = origin is Required
        elif origin is Annotated:
            extras = (*hint.__metadata__, *extras)
        elif origin is not ReadOnly:
            break
        hint = hint.__origin__ if origin is Annotated else typing.get_args(hint)[0]
    for extra in extras:
        hint = Annotated[hint, extra]
    return hint, marked


def _default_text(default: object, missing: object, factory: object) -> str | None:
    if default is not missing:
        return repr(default)
    if factory in _EMPTY_FACTORIES and callable(factory):
        return repr(factory())
    return None


def _description(annotation: Any) -> str:
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, FieldInfo) and extra.description:
            return extra.description
        if isinstance(extra, FieldInfo):
            text = next((item for item in extra.metadata if isinstance(item, str)), "")
            if text:
                return text
        if isinstance(extra, str):
            return extra
    return ""


def short_type(annotation: Any) -> str:
    """`list[str]`, `int | None`, `'draft' | 'final'`: what a person would write."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Annotated, Required, NotRequired, ReadOnly):
        return short_type(args[0])
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(short_type(arg) for arg in args))
    if origin is Literal:
        return " | ".join(repr(arg) for arg in args)
    if annotation is Any or annotation is object:
        return "any"
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, list):  # the parameters of a Callable
        return f"[{', '.join(short_type(arg) for arg in annotation)}]"
    if origin is not None:
        name = getattr(origin, "__name__", str(origin)).lower() if origin in (list, dict, set) else _name(origin)
        return f"{name}[{', '.join(short_type(arg) for arg in args)}]" if args else name
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " | ".join(repr(member.value) for member in annotation)
    return "message" if _is_message(annotation) else _name(annotation)


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation).removeprefix("typing.")


def takes_messages(annotation: Any) -> bool:
    """Whether a chat message is part of the type: LangGraph converts those from strings, tuples and dicts."""
    if _is_message(annotation):
        return True
    extras = getattr(annotation, "__metadata__", ())
    if any(getattr(extra, "__name__", "") == "add_messages" for extra in _flattened(extras)):
        return True
    return any(takes_messages(arg) for arg in typing.get_args(annotation) if arg not in extras)


def _is_message(annotation: Any) -> bool:
    """By name, so that nothing of LangChain is imported for it."""
    return isinstance(annotation, type) and any(
        cls.__name__ == "BaseMessage" and cls.__module__.startswith("langchain_core")
        for cls in getattr(annotation, "__mro__", ())
    )


def _flattened(extras: tuple[Any, ...]) -> list[Any]:
    return [item for extra in extras for item in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]

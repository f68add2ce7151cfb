"""Load checkpoints strictly: only types that a workflow's schemas name are made, anything else is an error.

LangGraph's serializer imports and calls whatever a checkpoint names, by default (CVE-2026-28277); its strict mode hands
out the bare fields of other types without a word. This one refuses the checkpoint before anything of it is made.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_DELTA_SNAPSHOT,
    EXT_METHOD_SINGLE_ARG,
    EXT_NUMPY_ARRAY,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
    JsonPlusSerializer,
)
from langgraph.graph.state import CompiledStateGraph, StateGraph
from pydantic import BaseModel, SecretBytes, SecretStr

from plait.errors import StoreError

__all__ = ["StrictSerializer", "checkpoint_serializer", "schema_types"]

_Name = tuple[str, ...]
_Builder = StateGraph[Any, Any, Any, Any]
_CONSTRUCTORS = {EXT_CONSTRUCTOR_SINGLE_ARG, EXT_CONSTRUCTOR_POS_ARGS, EXT_CONSTRUCTOR_KW_ARGS}
_CONSTRUCTORS |= {EXT_PYDANTIC_V1, EXT_PYDANTIC_V2}
_PLAIN = {"null", "bytes", "bytearray"}


def checkpoint_serializer(*graphs: object, types: Collection[type] = ()) -> StrictSerializer:
    """A serializer for a checkpointer of these graphs, as in `InMemorySaver(serde=checkpoint_serializer(builder))`.

    `graphs` are StateGraphs or compiled ones, with their subgraphs; `types` are further ones that may be loaded. Always
    allowed: plain values, dates, UUIDs, decimals, paths, sets, LangChain's messages and documents, LangGraph's own.
    """
    found = [*types]
    for graph in graphs:
        found += schema_types(graph)
    return StrictSerializer(found)


class StrictSerializer(JsonPlusSerializer):
    """LangGraph's serializer, which raises StoreError for a type that is not allowed, a pickle or an unknown format."""

    def __init__(self, types: Iterable[_Name | type] = ()) -> None:
        self._names: frozenset[_Name] = frozenset(
            (kind.__module__, kind.__name__) if isinstance(kind, type) else tuple(kind) for kind in types
        )
        super().__init__(pickle_fallback=False, allowed_json_modules=None, allowed_msgpack_modules=self._names or None)

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[_Name | type]) -> StrictSerializer:
        """A serializer that allows these, too: LangGraph asks for it with the types of the schemas it compiles."""
        return StrictSerializer([*self._names, *extra_allowlist])

    def loads_typed(self, data: tuple[str, bytes]) -> object:
        """The stored value. Raises StoreError, before anything is imported or called, when it holds what is refused."""
        form, content = data
        if form == "msgpack":
            _Scan(self._names).check(content)
        elif form not in _PLAIN:
            raise StoreError(
                f"a checkpoint is stored as {form!r}, expected msgpack: that form can run code when it is loaded. "
                "No plait wrote it; start a new thread, and find out who writes to the checkpoint store"
            )
        loaded: object = super().loads_typed(data)
        return loaded


class _Scan:
    """Walk a msgpack value without making anything of it."""

    def __init__(self, names: Collection[_Name]) -> None:
        self._names = names
        self._refused: str | None = None

    def check(self, content: bytes) -> None:
        try:
            self._unpack(content)
        except ValueError as error:
            # ormsgpack drops what its hook raises, so the reason is kept here.
            reason = self._refused or f"bytes that are no msgpack ({error})"
            raise StoreError(
                f"a checkpoint holds {reason}, which is not among the types of this workflow's schemas. If it is "
                "yours, name the type in the state's annotations or pass it in types=[...]; if not, find out who "
                "writes to the checkpoint store"
            ) from None

    def _unpack(self, content: bytes) -> object:
        return ormsgpack.unpackb(content, ext_hook=self._hook, option=ormsgpack.OPT_NON_STR_KEYS)

    def _hook(self, code: int, content: bytes) -> object:
        inside = self._unpack(content)
        if code in (EXT_DELTA_SNAPSHOT, EXT_NUMPY_ARRAY):
            return None
        parts = tuple(map(str, inside)) if isinstance(inside, list) else ()
        name = parts[:2]
        if code == EXT_METHOD_SINGLE_ARG:
            allowed = len(parts) == 4 and (*name, parts[3]) in SAFE_MSGPACK_METHODS
        else:
            allowed = code in _CONSTRUCTORS and (name in SAFE_MSGPACK_TYPES or name in self._names)
        if not allowed:
            self._refused = self._refused or f"a {'.'.join(name) or f'value of unknown kind {code}'}"
            raise ValueError(self._refused)
        return None


def schema_types(graph: object) -> list[type]:
    """The classes that the schemas of a graph and its subgraphs name: models, dataclasses, enums, named tuples."""
    found: dict[type, None] = {}
    seen: dict[int, object] = {}  # with the objects: the id of a freed one is given again
    for builder in _builders(graph):
        schemas = [builder.state_schema, builder.input_schema, builder.output_schema, builder.context_schema]
        schemas += [node.input_schema for node in builder.nodes.values()]
        for schema in schemas:
            _collect(schema, found, seen)
    return list(found)


def _builders(graph: object) -> Iterator[_Builder]:
    if isinstance(graph, StateGraph):
        yield graph
        for node in graph.nodes.values():
            if isinstance(node.runnable, CompiledStateGraph):
                yield from _builders(node.runnable)
    elif isinstance(graph, CompiledStateGraph):
        yield from _builders(graph.builder)
        for _, inner in graph.get_subgraphs(recurse=False):
            yield from _builders(inner)


def _collect(kind: object, found: dict[type, None], seen: dict[int, object]) -> None:
    if isinstance(kind, TypeVar) or id(kind) in seen:
        return
    seen[id(kind)] = kind
    if get_origin(kind) is not None:
        arguments = get_args(kind)
        # What stands behind an Annotated's type are reducers and descriptions.
        for inner in (get_origin(kind), *(arguments[:1] if get_origin(kind) is Annotated else arguments)):
            _collect(inner, found, seen)
        return
    _collect(getattr(kind, "__supertype__", None), found, seen)
    if not isinstance(kind, type):
        for inner in get_args(kind):
            _collect(inner, found, seen)
        return
    if _is_data(kind):
        found[kind] = None
    if _is_data(kind) or is_typeddict(kind):
        for inner in _hints(kind).values():
            _collect(inner, found, seen)


def _is_data(kind: type) -> bool:
    if issubclass(kind, BaseModel | enum.Enum | SecretStr | SecretBytes) or dataclasses.is_dataclass(kind):
        return True
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _hints(kind: type) -> dict[str, object]:
    try:
        return dict(get_type_hints(kind, include_extras=True))
    except (NameError, TypeError, AttributeError):
        # A name that only exists for type checkers: what can be known without it is enough to refuse the rest.
        return {}

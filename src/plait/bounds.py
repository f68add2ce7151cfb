"""Makes `config["max_concurrency"]` true: it bounds the model calls of a graph's run and of everything below it.

LangGraph's own bound is a semaphore per graph invocation, so nested graphs and batches
multiply it (docs/design/flow-control.md).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from langgraph.pregel import Pregel

from plait.errors import SettingsError
from plait.flow.limits import Limit
from plait.flow.scopes import bounded, current_limits, current_scope

_Graph = TypeVar("_Graph", bound=Pregel[Any, Any, Any, Any])


def bounds_for(*configs: object) -> tuple[Limit, ...]:
    """The current bounds, and one more in front when a config asks for less than the innermost of them."""
    limits = current_limits()
    asked = [
        config["max_concurrency"]
        for config in configs
        if isinstance(config, Mapping) and config.get("max_concurrency") is not None
    ]
    if any(not isinstance(most, int) or most < 1 for most in asked):
        raise SettingsError(f"max_concurrency: expected a whole number of 1 or more, found {asked[0]!r}")
    if not asked or (limits and min(asked) >= limits[0].capacity):
        return limits
    return (Limit("max_concurrency", min(asked)), *limits)


def bound(graph: _Graph) -> _Graph:
    """A copy of a compiled graph that keeps `max_concurrency` true in LangGraph's own calls (ainvoke, abatch, ...)."""
    kept = copy.copy(graph)
    kept.__class__ = _bound_class(type(graph))
    return kept


@contextmanager
def bound_all_graphs() -> Iterator[None]:
    """Do the same for every graph of this process, nested ones too; for processes that plait owns."""
    inherited = {name: getattr(Pregel, name) for name in _WRAPPERS}
    own = {name for name in _WRAPPERS if name in vars(Pregel)}
    for name, wrap in _WRAPPERS.items():
        setattr(Pregel, name, wrap(inherited[name]))
    try:
        yield
    finally:
        for name, original in inherited.items():
            if name in own:
                setattr(Pregel, name, original)
            else:
                delattr(Pregel, name)


@functools.cache
def _bound_class(graph_class: type[_Graph]) -> type[_Graph]:
    if getattr(graph_class, "_plait_bound", False):
        return graph_class
    methods: dict[str, object] = {name: wrap(getattr(graph_class, name)) for name, wrap in _WRAPPERS.items()}
    made = type(graph_class.__name__, (graph_class,), {**methods, "_plait_bound": True, "__doc__": graph_class.__doc__})
    made.__module__ = graph_class.__module__
    return cast("type[_Graph]", made)


def _async_parts(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, first: Any, config: Any = None, **options: Any) -> AsyncIterator[Any]:
        _tell()
        limits = bounds_for(self.config, *_configs(config))
        parts: AsyncIterator[Any] = original(self, first, config, **options)
        return parts if limits is current_limits() else _each_bounded_async(parts, limits)

    return method


def _parts(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, first: Any, config: Any = None, **options: Any) -> Iterator[Any]:
        _tell()
        limits = bounds_for(self.config, *_configs(config))
        parts: Iterator[Any] = original(self, first, config, **options)
        return parts if limits is current_limits() else _each_bounded(parts, limits)

    return method


def _async_whole(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def method(self: Any, first: Any, config: Any = None, **options: Any) -> Any:
        with bounded(bounds_for(self.config, *_configs(config))):
            return await original(self, first, config, **options)

    return method


def _whole(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, first: Any, config: Any = None, **options: Any) -> Any:
        with bounded(bounds_for(self.config, *_configs(config))):
            return original(self, first, config, **options)

    return method


# invoke and ainvoke go through stream and astream; batches put one bound around all their items.
_WRAPPERS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "astream": _async_parts,
    "stream": _parts,
    "abatch": _async_whole,
    "batch": _whole,
    "abatch_as_completed": _async_parts,
    "batch_as_completed": _parts,
}


def _tell() -> None:
    scope = current_scope()
    if scope is not None and scope.note_graph is not None:
        scope.note_graph()


def _configs(config: Any) -> list[Any]:
    return list(config) if isinstance(config, list | tuple) else [config]


async def _each_bounded_async(parts: AsyncIterator[Any], limits: tuple[Limit, ...]) -> AsyncIterator[Any]:
    # A generator runs in its consumer's context, so the bounds are set for each step and not in between.
    try:
        while True:
            with bounded(limits):
                try:
                    part = await anext(parts)
                except StopAsyncIteration:
                    return
            yield part
    finally:
        if (close := getattr(parts, "aclose", None)) is not None:
            await close()


def _each_bounded(parts: Iterator[Any], limits: tuple[Limit, ...]) -> Iterator[Any]:
    try:
        while True:
            with bounded(limits):
                try:
                    part = next(parts)
                except StopIteration:
                    return
            yield part
    finally:
        if (close := getattr(parts, "close", None)) is not None:
            close()

"""Turns what a target names (a graph, a graph's builder or a factory of graphs) into a compiled graph."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from plait.errors import WorkflowBroken
from plait.import_failures import describe_failure

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

_DEFAULT_NAME = "LangGraph"


def read_variable(module: ModuleType, variable: str) -> object:
    """The module's variable. Raises WorkflowBroken naming the graphs the module does have."""
    try:
        return getattr(module, variable)
    except AttributeError:
        raise WorkflowBroken(
            f"expected a variable {variable!r} in {module.__file__}, found none: {_graphs_in(module)}"
        ) from None


def _graphs_in(module: ModuleType) -> str:
    from langgraph.graph import StateGraph  # noqa: PLC0415  (a second to import)
    from langgraph.pregel import Pregel  # noqa: PLC0415

    names = [name for name, value in vars(module).items() if isinstance(value, Pregel | StateGraph)]
    return f"graphs there: {', '.join(names)}" if names else "there is no graph in that file"


def build_sync(value: object, *, name: str, module: ModuleType, root: Path) -> Pregel[Any, Any, Any, Any]:
    """The compiled graph of a graph, a builder or a synchronous factory.

    Raises WorkflowBroken for anything else, and for factories that must be awaited or closed.
    """
    if is_graph(value) or not callable(value):
        return _kept(value, name=name, module=module)
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        raise _needs_open(name, "an async factory")
    made = _call(value, {}, module=module, root=root)
    if inspect.iscoroutine(made):
        made.close()
    if inspect.isawaitable(made):
        raise _needs_open(name, "an async factory")
    if isinstance(made, AbstractAsyncContextManager | AbstractContextManager):
        raise _needs_open(name, "a factory that must be closed after use")
    return _compiled(made, name=name, module=module)


async def build(
    value: object,
    *,
    name: str,
    module: ModuleType,
    root: Path,
    config: Mapping[str, object],
    stack: AsyncExitStack,
) -> Pregel[Any, Any, Any, Any]:
    """The compiled graph of a graph, a builder or any factory; context managers are closed with `stack`."""
    if is_graph(value) or not callable(value):
        return _kept(value, name=name, module=module)
    made = _call(value, config, module=module, root=root)
    try:
        if inspect.isawaitable(made):
            made = await made
        if isinstance(made, AbstractAsyncContextManager):
            made = await stack.enter_async_context(made)
        elif isinstance(made, AbstractContextManager):
            made = stack.enter_context(made)
    except (Exception, SystemExit) as error:
        raise _factory_failed(error, root) from error
    return _compiled(made, name=name, module=module)


_built: dict[tuple[str, int], tuple[object, Pregel[Any, Any, Any, Any]]] = {}
"""Graphs by workflow and the identity of what they were made from, which is kept so that it stays unique."""


def _kept(value: object, *, name: str, module: ModuleType) -> Pregel[Any, Any, Any, Any]:
    """Compiled once: naming and compiling cost as much as a short run, and a batch opens one per row."""
    key = (name, id(value))
    if key not in _built:
        _built[key] = (value, _compiled(value, name=name, module=module))
    return _built[key][1]


def is_graph(value: object) -> bool:
    """Whether it is a compiled graph or a StateGraph; a class is neither."""
    from langgraph.graph import StateGraph  # noqa: PLC0415
    from langgraph.pregel import Pregel  # noqa: PLC0415

    return isinstance(value, Pregel | StateGraph)


def _needs_open(name: str, what: str) -> WorkflowBroken:
    return WorkflowBroken(
        f"expected a graph or a plain factory, found {what}: use `async with plait.open({name!r}) as graph`"
    )


def _factory_failed(error: BaseException, root: Path) -> WorkflowBroken:
    line = describe_failure(error, root=root, folders=(root,))
    return WorkflowBroken(line.replace("a module that can be imported", "a factory that returns a graph", 1))


def _compiled(value: object, *, name: str, module: ModuleType) -> Pregel[Any, Any, Any, Any]:
    from langgraph.graph import StateGraph  # noqa: PLC0415
    from langgraph.pregel import Pregel  # noqa: PLC0415

    if isinstance(value, StateGraph):
        try:
            return value.compile(name=name)
        except Exception as error:
            raise WorkflowBroken(
                f"expected a graph that compiles, found {type(error).__name__}: "
                f"{' '.join(str(error).split())} in {module.__file__}: correct its nodes and edges"
            ) from error
    if isinstance(value, Pregel):
        return value.copy({"name": name}) if value.name == _DEFAULT_NAME else value
    raise WorkflowBroken(
        f"expected a graph (StateGraph, compiled, or a factory of one), found {type(value).__name__} "
        f"in {module.__file__}: {_graphs_in(module)}"
    )


def _call(factory: Callable[..., Any], config: Mapping[str, object], *, module: ModuleType, root: Path) -> object:
    named, positional = _arguments(factory, config, module)
    try:
        return factory(*positional, **named)
    except (Exception, SystemExit) as error:
        raise _factory_failed(error, root) from error


def _arguments(
    factory: Callable[..., Any], config: Mapping[str, object], module: ModuleType
) -> tuple[dict[str, object], list[object]]:
    """What the LangGraph server would pass: the config, a ServerRuntime, both or nothing."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # a callable written in C
        return {}, []
    hints = _hints(factory)
    filled: dict[str, object] = {}
    taken: list[Literal["config", "runtime"]] = []
    for parameter in parameters:
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        kind = _wanted(parameter, str(hints.get(parameter.name, parameter.annotation)), taken)
        if kind is not None:
            taken.append(kind)
            filled[parameter.name] = {"configurable": {}} | dict(config) if kind == "config" else _server_runtime()
        elif parameter.default is parameter.empty:
            raise WorkflowBroken(
                f"expected a factory of at most two arguments, a RunnableConfig and a ServerRuntime, found "
                f"{getattr(factory, '__name__', factory)!r}{inspect.signature(factory)} in {module.__file__}"
                f": give {parameter.name!r} a default"
            )
    by_position = {p.name for p in parameters if p.kind is p.POSITIONAL_ONLY}
    return (
        {name: value for name, value in filled.items() if name not in by_position},
        [value for name, value in filled.items() if name in by_position],
    )


def _wanted(parameter: inspect.Parameter, annotation: str, taken: Sequence[str]) -> Literal["config", "runtime"] | None:
    """What a parameter is for: by its annotation, else by its name, else by its position."""
    is_bare = parameter.annotation is parameter.empty
    wanted: Literal["config", "runtime"] | None = None
    if "ServerRuntime" in annotation or "_ExecutionRuntime" in annotation:
        wanted = "runtime"
    elif any(kind in annotation for kind in ("RunnableConfig", "dict", "Dict", "Mapping")):
        wanted = "config"
    elif is_bare and parameter.name in {"config", "runtime"}:
        wanted = "config" if parameter.name == "config" else "runtime"
    elif parameter.default is parameter.empty and "config" not in taken:
        wanted = "config"
    elif parameter.default is parameter.empty and is_bare:
        wanted = "runtime"
    return None if wanted in taken else wanted


def _hints(factory: Callable[..., Any]) -> dict[str, object]:
    call = factory if inspect.isroutine(factory) or inspect.isclass(factory) else type(factory).__call__
    try:
        return typing.get_type_hints(call)
    except Exception:  # noqa: BLE001  (names imported for type checkers only; the strings will do)
        return {}


def _server_runtime() -> object:
    """What a factory gets that asks for a ServerRuntime: a run is executed, for nobody in particular."""
    try:
        from langgraph.store.memory import InMemoryStore  # noqa: PLC0415
        from langgraph_sdk.runtime import ServerRuntime  # noqa: PLC0415

        execution = typing.get_origin(typing.get_args(ServerRuntime.__value__)[0])
        made: object = execution(access_context="threads.create_run", store=InMemoryStore(), context=None)
        return made
    except (ImportError, AttributeError, IndexError, TypeError) as error:
        raise WorkflowBroken(
            f"expected a langgraph-sdk whose ServerRuntime can be made, found {error}: pip install -U langgraph-sdk"
        ) from error

"""Makes a graph of one node of a workflow, so that an experiment can run that node alone."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.channels import BinaryOperatorAggregate
from langgraph.errors import InvalidUpdateError, ParentCommand
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import CachePolicy, Command, Overwrite
from pydantic import BaseModel

from plait.errors import InputError
from plait.runs import Graph
from plait.schemas import is_typeddict

__all__ = ["node_graph"]

_ROOT = "__root__"
"""What LangGraph calls the only channel of a state without named keys."""

_Compiled = CompiledStateGraph[Any, Any, Any, Any]
_Builder = StateGraph[Any, Any, Any, Any]
# The type of a builder's nodes is no public name of LangGraph's.
_Spec = Any


def node_graph(graph: Graph, path: str) -> Graph:
    """A graph that runs the node `path` of `graph` alone.

    `path` is a node's name, or names of nodes that hold graphs before it: `research/search`. The inputs are those of
    the node's own schema (for the target of a Send, what is sent), the outputs what the node writes to the state of
    its graph, not merged with what was there; a Command gives its update and goes nowhere. The node's name, retries,
    timeout, cache and the graph's context are kept. Its error handler is not: an error of the node fails the run.
    Nothing is checkpointed, so a node that interrupts cannot be resumed.

    Raises InputError where there is no such node, or the graph is none of LangGraph's StateGraph.
    """
    *around, name = path.split("/")
    holder, context_schema = _state_graph(graph, "the workflow"), None
    cache, store, configs = holder.cache, holder.store, [holder.config]
    for depth, outer in enumerate(around, 1):
        context_schema = holder.builder.context_schema or context_schema
        _spec(holder, outer, path)
        holder = _held(holder, outer, "/".join(around[:depth]))
        # A graph within another uses what the other has where it has none of its own.
        cache, store = holder.cache or cache, holder.store or store
        configs.append(holder.config)
    spec = _spec(holder, name, path)
    context_schema = holder.builder.context_schema or context_schema
    builder = _alone(holder.builder, name, spec, path=path, context_schema=context_schema)
    alone = builder.compile(cache=cache, store=store, name=graph.name)
    for config in configs:
        alone = alone.with_config(config) if config else alone
    return alone


def _alone(held_by: _Builder, name: str, spec: _Spec, *, path: str, context_schema: type[Any] | None) -> _Builder:
    """The builder of a graph with this node only.

    The outputs are one value without named keys beside the channels of the inputs: a node that writes what it reads
    would else give its inputs again.
    """
    schema: Any = spec.input_schema
    # Any: type checkers take no `dict` for a state, LangGraph does.
    anything = cast("Any", dict)
    channels = held_by.schemas[schema]
    if _ROOT in channels and (isinstance(channels[_ROOT], BinaryOperatorAggregate) or schema is not anything):
        raise InputError(f"node {path!r}: expected a state with named keys, found {schema}: run the whole workflow")
    # The state of a whole graph may lack keys, what is sent to a node may not: `inputs` tells them apart by identity.
    sent = schema is not held_by.state_schema and is_typeddict(schema) and not set(channels) & set(held_by.managed)
    whole: Any = anything if sent else schema
    builder: Any = StateGraph(whole, context_schema, input_schema=schema, output_schema=anything)
    builder.add_node(
        name,
        _writing(spec.runnable, held_by, rooted=_ROOT in channels),
        input_schema=schema,
        metadata=spec.metadata,
        retry_policy=spec.retry_policy,
        cache_policy=_own_keys(spec.cache_policy, path),
        timeout=spec.timeout,
    )
    builder.add_edge(START, name)
    builder.add_edge(name, END)
    alone: _Builder = builder
    return alone


def _writing(runnable: Runnable[Any, Any], held_by: _Builder, *, rooted: bool) -> Callable[..., Any]:
    async def alone(state: Any, config: RunnableConfig) -> Any:
        try:
            value = await runnable.ainvoke(state, config)
        except ParentCommand as error:
            value = error.args[0]
        written = _written(value, held_by)
        return written if rooted else {_ROOT: written}

    return alone


def _own_keys(policy: CachePolicy[Any] | None, path: str) -> CachePolicy[Any] | None:
    """The policy with keys of its own: LangGraph's tell async nodes apart by name only, and what is cached differs."""
    if policy is None:
        return None
    key_of = policy.key_func

    def key(*args: Any, **kwargs: Any) -> str | bytes:
        found = key_of(*args, **kwargs)
        return f"alone:{path}:".encode() + (found.encode() if isinstance(found, str) else found)

    return CachePolicy(key_func=key, ttl=policy.ttl)


def _written(value: object, held_by: _Builder) -> dict[str, object]:
    """By key what is written to the state; keys that the state has not are left out, as LangGraph does.

    What several commands write to a key is combined by its reducer.
    """
    anything = _ROOT in held_by.channels
    written: dict[str, object] = {}
    for key, update in _updates(value):
        if not anything and key not in held_by.channels:
            continue
        found = update.value if isinstance(update, Overwrite) else update
        channel = held_by.channels.get(key)
        if key in written and isinstance(channel, BinaryOperatorAggregate) and not isinstance(update, Overwrite):
            found = channel.operator(written[key], found)
        written[key] = found
    return written


def _updates(value: object) -> Iterator[tuple[str, object]]:
    if value is None:
        return
    if isinstance(value, Command):
        yield from _updates(value.update)
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        yield from _parts(value)
    elif isinstance(value, list | tuple) and any(isinstance(item, Command) for item in value):
        for item in value:
            yield from _updates(item)
    elif isinstance(value, list | tuple) and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        yield from value
    else:
        raise InvalidUpdateError(f"Expected dict, got {value}")


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """The fields of an object that are written: as LangGraph does, None only where it says something."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            found = getattr(value, name)
            if found is not None or field.default is not None or name in value.model_fields_set:
                yield name, found
        return
    for name in getattr(value, "__dataclass_fields__", {}):
        if (found := getattr(value, name)) is not None:
            yield name, found


def _state_graph(graph: object, what: str) -> _Compiled:
    if isinstance(graph, CompiledStateGraph):
        return graph
    raise InputError(
        f"expected {what} to be a compiled StateGraph, found {type(graph).__name__}: nodes of other graphs "
        "(functional ones, remote ones) cannot be run alone; leave the node out to run it whole"
    )


def _spec(graph: _Compiled, name: str, path: str) -> _Spec:
    specs = {known: spec for known, spec in graph.builder.nodes.items() if not spec.is_error_handler}
    if name in specs:
        return specs[name]
    near = difflib.get_close_matches(name, specs, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    whole = "" if name == path else f" (of {path!r})"
    raise InputError(f"expected a node of {graph.name!r}, found {name!r}{whole}: {hint}nodes: {_listed(specs)}")


def _held(graph: _Compiled, name: str, path: str) -> _Compiled:
    for _, found in graph.get_subgraphs(namespace=name):
        return _state_graph(found, f"the graph in node {path!r}")
    raise InputError(
        f"expected a graph in node {path!r}, found none that can be seen without running it: graphs that a node builds "
        f"while it runs have no nodes of their own here; run {path!r} whole"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"

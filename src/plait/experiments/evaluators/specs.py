"""Loads the evaluators that experiments.toml names: built-in ones, and `pkg.mod:attribute`."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plait.app import App, activate, find_app
from plait.errors import InputError, PlaitError, WorkflowBroken
from plait.experiments.evaluators.built_in import FACTORIES
from plait.experiments.evaluators.forms import PARAMETERS, Evaluator, Pace, evaluator
from plait.experiments.evaluators.signatures import name_of
from plait.experiments.evaluators.summaries import PARAMETERS as SUMMARY_PARAMETERS
from plait.experiments.evaluators.summaries import SummaryEvaluator, summary_evaluator
from plait.targets import import_target

__all__ = [
    "describe",
    "load_evaluator",
    "load_evaluators",
    "load_summary_evaluator",
]


_OURS = ("use", "key", "node", "lower_is_better")


@dataclass(frozen=True, slots=True)
class _Table:
    use: str
    options: Mapping[str, object]
    key: str | None = None
    node: str | None = None
    lower_is_better: bool | None = None


def load_evaluators(specs: Iterable[object], app: App | Path | None = None) -> tuple[Evaluator, ...]:
    """All of them, in order. Raises as `load_evaluator`, and InputError for two of one name."""
    loaded: list[Evaluator] = []
    for spec in specs:
        found = load_evaluator(spec, app)
        if any(found.name == other.name for other in loaded):
            raise InputError(f"expected evaluators of different names, found two called {found.name!r}: give one a key")
        loaded.append(found)
    return tuple(loaded)


def load_evaluator(spec: object, app: App | Path | None = None) -> Evaluator:
    """The evaluator that `spec` means; imports modules and reads files, so call it in a thread.

    A text is a built-in one's name or `pkg.mod:attribute` (`./path.py:attribute`), found first in the app, whose folder
    or langgraph.json `app` is. A table has it under `use`, and may have `key`, `node` and `lower_is_better`; its other
    entries are options: of a built-in one, of a factory, or arguments of the function itself, if that takes any of
    `PARAMETERS`. Anything else is given to `evaluator`. Raises InputError saying what was expected, with the nearest
    names; AppError where the app cannot be used.
    """
    if not isinstance(spec, str | Mapping):
        return evaluator(spec)
    table, app = _read(spec), _app(app)
    if table.use in FACTORIES:
        made = evaluator(_called(FACTORIES[table.use], table, _rooted(table.options, app)))
    elif ":" in table.use:
        made = _of_target(_attribute(table.use, app), table)
    else:
        raise InputError(
            f"expected a built-in evaluator ({', '.join(FACTORIES)}) or 'package.module:function', "
            f"found {table.use!r}{_near(table.use, FACTORIES)}"
        )
    return replace(
        made,
        name=table.key or made.name,
        key=table.key or made.key,
        node=table.node or made.node,
        lower_is_better=made.lower_is_better if table.lower_is_better is None else table.lower_is_better,
        pace=Pace(),
    )


def load_summary_evaluator(spec: object, app: App | Path | None = None) -> SummaryEvaluator:
    """The summary evaluator that `spec` means: `pkg.mod:function`, a table with it under `use`, or the function itself.

    A table may have a `key` and options, as of an evaluator. Raises InputError and AppError; call it in a thread.
    """
    if not isinstance(spec, str | Mapping):
        return summary_evaluator(spec)
    table = _read(spec)
    if ":" not in table.use:
        raise InputError(f"expected a summary evaluator as 'package.module:function', found {table.use!r}")
    if table.node is not None or table.lower_is_better is not None:
        raise InputError(
            f"summary evaluator {table.use!r}: expected use, key and options, found node or lower_is_better"
        )
    value = _attribute(table.use, _app(app))
    if table.options and callable(value):
        summary = not isinstance(value, type) and _parameters(value) & set(SUMMARY_PARAMETERS)
        value = functools.partial(value, **_known(value, table)) if summary else _called(value, table, table.options)
    return replace(summary_evaluator(value), name=table.key or table.use.rpartition(":")[2], key=table.key)


def describe(spec: object) -> object:
    """The spec as JSON: what was written, or for an object of Python where it is defined."""
    if isinstance(spec, str):
        return spec
    if isinstance(spec, Mapping):
        return dict(spec)
    if isinstance(spec, Evaluator):
        return spec.name
    return f"{getattr(spec, '__module__', None) or type(spec).__module__}:{name_of(spec)}"


def _read(spec: str | Mapping[str, object]) -> _Table:
    if isinstance(spec, str):
        return _Table(spec.strip(), {})
    use = spec.get("use")
    if not isinstance(use, str) or not use.strip():
        near = difflib.get_close_matches("use", spec, n=1, cutoff=0.5)
        raise InputError(
            f'expected an evaluator as {{use = "name", ...}}, found the entries {", ".join(spec) or "none"}'
            f"{f': did you mean use, not {near[0]!r}?' if near else ''}"
        )
    for name in ("key", "node"):
        if name in spec and (not isinstance(spec[name], str) or not str(spec[name]).strip()):
            raise InputError(f"evaluator {use!r}: {name}: expected a text, found {spec[name]!r}")
    lower = spec.get("lower_is_better")
    if lower is not None and not isinstance(lower, bool):
        raise InputError(f"evaluator {use!r}: lower_is_better: expected true or false, found {lower!r}")
    key, node = spec.get("key"), spec.get("node")
    options = {name: value for name, value in spec.items() if name not in _OURS}
    return _Table(use.strip(), options, str(key) if key else None, str(node) if node else None, lower)


def _rooted(options: Mapping[str, object], app: App | None) -> Mapping[str, object]:
    file = options.get("file")
    return {**options, "file": app.root / file} if app is not None and isinstance(file, str | Path) else options


def _attribute(target: str, app: App | None) -> object:
    """What `pkg.mod:attribute` or `./path.py:attribute` names, the app's own modules first.

    Raises InputError where there is no such module or attribute, or the module raises at import.
    """
    where, _, attribute = target.rpartition(":")
    if not where or not all(part.isidentifier() for part in attribute.split(".")):
        raise InputError(f"expected 'package.module:function', found {target!r}")
    try:
        if app is not None:
            activate(app)
            module = import_target(where, app.root, app.import_folders or (app.root,))
        else:
            module = importlib.import_module(where)
    except WorkflowBroken as broken:
        raise InputError(f"{target}: {broken}") from broken.__cause__
    except ImportError as error:
        raise InputError(f"{target}: expected a module that can be imported, found {error}") from error
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise InputError(f"{target}: expected {part!r} in {where}, found none{_near(part, names)}")
        found = getattr(found, part)
    return found


def _app(app: App | Path | None) -> App | None:
    return find_app(app) if isinstance(app, Path) else app


def _of_target(value: object, table: _Table) -> Evaluator:
    if isinstance(value, Evaluator) or not callable(value) or not (table.options or _is_factory(value)):
        try:
            return evaluator(value)
        except InputError as error:
            raise InputError(
                f"{table.use}: {error} (if it makes an evaluator, give its options beside `use`)"
            ) from error
    name = table.use.rpartition(":")[2]
    if not isinstance(value, type) and _parameters(value) & set(PARAMETERS):
        made: object = functools.partial(value, **_known(value, table))
    else:
        made = _called(value, table, table.options)
    if isinstance(made, Evaluator):
        return made
    # A function made inside a factory is called after nothing the user has seen.
    return replace(evaluator(made), name=name)


def _is_factory(value: Callable[..., object]) -> bool:
    """Whether it takes nothing of a run and can be called without arguments."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    variadic = any(each.kind is each.VAR_KEYWORD for each in parameters)
    return (
        not variadic
        and not _parameters(value) & set(PARAMETERS)
        and all(each.default is not each.empty for each in parameters)
    )


def _parameters(function: Callable[..., object]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def _known(function: Callable[..., object], table: _Table) -> Mapping[str, object]:
    parameters = inspect.signature(function).parameters
    variadic = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for name in table.options:
        if name in PARAMETERS or (name not in parameters and not variadic):
            free = [each for each in parameters if each not in PARAMETERS]
            raise InputError(
                f"evaluator {table.use!r}: expected options of {', '.join(free) or 'none'}, "
                f"found {name!r}{_near(name, free)}"
            )
    return table.options


def _called(factory: Callable[..., object], table: _Table, options: Mapping[str, object]) -> object:
    parameters = inspect.signature(factory).parameters
    if unknown := [
        name
        for name in options
        if name not in parameters and not any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    ]:
        raise InputError(
            f"evaluator {table.use!r}: expected options of {', '.join(parameters) or 'none'}, "
            f"found {unknown[0]!r}{_near(unknown[0], list(parameters))}"
        )
    if "key" in parameters and table.key is not None:
        options = {**options, "key": table.key}
    lacking = [
        name
        for name, each in parameters.items()
        if name not in options
        and each.default is each.empty
        and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    if lacking:
        raise InputError(f"evaluator {table.use!r}: expected the option {lacking[0]!r}, found none")
    try:
        return factory(**options)
    except PlaitError:
        raise
    except Exception as error:
        raise InputError(
            f"evaluator {table.use!r}: expected options that it can be made with, found {type(error).__name__}: {error}"
        ) from error


def _near(name: str, known: Iterable[str] | Sequence[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""

"""Finds the app (a langgraph.json and what it names) and loads its workflows.

    app = find_app()                      # cheap: reads one file, imports nothing
    graph = load_workflow(app, "story")   # imports LangGraph and the workflow's module

`targets` turns a target into a Python object, `factories` turns that object into a compiled graph.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from plait.errors import AppError, WorkflowBroken, WorkflowNotFound
from plait.factories import build, build_sync, read_variable
from plait.settings import Settings, from_env
from plait.targets import import_target, imported, in_use, split_target, use_folders

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

FILE_NAME = "langgraph.json"


@dataclass(frozen=True, slots=True)
class Workflow:
    """A graph with a name in langgraph.json."""

    name: str
    target: str
    """`package.module:variable` or `./path.py:variable`; "" where the entry names none."""
    description: str = ""
    error: str | None = None
    """Why the entry cannot be loaded, where that can be seen without loading it."""


@dataclass(frozen=True)
class App:
    """A langgraph.json, read."""

    file: Path
    root: Path
    """The folder of `file`, which its paths are relative to."""
    workflows: Mapping[str, Workflow]
    section: Mapping[str, object] = field(default_factory=dict)
    """Our own settings: the `"plait"` section."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables the app asks for; `apply_env` sets them."""
    bundled: bool = False
    """Whether it is the app that comes with plait."""
    import_folders: tuple[Path, ...] = ()
    """Where the app's modules are, in order: the root, its src folder, its local dependencies."""
    auth: Mapping[str, object] = field(default_factory=dict)
    """Its own `langgraph_sdk.Auth`: `{"path": "./auth.py:auth"}`; empty where it has none."""


def find_app(directory: Path | None = None, *, start: Path | None = None) -> App:
    """The app in `directory` (a folder or a langgraph.json), else the nearest at or above `start`, else ours.

    `start` is the working directory by default. Raises AppError where there is no such file or it is no app.
    An entry that is wrong by itself does not raise: it stays, with its `error`.
    """
    bundled = bundled_file()
    if directory is not None:
        path = directory.expanduser()
        file = path / FILE_NAME if path.is_dir() else path
        if not file.is_file():
            what = "a folder with a langgraph.json" if path.is_dir() else "a folder or a langgraph.json"
            raise AppError(f"{path}: expected {what}, found none: check --app, or leave it out for plait's own app")
        return _read(file.resolve(), bundled)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return _read(folder / FILE_NAME, bundled)
    if bundled is None:
        raise AppError(
            f"expected a {FILE_NAME} in {here} or above, found none, and plait's own workflows are "
            "not installed: give --app DIR, or reinstall plait"
        )
    return _read(bundled, bundled)


def bundled_file() -> Path | None:
    """The langgraph.json of the app that comes with plait; None where it is not installed."""
    # Beside the source first: in an editable install the copy in the wheel is stale.
    package = Path(__file__).resolve().parent
    checkout = package.parents[1]
    if package.parent.name == "src" and (checkout / FILE_NAME).is_file() and (checkout / "graphs").is_dir():
        return checkout / FILE_NAME
    installed = package / "_app" / FILE_NAME
    return installed if installed.is_file() else None


def _read(file: Path, bundled: Path | None) -> App:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise AppError(
            f"{file}:{error.lineno}:{error.colno}: expected JSON, found a fault at line {error.lineno}, "
            f"column {error.colno} ({error.msg}): correct that place"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise AppError(f"{file}: expected a readable UTF-8 file, found {error}") from error
    if not isinstance(content, dict):
        raise AppError(f'{file}: expected an object with "graphs", found {_kind(content)}')
    graphs = content.get("graphs")
    if not isinstance(graphs, dict) or not graphs:
        found = "nothing" if graphs is None else "an empty object" if graphs == {} else _kind(graphs)
        raise AppError(
            f'{file}: "graphs": expected an object such as {{"name": "./file.py:graph"}}, found {found}: '
            "name at least one workflow"
        )
    section = content.get("plait", {})
    if not isinstance(section, dict):
        raise AppError(f'{file}: "plait": expected an object with settings, found {_kind(section)}')
    return App(
        file=file,
        root=file.parent,
        workflows=MappingProxyType({name: _entry(name, entry) for name, entry in graphs.items()}),
        section=MappingProxyType(section),
        env=MappingProxyType(_read_env(content.get("env", {}), file)),
        bundled=file == bundled,
        import_folders=_import_folders(file, content.get("dependencies", [])),
        auth=MappingProxyType(_read_auth(content.get("auth"), file)),
    )


def _entry(name: str, entry: object) -> Workflow:
    target, description = entry, ""
    if isinstance(entry, dict):
        target, description = entry.get("path"), entry.get("description") or ""
    if not isinstance(target, str) or not isinstance(description, str):
        error = (
            f'expected a string "./file.py:graph" or {{"path": ..., "description": ...}}, '
            f"found {json.dumps(entry)[:80]}: correct the entry in {FILE_NAME}"
        )
        return Workflow(name, target if isinstance(target, str) else "", error=error)
    try:
        split_target(target)
    except WorkflowBroken as broken:
        return Workflow(name, target, description, str(broken))
    return Workflow(name, target, description)


def _read_env(env: object, file: Path) -> dict[str, str]:
    if isinstance(env, dict):
        if wrong := [name for name, value in env.items() if isinstance(value, dict | list) or value is None]:
            raise AppError(f'{file}: "env": expected strings, found {_kind(env[wrong[0]])} for {wrong[0]!r}')
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in env.items()}
    if not isinstance(env, str):
        raise AppError(f'{file}: "env": expected an object or the path of a .env file, found {_kind(env)}')
    path = file.parent / env
    if not path.is_file():
        example = next((p for p in (path.with_name(f"{path.name}.example"),) if p.is_file()), None)
        cure = f"cp {example} {path}" if example else f'create it, or remove "env" from {FILE_NAME}'
        raise AppError(f'{file}: "env": expected a file {path}, found none: {cure}')
    from dotenv import dotenv_values  # noqa: PLC0415  (few apps need it, `plait --help` never)

    try:
        values = dotenv_values(path, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AppError(f"{path}: expected a readable UTF-8 file, found {error}") from error
    return {name: value for name, value in values.items() if value is not None}


def _read_auth(auth: object, file: Path) -> dict[str, object]:
    """Strict: an Auth that is overlooked would leave a service open."""
    if auth is None:
        return {}
    form = '{"path": "./auth.py:auth"}'
    if not isinstance(auth, dict):
        raise AppError(f'{file}: "auth": expected an object such as {form}, found {_kind(auth)}')
    path = auth.get("path")
    if not isinstance(path, str) or not path:
        found = _kind(path) if "path" in auth and path != "" else "nothing"
        raise AppError(f'{file}: "auth": "path": expected text as in {form}, found {found}')
    return auth


def _import_folders(file: Path, dependencies: object) -> tuple[Path, ...]:
    if not isinstance(dependencies, list) or not all(isinstance(item, str) for item in dependencies):
        raise AppError(f'{file}: "dependencies": expected a list of strings, found {_kind(dependencies)}')
    local = [file.parent / item for item in dependencies if item.startswith(".")]
    wanted = [place for folder in (file.parent, *local) for place in (folder, folder / "src")]
    return tuple(dict.fromkeys(folder.resolve() for folder in wanted if folder.is_dir()))


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def workflow(app: App, name: str) -> Workflow:
    """The workflow of that name. Raises WorkflowNotFound with the nearest names and the list of all."""
    if name in app.workflows:
        return app.workflows[name]
    near = difflib.get_close_matches(name, app.workflows, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise WorkflowNotFound(
        f"expected a workflow of {app.file}, found {name!r}: {hint}workflows: {', '.join(app.workflows)}"
    )


def activate(app: App) -> None:
    """Make the app's modules importable, before installed packages of the same names. Idempotent.

    Raises AppError where this process has used another app and the two have modules of the same name.
    """
    # Our own folders are called agents, chains and graphs: in a host's process its packages of those names come first.
    use_folders(app.root, app.import_folders or (app.root,), last=app.bundled)


def _is_active(app: App) -> bool:
    return in_use(app.root, app.import_folders or (app.root,), last=app.bundled)


def settings_of(app: App | None) -> Settings:
    """Settings from the environment and, where there is one, from the app: its section, its `env` below all variables.

    Raises SettingsError.
    """
    return from_env(section=app.section, fallback=app.env) if app else from_env()


def apply_env(app: App) -> None:
    """Set the app's `env` in this process; variables already set win. For plait's own processes only."""
    for name, value in app.env.items():
        os.environ.setdefault(name, value)


@asynccontextmanager
async def open_workflow(
    app: App, name: str, *, config: Mapping[str, object] | None = None
) -> AsyncIterator[Pregel[Any, Any, Any, Any]]:
    """The workflow's compiled graph, for as long as the block lasts; factories may be of any kind.

    `config` is the RunnableConfig a factory gets. Modules are imported in a thread, factories are called in
    the running loop. Raises WorkflowNotFound, AppError or WorkflowBroken (caused by what user code raised).
    """
    entry = workflow(app, name)
    if not _is_active(app):
        await asyncio.to_thread(activate, app)
    async with AsyncExitStack() as stack:
        try:
            if imported(entry.target.rpartition(":")[0], app.root):
                module, value = _load(app, entry)
            else:
                module, value = await asyncio.to_thread(_load, app, entry)

            graph = await build(value, name=name, module=module, root=app.root, config=config or {}, stack=stack)
        except WorkflowBroken as broken:
            raise _named(name, app, broken) from broken.__cause__
        yield graph


def load_workflow(app: App, name: str) -> Pregel[Any, Any, Any, Any]:
    """The workflow's compiled graph, without closing anything.

    Raises as `open_workflow`, and WorkflowBroken for factories that are async or context managers.
    """

    entry = workflow(app, name)
    activate(app)
    try:
        module, value = _load(app, entry)
        return build_sync(value, name=name, module=module, root=app.root)
    except WorkflowBroken as broken:
        raise _named(name, app, broken) from broken.__cause__


def _load(app: App, entry: Workflow) -> tuple[ModuleType, object]:

    if entry.error is not None:
        raise WorkflowBroken(entry.error)
    where, variable = split_target(entry.target)
    module = import_target(where, app.root, app.import_folders or (app.root,))
    return module, read_variable(module, variable)


def _named(name: str, app: App, broken: WorkflowBroken) -> WorkflowBroken:
    return WorkflowBroken(f"workflow {name!r} of {app.file}: {broken}")

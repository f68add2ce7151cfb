"""`plait doctor`: what works on this machine, what does not, and the cure for each."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes.util
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx2
from rich.console import Console
from rich.text import Text

from plait.app import App, find_app, open_workflow
from plait.cli import exits
from plait.cli.apps import whence
from plait.cli.durations import size
from plait.errors import PlaitError
from plait.flow.budget_places import budget_place, budget_url, check_budget
from plait.json_values import dumps
from plait.masking import masked
from plait.models import EMBEDDED_MODEL
from plait.settings import Endpoint, Settings, from_env
from plait.store.places import shelf_of
from plait.weights import WEIGHTS, find

_PACKAGES = ("plait", "langgraph", "langchain", "langchain-core", "langchain-openai", "openai", "httpx2", "aiohttp")
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; `cure` says what to do where it is not ok."""

    status: Literal["ok", "warning", "problem"]
    subject: str
    found: str
    cure: str = ""


def examine(directory: Path | None, *, online: bool, as_json: bool) -> int:
    """Print the checks; returns the exit code, 1 where there is a problem."""
    out = sys.stdout
    checks: list[Check] = []
    console = Console(file=out, highlight=False)
    with contextlib.redirect_stdout(sys.stderr):
        for found in _checks(directory, online=online):
            check = replace(found, found=masked(found.found))
            checks.append(check)
            if not as_json:
                _print(check, console)
    if as_json:
        out.write(f"{dumps(checks, indent=2)}\n")
    return exits.FAILED if any(check.status == "problem" for check in checks) else 0


def _print(check: Check, console: Console) -> None:
    style = {"ok": "green", "warning": "yellow", "problem": "bold red"}[check.status]
    line = Text(f"{check.status:<8}", style=style).append(check.subject, style="not bold default")
    line.append(f": {check.found}", style="not bold default")
    console.print(line, soft_wrap=True)
    if check.cure:
        console.print(Text(f"         {check.cure}", style="dim"), soft_wrap=True)


def _checks(directory: Path | None, *, online: bool) -> Iterator[Check]:
    yield _python()
    yield Check("ok", "packages", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))
    try:
        app = find_app(directory)
    except PlaitError as error:
        yield Check("problem", "app", str(error))
        app = None
    if app is not None:
        yield Check("ok", "app", whence(app))
        yield from asyncio.run(_workflows(app))
    try:
        # The app's variables are looked at, not set: later checks are about this process.
        settings = from_env({**(app.env if app else {}), **os.environ}, section=app.section if app else None)
    except PlaitError as error:
        yield Check("problem", "settings", str(error))
        return
    yield from _model(settings)
    yield from _endpoints(settings, online=online)
    yield from _embedded(settings)
    yield from (_folder("state", settings.home), _folder("cache", settings.cache))
    yield _batches(settings)
    yield from _shared(settings)
    yield _proxies()
    yield Check(
        "ok",
        "flow control",
        "covers OpenAI, Anthropic, httpx and httpx2 clients; "
        "not raw aiohttp, requests, gRPC or transports of one's own",
    )


def _python() -> Check:
    found = f"Python {platform.python_version()} on {platform.platform(terse=True)} ({platform.machine()})"
    if sys.platform == "win32":
        return Check("warning", "system", found, "plait runs on Linux and macOS; on Windows use WSL")
    return Check("ok", "system", found)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


async def _workflows(app: App) -> list[Check]:
    checks = []
    for name in app.workflows:
        try:
            async with open_workflow(app, name):
                checks.append(Check("ok", f"workflow {name}", "loads"))
        except PlaitError as error:
            checks.append(Check("problem", f"workflow {name}", str(error)))
    return checks


def _model(settings: Settings) -> Iterator[Check]:
    if settings.model is None:
        cure = "name one with PLAIT_MODEL or --model, e.g. openai:gpt-5.4-mini"
        yield Check("warning", "model", f"none named; `plait run` uses {EMBEDDED_MODEL}, a toy", cure)
        return
    prefix, _, model = settings.model.partition(":")
    endpoint = settings.endpoints.get(prefix)
    if not model:
        yield Check(
            "problem", "model", f"expected endpoint:model, found {settings.model!r}", "e.g. openai:gpt-5.4-mini"
        )
    elif prefix == "local" and model not in WEIGHTS:
        yield Check("problem", "model", f"no embedded model is called {model!r}", f"known: {', '.join(WEIGHTS)}")
    elif endpoint is not None and prefix != "local" and not endpoint.api_key and endpoint.api_key_env:
        is_local = _is_loopback(endpoint)
        yield Check(
            "warning" if is_local else "problem",
            "model",
            f"{settings.model}, but {endpoint.api_key_env} is not set",
            "fine where the server asks for no key" if is_local else f"set {endpoint.api_key_env}",
        )
    else:
        keyed = f", key set in {endpoint.api_key_env}" if endpoint and endpoint.api_key else ""
        yield Check("ok", "model", f"{settings.model}{keyed}")


def _is_loopback(endpoint: Endpoint) -> bool:
    return urlsplit(endpoint.base_url).hostname in {"localhost", "127.0.0.1", "::1"}


def _endpoints(settings: Settings, *, online: bool) -> Iterator[Check]:
    for name, endpoint in settings.endpoints.items():
        if not endpoint.base_url:
            continue
        if online or _is_loopback(endpoint):
            yield _reach(name, endpoint)
        else:
            yield Check("ok", f"endpoint {name}", f"{endpoint.base_url}, not asked (--online asks it)")


def _reach(name: str, endpoint: Endpoint) -> Check:
    subject, url = f"endpoint {name}", f"{endpoint.base_url}/models"
    headers = dict(endpoint.headers)
    if endpoint.api_key:
        headers["authorization"] = f"Bearer {endpoint.api_key}"
    try:
        verify: str | bool = str(endpoint.ca_file) if endpoint.ca_file else True
        with httpx2.Client(timeout=_PATIENCE_S, verify=verify, trust_env=not _is_loopback(endpoint)) as client:
            status = client.get(url, headers=headers).status_code
    except (httpx2.HTTPError, OSError) as error:
        why = str(error) or type(error).__name__
        return Check("problem", subject, f"{url} cannot be reached: {why}", "check that it runs, and the URL")
    if status in {401, 403}:
        variable = endpoint.api_key_env or "its key"
        return Check("problem", subject, f"{url} answers {status}: the key is refused", f"correct {variable}")
    if status >= 500:
        return Check("warning", subject, f"{url} answers {status}", "it has trouble of its own; try later")
    if status == 404:
        return Check("warning", subject, f"{url} answers 404", "check the path, or it lists no models")
    return Check("ok", subject, f"{endpoint.base_url} answers")


def _embedded(settings: Settings) -> Iterator[Check]:
    needed = settings.model is None or settings.model.startswith("local:")
    bad: Literal["warning", "problem"] = "problem" if needed else "warning"
    if importlib.util.find_spec("xllamacpp") is None:
        yield Check(bad, "embedded model", "xllamacpp is not installed", "pip install xllamacpp")
    elif sys.platform == "linux" and ctypes.util.find_library("gomp") is None:
        yield Check(bad, "embedded model", "libgomp.so.1 is missing", "apt-get install libgomp1 (dnf install libgomp)")
    for name in WEIGHTS:
        try:
            file = find(name, settings)
        except PlaitError as error:
            yield Check(bad, f"weights {name}", str(error))
            continue
        if file is None:
            yield Check("warning", f"weights {name}", "not fetched yet", f"plait models pull {name}")
        else:
            yield Check("ok", f"weights {name}", str(file))


def _folder(what: str, folder: Path) -> Check:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Check("ok", f"{what} folder", str(folder))
    cure = "set PLAIT_HOME" if what == "state" else "set XDG_CACHE_HOME"
    return Check("problem", f"{what} folder", f"{existing} is not writable", f"{cure} to a folder that is")


def _batches(settings: Settings) -> Check:
    try:
        shelf = shelf_of(settings)
        found = shelf.batches()
    except PlaitError as error:
        return Check("problem", "store", str(error))
    if not found:
        return Check("ok", "batches", "none kept")
    sizes = [batch.size_bytes for batch in found if batch.size_bytes is not None]
    kept = f", {size(sum(sizes))}" if sizes else ""
    said = f"{len(found)} in {shelf}{kept} (plait prune --older-than 30d makes room)"
    unreadable = [batch.id for batch in found if batch.status == "unreadable"]
    if unreadable:
        return Check("warning", "batches", f"{said}; {', '.join(unreadable)} cannot be read", "plait batches says why")
    return Check("ok", "batches", said)


def _shared(settings: Settings) -> Iterator[Check]:
    """Where several machines share limits."""
    if budget_url(settings) is None:
        return
    try:
        check_budget(settings)
    except PlaitError as error:
        yield Check("problem", "budget", str(error))
    else:
        yield Check("ok", "budget", f"limits are shared over {budget_place(settings)}")


def _proxies() -> Check:
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    found = []
    for name in names:
        value = os.environ.get(name) or os.environ.get(name.lower())
        if value:
            # A proxy's URL may hold a password.
            found.append(f"{name}={value.rpartition('@')[2]}")
    return Check("ok", "proxies", ", ".join(found) or "none")

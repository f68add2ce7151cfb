"""`plait serve`: the service in the foreground, until Ctrl-C or SIGTERM lets it drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from plait.app import App, open_workflow
from plait.cli.batch import check_model_named, open_for_rows
from plait.cli.options import Limits, span
from plait.cli.signals import leave_soon
from plait.errors import AppError, InputError, SettingsError
from plait.flow.registry import gate_for
from plait.process import collect_less, own_process, run_loop
from plait.settings import Settings

if TYPE_CHECKING:
    from plait.service.options import ServiceOptions

_PORTS = 65535
_CLOSING_S = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says, as it says it."""

    model: str | None = None
    app: Path | None = None
    host: str = "127.0.0.1"
    port: str = "8123"
    store: str | None = None
    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()
    webhook_hosts: Sequence[str] = ()
    auth: str | None = None
    insecure: bool = False
    numbers: Mapping[str, str | None] = field(default_factory=dict)
    spans: Mapping[str, str | None] = field(default_factory=dict)
    bounds: Mapping[str, str | None] = field(default_factory=dict)
    log_format: str = "text"
    log_content: bool = False


def serve(options: Options) -> int:
    """Serve until a signal comes; returns the exit code. Raises PlaitError for what cannot be used."""
    try:
        import uvicorn  # noqa: F401

        from plait.service import ServiceOptions  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "plait").partition(".")[0] == "plait":
            raise  # a broken install, which the extra does not mend
        raise SettingsError(f"plait serve needs {error.name}: pip install 'plait[serve]'") from error
    if options.auth not in (None, "keys"):
        raise InputError(f"--auth: expected keys, found {options.auth!r}")
    if options.log_format not in ("text", "json"):
        raise InputError(f"--log-format: expected text or json, found {options.log_format!r}")
    port = _whole("--port", options.port, least=0, most=_PORTS)
    app, settings = open_for_rows(options.app, options.model, Limits(**options.bounds))
    if options.store is not None and "://" in options.store:
        settings = settings.override(store=options.store)  # limits are shared over it, too
    service_options = _service_options(options)
    return run_loop(_serve(app, settings, service_options, options, port))


async def _serve(app: App, settings: Settings, bounds: ServiceOptions, options: Options, port: int) -> int:
    from plait.flow.budget_places import check_budget
    from plait.service.apps import app_of
    from plait.service.auth.binds import check_bind
    from plait.service.services import Service, address_for

    await _check_workflows(app, settings)
    traces = _traces()
    _log(options, settings)
    address = address_for(settings, options.store)
    service = Service(app=app, settings=settings, address=address, options=bounds, require_keys=options.auth == "keys")
    listener = await asyncio.to_thread(_listen, options.host, port)
    # What nodes print must not end up where nobody looks for it.
    with own_process(settings), contextlib.redirect_stdout(sys.stderr), contextlib.closing(listener):
        async with service:
            # After the store, which may be the same server: what cannot be reached is told as that.
            await asyncio.to_thread(check_budget, settings)
            check_bind(options.host, service.authority, options.insecure)
            made = app_of(service)
            _observe(made, traces is not None)
            server = _server(made, service)
            gate_for(settings).serve_at(*_origins(options.host, listener))
            collect_less()
            _tell(f"serving {', '.join(app.workflows)} at {_url(options.host, listener)} (Ctrl-C ends it)")
            await server.serve([listener])
    if traces is not None:
        await asyncio.to_thread(traces)
    return int(server.code)


def _server(made: Any, service: Any) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """Drains before it lets go of its connections: a client sees its run's end, or that it goes on elsewhere."""

        code = 0

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            with _handling(self._stop):
                yield

        def _stop(self, number: int) -> None:
            if self.should_exit:
                leave_soon(128 + number, patience_s=_CLOSING_S)
                asyncio.get_running_loop().call_soon_threadsafe(service.runner.hurry)
                return
            self.code = 0 if number == signal.SIGTERM else 128 + number
            _tell(f"ending: running runs have {service.options.grace_s:g} s (again: they are parked at once)")
            self.should_exit = True

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await service.runner.drain(service.options.grace_s)
            parked = service.runner.parked
            if parked:
                _tell(f"{parked} run{'s' * (parked != 1)} go on when the service starts again")
            await super().shutdown(sockets)

    config = uvicorn.Config(
        made, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_CLOSING_S
    )
    return Server(config)


@contextlib.contextmanager
def _handling(stop: Callable[[int], None]) -> Iterator[None]:
    before = {number: signal.signal(number, lambda found, _: stop(found)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _check_workflows(app: App, settings: Settings) -> None:
    """Say which workflows cannot be loaded: whoever asks for one gets an error, the others are served.

    Raises SettingsError where one would need plait's model and none is named: no service of toy answers.
    """
    for name in app.workflows:
        try:
            async with open_workflow(app, name):
                pass
        except AppError as error:
            _tell(f"cannot be served: {error}")
        else:
            await check_model_named(app, name, settings, {})


def _service_options(options: Options) -> ServiceOptions:
    from plait.service import ServiceOptions

    found = ServiceOptions(log_content=options.log_content)
    changes: dict[str, Any] = {}
    for flag, text in options.numbers.items():
        if text is not None:
            changes[flag.removeprefix("--").replace("-", "_")] = _whole(flag, text, least=1)
    for flag, text in options.spans.items():
        if text is not None:
            changes[f"{flag.removeprefix('--')}_s"] = span(text, flag)
    for origin in options.origins:
        if origin != "*" and not origin.startswith(("http://", "https://")):
            raise InputError(f"--cors-origin: expected * or an origin such as https://example.com, found {origin!r}")
    if options.origins:
        changes["cors_origins"] = (*found.cors_origins, *options.origins)
    if options.hosts or options.insecure:
        # What is before an insecure one has names of its own.
        changes["hosts"] = ("*",) if options.insecure else (*found.hosts, *options.hosts)
    changes["webhook_hosts"] = tuple(_host(text) for text in options.webhook_hosts)
    return replace(found, **changes)


def _host(text: str) -> str:
    from plait.service.webhook_targets import check_host

    try:
        return check_host(text)
    except InputError as error:
        raise InputError(f"--webhook-host: {error}") from error


def _whole(flag: str, text: str, *, least: int, most: int = 1_000_000) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise InputError(f"{flag}: expected a whole number from {least} to {most}, found {text!r}")
    return int(text)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(2048)
    except OSError as error:
        raise SettingsError(
            f"--host {host} --port {port}: cannot listen there: {error.strerror or error}; give another --port, or 0 "
            "for any that is free"
        ) from error
    return listener


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _origins(host: str, listener: socket.socket) -> set[str]:
    """Where workflows of this process may find it."""
    port = listener.getsockname()[1]
    return {_url(host, listener), *(f"http://{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]"))}


def _traces() -> Callable[[], None] | None:
    if not any(name.startswith("OTEL_") for name in os.environ):
        return None
    from plait.service.telemetry import exporting

    return exporting(os.environ)


def _observe(made: Any, traced: bool) -> None:
    from plait.service.logs import AccessLog

    made.add_middleware(AccessLog)
    if traced:
        from plait.service.telemetry import TraceContext

        made.add_middleware(TraceContext)


def _log(options: Options, settings: Settings) -> None:
    from plait.batches.rows import known_keys
    from plait.service.logs import formatter

    handler = logging.StreamHandler(sys.stderr)
    form: Literal["json", "text"] = "json" if options.log_format == "json" else "text"
    handler.setFormatter(formatter(form, keys=known_keys(settings)))
    logger = logging.getLogger("plait.service")
    logger.addHandler(handler)
    logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(min(logging.INFO, logging.getLogger().getEffectiveLevel()))


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()

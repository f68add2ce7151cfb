"""`plait serve` as the command line sees it; `plait.cli.serve` does it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from plait.cli.options import App, Limits, Model, Store

WHERE, WHO, LOAD, LOGS = "Where", "Who may", "Load", "Logs"


def _option(flag: str, unit: str, text: str, panel: str) -> Any:
    return typer.Option(flag, metavar=unit, help=text, rich_help_panel=panel)


def serve(
    limits: Limits,
    model: Model = None,
    directory: App = None,
    host: Annotated[str, _option("--host", "HOST", "Where to listen.", WHERE)] = "127.0.0.1",
    port: Annotated[str, _option("--port", "PORT", "0 is any that is free.", WHERE)] = "8123",
    store: Store = None,
    origins: Annotated[
        list[str] | None,
        _option("--cors-origin", "ORIGIN", "A page's origin that may call, or *; this machine's may.", WHO),
    ] = None,
    hosts: Annotated[
        list[str] | None,
        _option("--allow-host", "NAME", "May be called by this name, too, where it asks for no keys.", WHO),
    ] = None,
    webhook_hosts: Annotated[
        list[str] | None,
        _option("--webhook-host", "HOST", "Webhooks may go there, although it is not public.", WHO),
    ] = None,
    auth: Annotated[str | None, _option("--auth", "HOW", "keys: every request needs a key.", WHO)] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen publicly without asking who calls.", rich_help_panel=WHO)
    ] = False,
    max_running: Annotated[str | None, _option("--max-running", "N", "Runs at once (1000).", LOAD)] = None,
    max_queued: Annotated[str | None, _option("--max-queued", "N", "Runs that may wait (1000).", LOAD)] = None,
    timeout: Annotated[str | None, _option("--timeout", "TIME", "For one run (1h).", LOAD)] = None,
    grace: Annotated[
        str | None, _option("--grace", "TIME", "For running runs to end after SIGTERM (30s).", LOAD)
    ] = None,
    log_format: Annotated[str, _option("--log-format", "FORM", "text or json.", LOGS)] = "text",
    log_content: Annotated[
        bool, typer.Option("--log-content", help="Logs may hold inputs and error texts.", rich_help_panel=LOGS)
    ] = False,
) -> Callable[[], int]:
    """Serve the workflows over HTTP: the Agent Server API, /generate, OpenAI's chat completions, and a page.

    [bold]plait serve --model openai:gpt-5.4-mini[/bold], then open http://127.0.0.1:8123, or in another terminal

    [bold]curl localhost:8123/generate --json '{"workflow": "story", "inputs": {"topic": "a forest"}}'[/bold]
    """
    from plait.cli import serve as implementation

    options = implementation.Options(
        model=model,
        app=directory,
        host=host,
        port=port,
        store=store,
        origins=origins or (),
        hosts=hosts or (),
        webhook_hosts=webhook_hosts or (),
        auth=auth,
        insecure=insecure,
        numbers={"--max-running": max_running, "--max-queued": max_queued},
        spans={"--timeout": timeout, "--grace": grace},
        bounds=limits.given(),
        log_format=log_format,
        log_content=log_content,
    )
    return partial(implementation.serve, options)

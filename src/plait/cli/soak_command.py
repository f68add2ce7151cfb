"""`plait soak` as the command line sees it; `plait.cli.soak` does it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from plait.cli.batch_commands import Name
from plait.cli.options import PAUSES, App, Context, Json, Limits, Model, option


def soak(
    workflow: Name,
    limits: Limits,
    data: Annotated[
        str | None,
        typer.Argument(metavar="[DATA]", help="Rows, as for `plait batch`. Default: made from the input schema."),
    ] = None,
    profile: Annotated[
        str,
        typer.Option("--profile", metavar="FILE", help="A TOML or JSON file, or a name that `plait simulate` knows."),
    ] = "flaky",
    rows: Annotated[int, typer.Option("--rows", metavar="N", help="At most so many rows.")] = 100,
    model: Model = None,
    context: Context = None,
    directory: App = None,
    timeout: Annotated[str, option("--timeout", "TIME", "For one row, e.g. 90 or 5m.", PAUSES)] = "60",
    row_attempts: Annotated[
        int, option("--row-attempts", "N", "How often a row that fails is run, the first time included.", PAUSES)
    ] = 1,
    as_json: Json = False,
) -> Callable[[], int]:
    """Run a workflow against a simulated provider that fails, and report what survived, what it cost, what leaked.

    [bold]plait soak story --profile faults.toml --rows 300[/bold]

    No key is used and nothing is paid for. A profile is a file such as

    [bold]rpm = 600
    faults = {"429" = 0.2, "500" = 0.1, "reset" = 0.05, "cut" = 0.02, "stall" = 0.01}[/bold]

    Exit code 1: something leaked, or a row ended without a result or a named error.
    """
    from plait.cli import soak as implementation

    options = implementation.Options(
        workflow=workflow,
        data=data,
        profile=profile,
        rows=rows,
        limits=limits,
        model=model,
        context=context or (),
        app=directory,
        timeout=timeout,
        row_attempts=row_attempts,
        as_json=as_json,
    )
    return partial(implementation.run_soak, options)

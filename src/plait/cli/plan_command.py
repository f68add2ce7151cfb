"""`plait plan` as the command line sees it; `plait.cli.plan` does it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from plait.cli.batch_commands import Data, Name
from plait.cli.options import PAUSES, App, Context, Json, KeptIn, Limits, Model, RowFlags, option


def plan(
    workflow: Name,
    data: Data,
    rows: RowFlags,
    limits: Limits,
    probe: Annotated[
        int, typer.Option("--probe", metavar="N", help="Rows to run now, drawn at random; they are kept.")
    ] = 20,
    model: Model = None,
    context: Context = None,
    directory: App = None,
    timeout: Annotated[str | None, option("--timeout", "TIME", "For one row, e.g. 90 or 5m.", PAUSES)] = None,
    as_json: Json = False,
    store: KeptIn = None,
) -> Callable[[], int]:
    """Say what a batch will cost and when it will be done, before all of it is paid for.

    [bold]plait plan greet names.csv --probe 20[/bold]

    It runs a few rows, drawn at random, and keeps their answers: [bold]plait resume[/bold] runs the others.
    """
    from plait.cli import plan as implementation

    options = implementation.Options(
        workflow=workflow,
        data=data,
        probe=probe,
        rows=rows,
        limits=limits,
        model=model,
        context=context or (),
        app=directory,
        timeout=timeout,
        as_json=as_json,
    )
    return partial(implementation.make_plan, options)

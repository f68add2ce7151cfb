"""`plait batch` and the commands around it, as the command line sees them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from plait.cli.options import (
    KEEPS,
    OUTPUT,
    PAUSES,
    App,
    BatchId,
    Context,
    Json,
    KeptIn,
    Limits,
    Model,
    OutputFlags,
    PauseFlags,
    RowFlags,
    option,
    switch,
)

Work = Callable[[], int]
Name = Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow; `plait list` shows them.")]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="JSONL, CSV, TSV, Parquet, lines of text, a folder of documents; .gz and .zst of these; - is stdin.",
    ),
]


def batch(
    program: typer.Context,
    workflow: Name,
    data: Data,
    output: OutputFlags,
    rows: RowFlags,
    pauses: PauseFlags,
    limits: Limits,
    force: Annotated[bool, switch("--force", "Replace FILE if it exists.", OUTPUT)] = False,
    model: Model = None,
    context: Context = None,
    directory: App = None,
    timeout: Annotated[str | None, option("--timeout", "TIME", "For one row, e.g. 90 or 5m.", PAUSES)] = None,
    row_attempts: Annotated[
        int, option("--row-attempts", "N", "How often a row that fails is run, the first time included.", PAUSES)
    ] = 1,
    no_journal: Annotated[
        bool, switch("--no-journal", "Keep no answers: what an interruption cuts off is paid for again.", KEEPS)
    ] = False,
    reuse: Annotated[
        str | None,
        option("--reuse", "BATCH", "Take answers from another batch, for equal rows at temperature 0.", KEEPS),
    ] = None,
    durability: Annotated[
        str, option("--durability", "WHAT", "What answers survive: a loss of power, or a kill (faster).", KEEPS)
    ] = "power",
    store: KeptIn = None,
) -> Work:
    """Run a workflow over a dataset; it survives whatever interrupts it and pays for nothing twice.

    [bold]plait batch greet names.csv --out greetings.parquet[/bold]

    Ctrl-C once lets the rows in flight end, twice stops; [bold]plait resume[/bold] goes on.
    """
    from plait.cli import batch as implementation

    options = implementation.Options(
        workflow=workflow,
        data=data,
        output=output,
        rows=rows,
        pauses=pauses,
        limits=limits,
        force=force,
        model=model,
        context=context or (),
        app=directory,
        timeout=timeout,
        row_attempts=row_attempts,
        journal=not no_journal,
        reuse=reuse,
        durability=durability,
        debug=bool(program.obj),
    )
    return partial(implementation.begin, options)


def resume(
    program: typer.Context,
    output: OutputFlags,
    pauses: PauseFlags,
    limits: Limits,
    batch: Annotated[
        str | None,
        typer.Argument(metavar="[BATCH]", help="Its id, or the beginning of it. Default: the newest unfinished one."),
    ] = None,
    errors_only: Annotated[
        bool,
        typer.Option(
            "--errors-only", help="Run the rows that failed again; a node that failed over its answers asks anew."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on though the workflow or dataset has changed; replace --out's FILE.")
    ] = False,
    store: KeptIn = None,
) -> Work:
    """Go on with a batch: its pending rows, or those that failed. What was paid for is not paid for again.

    It takes the options that the batch began with, --out too, but for those given here. --store and --budget, which may
    hold passwords, are not kept.
    """
    from plait.cli import resume as implementation

    options = implementation.Options(
        batch=batch,
        output=output,
        pauses=pauses,
        limits=limits,
        errors_only=errors_only,
        force=force,
        debug=bool(program.obj),
    )
    return partial(implementation.go_on, options)


def batches(
    as_json: Json = False,
    store: KeptIn = None,
) -> Work:
    """List the batches, newest first: how far they are, what they cost, why they paused."""
    from plait.cli.batch_list import show_batches

    return partial(show_batches, as_json=as_json)


def show(
    batch: BatchId,
    as_json: Json = False,
    errors: Annotated[int, typer.Option("--errors", metavar="N", help="How many failed rows to show.")] = 5,
    watch: Annotated[bool, typer.Option("--watch", help="Until it ends or Ctrl-C.")] = False,
    store: KeptIn = None,
) -> Work:
    """Show what a batch did, what it cost, what failed and how to go on; also while it runs elsewhere."""
    from plait.cli.batch_show import show_batch

    return partial(show_batch, batch, as_json=as_json, errors=errors, watch=watch)


def export(
    batch: BatchId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .jsonl, .csv, .tsv or .parquet.")],
    status: Annotated[
        str | None, typer.Option("--status", metavar="LIST", help="Of success,error,timeout,interrupted. Default: all.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    store: KeptIn = None,
) -> Work:
    """Write a batch's results so far to a file, in the order of the rows."""
    from plait.cli.batch_list import export_batch

    return partial(export_batch, batch, file, status=status, force=force)


def prune(
    older_than: Annotated[str, typer.Option("--older-than", metavar="TIME", help="E.g. 30d or 12h.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: KeptIn = None,
) -> Work:
    """Remove batches that nothing was written to for some time, with their paid answers; never a running one."""
    from plait.cli.batch_list import prune_batches

    return partial(prune_batches, older_than, dry_run=dry_run)


def speedup(
    workflow: Name,
    data: Data,
    rows: RowFlags,
    limits: Limits,
    model: Model = None,
    context: Context = None,
    directory: App = None,
) -> Work:
    """Time the same rows one after another, then concurrently, and print the factor. Every row is paid for twice.

    Without --limit it takes the first 10 rows.
    """
    from plait.cli import speedup as implementation

    options = implementation.Options(
        workflow=workflow, data=data, rows=rows, limits=limits, model=model, context=context or (), app=directory
    )
    return partial(implementation.measure, options)

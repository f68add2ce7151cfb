"""`plait list`: the workflows of the app with what they want as input, the broken ones with their reason."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from plait.app import App, open_workflow
from plait.cli.apps import open_app, whence
from plait.errors import PlaitError
from plait.inputs import InputField, input_fields
from plait.json_values import dumps


@dataclass(frozen=True, slots=True)
class Entry:
    """A workflow as it is listed."""

    name: str
    description: str
    inputs: list[InputField]
    error: str | None = None


def show_workflows(directory: Path | None, *, as_json: bool) -> int:
    """Print the workflows; returns the exit code, 0 even where some are broken."""
    app, _ = open_app(directory)
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        entries = asyncio.run(_entries(app))
    if as_json:
        out.write(f"{dumps(entries, indent=2)}\n")
        return 0
    sys.stderr.write(f"from {whence(app)}\n")
    sys.stderr.flush()
    console = Console(file=out, highlight=False)
    for entry in entries:
        _print(entry, console)
    return 0


async def _entries(app: App) -> list[Entry]:
    entries = []
    for workflow in app.workflows.values():
        fields: list[InputField] = []
        error = workflow.error
        try:
            if error is None:
                async with open_workflow(app, workflow.name) as graph:
                    fields = input_fields(graph)
        except PlaitError as failure:
            error = str(failure)
        entries.append(Entry(workflow.name, workflow.description, fields, error))
    return entries


def _print(entry: Entry, console: Console) -> None:
    heading = Text(entry.name, style="bold red" if entry.error else "bold cyan")
    if entry.description:
        heading.append(f"  {entry.description}", style="not bold default")
    console.print(heading, soft_wrap=True)
    if entry.error:
        console.print(Text(f"    broken: {entry.error}"), soft_wrap=True)
    for field in entry.inputs:
        line = Text("    ").append(field.name, style="bold").append(f": {field.type}")
        if field.required:
            line.append(" (required)")
        elif field.default is not None:
            line.append(f" = {dumps(field.default)}")
        if field.description:
            line.append(f"  {field.description}", style="dim")
        console.print(line, soft_wrap=True)

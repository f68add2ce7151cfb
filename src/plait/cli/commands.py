"""The commands as the command line sees them; each returns what is to be done, and `main` does it.

Doing it here would be inside typer, which has its own idea of what an interrupt or a broken pipe means. Imports are
local because importing LangChain takes over a second, which `plait --help` has no use for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from plait.cli import exits
from plait.errors import InputError

Work = Callable[[], int]
"""Does what the command line asks and returns the exit code."""

RUN, LOOK, SET_UP = "Run", "Look", "Set up"

App = Annotated[
    Path | None,
    typer.Option(
        "--app",
        metavar="DIR",
        help="The app: a folder with a langgraph.json. Default: here or above, else plait's own.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(
    name="plait",
    help="Run LangGraph workflows at full speed against rate-limited LLM APIs.",
    epilog=exits.EPILOG,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
models = typer.Typer(
    help="Show what --model can name, or fetch the embedded model (pull).", pretty_exceptions_enable=False
)
app.add_typer(models, name="models", rich_help_panel=SET_UP)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--max-concurrency: expected a whole number, found {text!r}") from None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--timeout: expected seconds above 0, found {text!r}") from None


@app.command("run", rich_help_panel=RUN)
def run(
    program: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The workflow; `plait list` shows them.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Inputs: key=text, key:=json, key=@file (its text)."),
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("--input", metavar="FILE", help="A JSON object of inputs; - is stdin.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="ENDPOINT:MODEL", help="E.g. openai:gpt-5.4-mini.")
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option("--context", metavar="KEY=VALUE", help="The workflow's context; repeatable.")
    ] = None,
    max_concurrency: Annotated[
        int | None, typer.Option("--max-concurrency", metavar="N", parser=_whole, help="Model calls in flight at once.")
    ] = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", metavar="S", parser=_seconds, help="Seconds for the run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="Write the result there: text for .txt and .md, else JSON."),
    ] = None,
    directory: App = None,
) -> Work:
    """Run a workflow and stream what its models say."""
    from plait.cli import run as implementation

    options = implementation.Options(
        name,
        words=inputs or (),
        input_file=input_file,
        context=context or (),
        model=model,
        max_concurrency=max_concurrency,
        timeout_s=timeout_s,
        as_json=as_json,
        output=output,
        app=directory,
        debug=bool(program.obj),
    )
    return partial(implementation.run, options)


@app.command("list", rich_help_panel=LOOK)
def list_workflows(directory: App = None, as_json: Json = False) -> Work:
    """List the workflows with their inputs."""
    from plait.cli.listing import show_workflows

    return partial(show_workflows, directory, as_json=as_json)


@app.command("graph", rich_help_panel=LOOK)
def graph(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The workflow.")],
    png: Annotated[str | None, typer.Option("--png", metavar="FILE", help="Draw it into a PNG instead.")] = None,
    directory: App = None,
) -> Work:
    """Show a workflow's nodes and edges as Mermaid text."""
    from plait.cli.graph import show_graph

    return partial(show_graph, name, directory, png=png)


@models.callback(invoke_without_command=True)
def show_models(context: typer.Context, directory: App = None, as_json: Json = False) -> Work | None:
    """Show what --model can name, or fetch the embedded model (pull)."""
    if context.invoked_subcommand is None:
        from plait.cli.models import show_models as show

        return partial(show, directory, as_json=as_json)
    return None


@models.command("pull")
def pull(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="An embedded model; all of them by default.")
    ] = None,
    directory: App = None,
) -> Work:
    """Fetch the embedded model's weights into the cache."""
    from plait.cli.models import pull_weights

    return partial(pull_weights, name, directory)


@app.command("doctor", rich_help_panel=SET_UP)
def doctor(
    directory: App = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask every endpoint for its models, not only those on this machine.")
    ] = False,
    as_json: Json = False,
) -> Work:
    """Check this installation and say how to cure what is wrong."""
    from plait.cli.doctor import examine

    return partial(examine, directory, online=online, as_json=as_json)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"plait {version('plait')}")
        raise typer.Exit


@app.callback()
def options(
    program: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error; logs go to stderr.")
    ] = "warning",
) -> None:
    """Run LangGraph workflows at full speed against rate-limited LLM APIs."""
    from plait.cli.logs import log_to_stderr

    log_to_stderr(log_level)
    program.obj = debug

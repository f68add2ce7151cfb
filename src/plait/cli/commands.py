"""The commands as the command line sees them; each returns what is to be done, and `main` does it.

Doing it here would be inside typer, which has its own idea of what an interrupt or a broken pipe means. Imports are
local because importing LangChain takes over a second, which `plait --help` has no use for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from plait.cli import batch_commands, exits
from plait.cli.experiments import look_commands
from plait.cli.experiments.eval_command import evaluate
from plait.cli.groups import grouped
from plait.cli.keys import keys
from plait.cli.options import App, Context, Json, Limits, Model, bound
from plait.cli.plan_command import plan
from plait.cli.programs import Program
from plait.cli.serve_command import serve
from plait.cli.simulate_command import WithProfiles, simulate
from plait.cli.soak_command import soak
from plait.errors import InputError

Work = Callable[[], int]
"""Does what the command line asks and returns the exit code."""

RUN, BATCHES, EVALUATE, LOOK, SET_UP = "Run", "Batches", "Evaluate", "Look", "Set up"

app = typer.Typer(
    name="plait",
    cls=Program,
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
app.add_typer(keys, name="keys", rich_help_panel=SET_UP)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--timeout: expected seconds above 0, found {text!r}") from None


@app.command("run", rich_help_panel=RUN)
@grouped
def run(
    program: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The workflow; `plait list` shows them.")],
    limits: Limits,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Inputs: key=text, key:=json, key=@file (its text)."),
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("--input", metavar="FILE", help="A JSON object of inputs; - is stdin.")
    ] = None,
    model: Model = None,
    context: Context = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", metavar="S", parser=_seconds, help="Seconds for the run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="Write the result there: text for .txt and .md, else JSON."),
    ] = None,
    timings: Annotated[
        bool, typer.Option("--timings", help="Say where the time went: waits, connecting, generating, by node.")
    ] = False,
    directory: App = None,
    deadline_s: Annotated[str | None, bound("--deadline", "S", "Seconds for a call with all its attempts.")] = None,
) -> Work:
    """Run a workflow and stream what its models say."""
    from plait.cli import run as implementation

    options = implementation.Options(
        name,
        words=inputs or (),
        input_file=input_file,
        context=context or (),
        model=model,
        timeout_s=timeout_s,
        as_json=as_json,
        output=output,
        timings=timings,
        app=directory,
        bounds={**limits.given(), "deadline_s": deadline_s},
        debug=bool(program.obj),
    )
    return partial(implementation.run, options)


app.command("batch", rich_help_panel=RUN)(grouped(batch_commands.batch))
app.command("resume", rich_help_panel=RUN)(grouped(batch_commands.resume))
app.command("plan", rich_help_panel=RUN)(grouped(plan))
app.command("speedup", rich_help_panel=RUN)(grouped(batch_commands.speedup))
app.command("soak", rich_help_panel=RUN)(grouped(soak))
app.command("serve", rich_help_panel=RUN)(grouped(serve))
app.command("batches", rich_help_panel=BATCHES)(batch_commands.batches)
app.command("show", rich_help_panel=BATCHES)(batch_commands.show)
app.command("export", rich_help_panel=BATCHES)(batch_commands.export)
app.command("prune", rich_help_panel=BATCHES)(batch_commands.prune)
app.command("eval", rich_help_panel=EVALUATE)(grouped(evaluate))
app.command("compare", rich_help_panel=EVALUATE)(look_commands.compare)
app.command("experiments", rich_help_panel=EVALUATE)(look_commands.experiments)
app.command("report", rich_help_panel=EVALUATE)(look_commands.report)


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


@app.command("limits", rich_help_panel=LOOK)
def limits(
    part: Annotated[
        str, typer.Argument(metavar="PART", help="Only endpoints and models whose name holds this.", show_default=False)
    ] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Show changes until Ctrl-C.")] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget what was learnt; what was used today stays.")
    ] = False,
    forget_today: Annotated[bool, typer.Option("--forget-today", help="Forget what was used today.")] = False,
    as_json: Json = False,
    directory: App = None,
) -> Work:
    """Show what has been learnt of endpoints' limits, calls in flight there, and what was used today."""
    from plait.cli import limits as implementation

    options = implementation.Options(
        part, watch=watch, forget=forget, forget_today=forget_today, as_json=as_json, app=directory
    )
    return partial(implementation.show_limits, options)


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


app.command("simulate", rich_help_panel=SET_UP, cls=WithProfiles)(simulate)


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

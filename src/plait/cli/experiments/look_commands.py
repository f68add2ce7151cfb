"""`plait compare`, `plait experiments` and `plait report` as the command line sees them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from plait.cli.options import Json, KeptIn

Work = Callable[[], int]
Force = Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")]


def _name(metavar: str, text: str) -> Any:
    return typer.Argument(metavar=metavar, help=text, show_default=False)


def compare(
    before: Annotated[str, _name("BEFORE", "The experiment's name, or its id; `plait experiments` lists them.")],
    after: Annotated[str, _name("AFTER", "The one that may be better.")],
    intersect: Annotated[
        bool, typer.Option("--intersect", help="Over the examples that are equal in both, where others are not.")
    ] = False,
    examples: Annotated[
        int, typer.Option("--examples", metavar="N", help="How many that flipped to show of each score.")
    ] = 5,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it all to an HTML file, too.")] = (
        None
    ),
    force: Force = False,
    as_json: Json = False,
    store: KeptIn = None,
) -> Work:
    """Say whether one experiment is better than another, by how much, which examples flipped, what it cost.

    [bold]plait compare before after[/bold]

    It ends with 0 whatever the verdict; thresholds and baselines of [bold]plait eval[/bold] decide exit codes.
    """
    from plait.cli.experiments import compare as implementation

    options = implementation.Options(
        before=before,
        after=after,
        intersect=intersect,
        examples=examples,
        html=html,
        force=force,
        as_json=as_json,
    )
    return partial(implementation.show_comparison, options)


def experiments(
    as_json: Json = False,
    store: KeptIn = None,
) -> Work:
    """List the experiments, newest first: what they ran, how far they are, their scores, what they cost."""
    from plait.cli.experiments.listing import show_experiments

    return partial(show_experiments, as_json=as_json)


def report(
    name: Annotated[str, _name("NAME", "The experiment's name, or its id; `plait experiments` lists them.")],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML file that needs nothing else.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="OTHER",
            help="Compare it with this one, or with none. Default: the one whose answers it reused.",
        ),
    ] = None,
    langsmith: Annotated[
        bool, typer.Option("--langsmith", help="Send it to LangSmith instead; needs LANGSMITH_API_KEY.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
    store: KeptIn = None,
) -> Work:
    """Show an experiment: scores, thresholds, costs, errors, nodes; on the terminal or as an HTML file.

    [bold]plait report after --html report.html[/bold]
    """
    from plait.cli.experiments import report as implementation

    options = implementation.Options(
        name=name, html=html, against=against, force=force, as_json=as_json, langsmith=langsmith
    )
    return partial(implementation.show_report, options)

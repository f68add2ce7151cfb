"""`plait eval` as the command line sees it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from plait.cli.options import KEEPS, OUTPUT, ROWS, App, Context, Json, KeptIn, Limits, Model, PauseFlags, option, switch

Work = Callable[[], int]
_AGAINST = "Against another"


def evaluate(
    program: typer.Context,
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="One of the app's eval/experiments.toml.", show_default=False)
    ],
    pauses: PauseFlags,
    limits: Limits,
    name: Annotated[
        str | None, option("--name", "NAME", "What to call it, to find and compare it by. Default: an id.", KEEPS)
    ] = None,
    replace_name: Annotated[bool, switch("--replace", "Take NAME over from an older experiment.", KEEPS)] = False,
    repetitions: Annotated[int | None, option("--repetitions", "N", "Run every example N times.", ROWS)] = None,
    limit: Annotated[int | None, option("--limit", "N", "Only the first N examples.", ROWS)] = None,
    split: Annotated[str | None, option("--split", "NAME", "Only the examples of this split.", ROWS)] = None,
    reuse: Annotated[
        str | None,
        option("--reuse", "NAME", "Take another experiment's answers where the same is asked.", KEEPS),
    ] = None,
    baseline: Annotated[
        str | None,
        option(
            "--baseline",
            "NAME",
            "Fail where it is worse than this experiment, or baseline file. Default: the app's own baseline.",
            _AGAINST,
        ),
    ] = None,
    update_baseline: Annotated[
        bool, switch("--update-baseline", "Make it the app's baseline, in eval/baselines/.", _AGAINST)
    ] = False,
    langsmith: Annotated[
        bool, switch("--langsmith", "Send it to LangSmith when it is done; needs LANGSMITH_API_KEY.", OUTPUT)
    ] = False,
    model: Model = None,
    context: Context = None,
    directory: App = None,
    as_json: Json = False,
    quiet: Annotated[bool, switch("--quiet", "Say nothing on stderr but what went wrong.", OUTPUT)] = False,
    store: KeptIn = None,
) -> Work:
    """Run an experiment: a workflow over a dataset, scored, as a batch that survives whatever interrupts it.

    [bold]plait eval story-quality --name before[/bold]

    [bold]plait eval story-quality --name after --reuse before[/bold]

    [bold]plait compare before after[/bold]

    Exits with 1 where a threshold is not met or a score is worse than the baseline's.
    """
    from plait.cli.experiments import eval as implementation

    options = implementation.Options(
        experiment=experiment,
        pauses=pauses,
        limits=limits,
        name=name,
        repetitions=repetitions,
        limit=limit,
        split=split,
        model=model,
        context=context or (),
        baseline=baseline,
        update_baseline=update_baseline,
        reuse=reuse,
        replace_name=replace_name,
        app=directory,
        langsmith=langsmith,
        as_json=as_json,
        quiet=quiet,
        debug=bool(program.obj),
    )
    return partial(implementation.evaluate, options)

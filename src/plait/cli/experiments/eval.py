"""`plait eval`: runs an experiment, shows its scores, and decides by thresholds and a baseline whether that is good."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from plait.app import App
from plait.batches import BatchOptions
from plait.cli import arguments
from plait.cli.apps import open_app
from plait.cli.batch import check_home, check_model_named, flagged, open_for_rows, pause_values
from plait.cli.experiments.endings import ENDING, Ending, Wishes, read_held
from plait.cli.experiments.sending import check_key
from plait.cli.options import Limits, PauseFlags
from plait.cli.sittings import Sitting
from plait.errors import InputError
from plait.experiments.baselines import baseline_file
from plait.experiments.comparisons import compare
from plait.experiments.definitions import Definition, find_definition
from plait.experiments.openings import NewExperiment, OpenedExperiment, open_experiment
from plait.experiments.readings import find_experiment
from plait.experiments.records import ExampleRun, Experiment
from plait.experiments.statistics.effects import UNKNOWN_DEVIATION, detectable_difference
from plait.experiments.thresholds import parse_thresholds
from plait.process import own_process, run_loop
from plait.settings import Settings
from plait.store.places import shelf_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says, as it says it."""

    experiment: str
    pauses: PauseFlags
    limits: Limits
    name: str | None = None
    repetitions: int | None = None
    limit: int | None = None
    split: str | None = None
    model: str | None = None
    context: Sequence[str] = ()
    baseline: str | None = None
    update_baseline: bool = False
    reuse: str | None = None
    replace_name: bool = False
    app: Path | None = None
    langsmith: bool = False
    as_json: bool = False
    quiet: bool = False
    debug: bool = False


def evaluate(options: Options) -> int:
    """Run an experiment; returns the exit code. Raises PlaitError for what is wrong before the first call."""
    if options.baseline is not None and options.update_baseline:
        raise InputError("expected --baseline or --update-baseline, found both: leave one out")
    app, _ = open_app(options.app)
    definition = _definition(app, options)
    app, settings = open_for_rows(options.app, options.model or definition.model, options.limits)
    check_home(settings)
    if options.langsmith:
        check_key(settings)
    parse_thresholds(definition.thresholds)  # before anything is paid
    wishes = Wishes(
        baseline=_baseline(app, definition, settings, options),
        update=str(baseline_file(app, definition.name)) if options.update_baseline else None,
        langsmith=options.langsmith,
        as_json=options.as_json,
    )
    values = pause_values(options.pauses)
    with flagged({each.name for each in fields(BatchOptions)}):
        batch_options = BatchOptions(**values)  # type: ignore[arg-type]
    wanted = NewExperiment(
        definition=definition,
        name=options.name,
        reuse=options.reuse,
        replace_name=options.replace_name,
        options=batch_options,
        app=app,
        settings=settings,
    )
    ending = Ending(
        app=app,
        out=sys.stdout,
        wishes=wishes,
        summary_evaluators=definition.summary_evaluators,
        baseline=None if wishes.baseline is None else read_held(wishes.baseline, settings),
    )
    # What nodes and evaluators print must not mix with results.
    with contextlib.redirect_stdout(sys.stderr):
        return run_loop(_run(wanted, app, settings, ending, options))


async def _run(wanted: NewExperiment, app: App, settings: Settings, ending: Ending, options: Options) -> int:
    definition = wanted.definition
    await check_model_named(app, str(definition.workflow), settings, dict(definition.context))
    with own_process(settings):
        opened = await open_experiment(wanted)
    if ending.baseline is not None:
        await asyncio.to_thread(_check_examples, ending.baseline, opened)
    if not options.quiet:
        sys.stderr.write(f"{_announced(definition, opened)}\n")
    batch = replace(opened.batch, notes={**opened.batch.notes, ENDING: asdict(ending.wishes)})
    sitting = Sitting(
        wanted=batch,
        options=batch.options,
        settings=settings,
        out=sys.stdout,
        prints_rows=False,
        conclude=ending.conclude,
        wait=options.pauses.wait,
        quiet=options.quiet,
        debug=options.debug,
    )
    return await sitting.follow()


def _definition(app: App, options: Options) -> Definition:
    found = find_definition(app, options.experiment)
    context: Mapping[str, object] = {**found.context, **arguments.parse(options.context)}
    for flag, number in (("--repetitions", options.repetitions), ("--limit", options.limit)):
        if number is not None and number < 1:
            raise InputError(f"{flag}: expected 1 or more, found {number}")
    return replace(
        found,
        context=context,  # type: ignore[arg-type]
        repetitions=options.repetitions or found.repetitions,
        limit=options.limit or found.limit,
        split=options.split or found.split,
    )


def _baseline(app: App, definition: Definition, settings: Settings, options: Options) -> str | None:
    """What the experiment is held against: the one that is named, else the app's own baseline, if it has one."""
    named = options.baseline
    if named is None:
        file = baseline_file(app, definition.name)
        partial = options.limit is not None or options.split is not None
        return None if options.update_baseline or partial or not file.is_file() else str(file)
    if named.endswith(".json"):
        return str(Path(named).absolute())
    found = find_experiment(shelf_of(settings), named)
    if found.status != "finished":
        raise InputError(f"--baseline: expected a finished experiment, found {named}, which is {found.status}")
    return found.id


def _check_examples(baseline: Experiment, opened: OpenedExperiment) -> None:
    """Raise InputError where the examples are not the baseline's, as long as nothing has been paid."""
    runs = [ExampleRun(position=example.position, example=example) for example in opened.examples]
    try:
        compare(baseline, replace(baseline, name="these", runs=tuple(runs)))
    except InputError as error:
        raise InputError(f"{error}\nwrite the baseline anew with --update-baseline, or name another one") from None


def _announced(definition: Definition, opened: OpenedExperiment) -> str:
    """How large the experiment is, and how small a difference it could show."""
    count, evaluators = len(opened.examples), len(definition.evaluators)
    said = f"{definition.name}: {count:,} example{'s' * (count != 1)}"
    if definition.repetitions > 1:
        said += f", {definition.repetitions} times each"
    said += f", {evaluators} evaluator{'s' * (evaluators != 1)}"
    if opened.reused is not None:
        said += f", with the answers of {opened.reused} where nothing changed"
    if count < 2:
        return f"{said}; with one example no difference can be told from chance"
    smallest = detectable_difference(count, deviation=UNKNOWN_DEVIATION)
    return f"{said}; with n={count} you can detect about {smallest:.2f}"

"""`plait batch`: what the command line says, checked before anything is spent, and then run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import cast

from plait.app import App, open_workflow, workflow
from plait.batches import BatchOptions, NewBatch
from plait.cli import arguments
from plait.cli.apps import open_app
from plait.cli.models import fetch_embedded
from plait.cli.options import Limits, OutputFlags, PauseFlags, RowFlags, span
from plait.cli.run import check_model
from plait.cli.sittings import Sitting
from plait.datasets import Selection
from plait.errors import InputError, SettingsError
from plait.exports import check_target
from plait.flow.budget_places import check_budget
from plait.models import EMBEDDED_MODEL
from plait.process import run_loop
from plait.schemas import read_schema
from plait.settings import Settings
from plait.store.files import Durability
from plait.store.places import shelf_of

_FLAGS = {"id_column": "--id", "mapping": "--map", "constants": "--set"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says, as it says it."""

    workflow: str
    data: str
    output: OutputFlags
    rows: RowFlags
    pauses: PauseFlags
    limits: Limits
    force: bool = False
    model: str | None = None
    context: Sequence[str] = ()
    app: Path | None = None
    timeout: str | None = None
    row_attempts: int = 1
    journal: bool = True
    reuse: str | None = None
    durability: str = "power"
    debug: bool = False


def begin(options: Options) -> int:
    """Run a new batch; returns the exit code. Raises PlaitError for what is wrong before the first call."""
    app, settings = open_for_rows(options.app, options.model, options.limits)
    context = arguments.parse(options.context)
    selection = selection_of(options.rows)
    batch_options = _batch_options(options)
    target = check_target(options.output.out, force=options.force) if options.output.out else None
    check_home(settings)
    new = NewBatch(
        workflow=options.workflow,
        rows=options.data,
        selection=selection,
        options=batch_options,
        context=context or None,
        app=app,
        settings=settings,
        out=str(target) if target else None,
    )
    sitting = Sitting(
        wanted=new,
        options=batch_options,
        settings=settings,
        out=sys.stdout,
        target=target,
        shown_target=str(options.output.out or ""),
        wait=options.pauses.wait,
        quiet=options.output.quiet,
        debug=options.debug,
    )

    async def run() -> int:
        await check_model_named(app, options.workflow, settings, context)
        return await sitting.follow()

    # What nodes print must not mix with results.
    with contextlib.redirect_stdout(sys.stderr):
        return run_loop(run())


def open_for_rows(directory: Path | None, model: str | None, limits: Limits) -> tuple[App, Settings]:
    """The app, and settings in which the embedded model answers only where it is named. Raises PlaitError."""
    app, settings = open_app(directory, model=model)
    settings = replace(settings.override(**limits.given()), embedded=False)
    check_model(settings.model, "--model" if model is not None else "model")
    if settings.model is not None:
        fetch_embedded(app, settings)
    return app, settings


def selection_of(flags: RowFlags) -> Selection:
    """The rows that the flags choose. Raises InputError, naming the flag."""
    mapping: dict[str, str] = {}
    for word in flags.mapping or ():
        name, equals, column = word.partition("=")
        if not (equals and name and column):
            raise InputError(f"--map: expected INPUT=COLUMN, found {word!r}")
        mapping[name] = column
    if flags.on_bad_row not in ("stop", "skip"):
        raise InputError(f"--on-bad-row: expected stop or skip, found {flags.on_bad_row!r}")
    with flagged({each.name for each in fields(Selection)}):
        return Selection(
            mapping=mapping,
            constants=arguments.parse(flags.constants or ()),
            limit=flags.limit,
            sample=flags.drawn,
            seed=flags.seed,
            where=flags.where,
            id_column=flags.id_column,
            on_bad_row=flags.on_bad_row,  # type: ignore[arg-type]
            format=flags.data_format,
        )


def pause_values(flags: PauseFlags) -> dict[str, object]:
    """The parts of BatchOptions that these flags set, those given alone. Raises InputError."""
    given: dict[str, object] = {
        "max_errors": flags.max_errors,
        "budget_usd": flags.budget_usd,
        "budget_tokens": flags.budget_tokens,
        "deadline_s": span(flags.deadline, "--deadline") if flags.deadline is not None else None,
        "workers": _workers(flags.workers, flags.ray) if flags.workers is not None else None,
        "ray": flags.ray,
        "ray_timeout_s": span(flags.ray_timeout, "--ray-timeout") if flags.ray_timeout is not None else None,
    }
    elsewhere: dict[str, object] = {}
    if flags.workers is not None and flags.ray is None:
        elsewhere = {"ray": None}  # workers of this machine, whatever the batch began with
    elif flags.ray is not None and flags.workers is None:
        elsewhere = {"workers": 0}  # as many as that cluster has CPUs
    return elsewhere | {name: value for name, value in given.items() if value is not None}


@contextlib.contextmanager
def flagged(names: set[str]) -> Iterator[None]:
    """Errors about a part called one of `names` come out with its flag instead."""
    try:
        yield
    except (InputError, SettingsError) as error:
        name, colon, rest = str(error).partition(":")
        if colon and name in names:
            flag = _FLAGS.get(name, f"--{name.removesuffix('_s').replace('_', '-')}")
            raise type(error)(f"{flag}:{rest}") from None
        raise


def check_home(settings: Settings) -> None:
    """Raise SettingsError or StoreError where no batch can be kept, or its limits cannot be shared."""
    shelf_of(settings).check()
    check_budget(settings)


async def check_model_named(app: App, name: str, settings: Settings, context: dict[str, object]) -> None:
    """Raise SettingsError where a workflow asks for plait's model and none is named: no batch of toy answers."""
    if settings.model is not None or "model" in context:
        return
    workflow(app, name)
    async with open_workflow(app, name) as graph:
        schema = read_schema(graph.context_schema, strict=True) if graph.context_schema is not None else None
        model = schema.fields.get("model") if schema else None
    if model is not None and not model.required and model.default in (None, "None"):
        raise SettingsError(
            "expected a model, found none: name one with --model or PLAIT_MODEL, or ask for the embedded model with "
            f"--model {EMBEDDED_MODEL}"
        )


def _batch_options(options: Options) -> BatchOptions:
    values = pause_values(options.pauses)
    timeout_s = span(options.timeout, "--timeout") if options.timeout is not None else None
    with flagged({each.name for each in fields(BatchOptions)}):
        return replace(
            BatchOptions(
                timeout_s=timeout_s,
                row_attempts=options.row_attempts,
                journal=options.journal,
                reuse=options.reuse,
                durability=cast("Durability", options.durability),
            ),
            **values,  # type: ignore[arg-type]
        )


def _workers(text: str, ray: str | None) -> int:
    if text == "auto" and ray is not None:
        return 0  # one a CPU of the cluster
    if text == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--workers: expected a number of processes or auto, found {text!r}")
    return int(text)

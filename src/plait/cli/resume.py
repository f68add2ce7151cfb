"""`plait resume`: goes on with a batch as it began, but for what is given anew."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from plait.app import find_app, settings_of
from plait.batches import BatchOptions, OldBatch
from plait.batches.entrances import EXPERIMENT
from plait.batches.openings import app_folder
from plait.cli.batch import check_home, flagged, open_for_rows, pause_values
from plait.cli.options import Limits, OutputFlags, PauseFlags
from plait.cli.sittings import Sitting
from plait.errors import BatchNotFound
from plait.experiments.openings import stored_scoring
from plait.exports import check_target
from plait.process import run_loop
from plait.sections import BOUNDS
from plait.settings import Settings
from plait.store.places import Place, Shelf, shelf_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says, as it says it."""

    batch: str | None
    output: OutputFlags
    pauses: PauseFlags
    limits: Limits
    errors_only: bool = False
    force: bool = False
    debug: bool = False


def go_on(options: Options) -> int:
    """Go on with a batch; returns the exit code. Raises PlaitError where it cannot begin."""
    around = settings_of(find_app())
    place = _place(shelf_of(around), options)
    with place.read() as reader:
        meta, ended = reader.meta, sum(reader.counts().values())
    settings = replace(_settings(meta, options.limits), home=around.home, store=around.store)  # where it was found
    check_home(settings)
    target, shown = _target(meta, options)
    values = pause_values(options.pauses)
    with flagged({each.name for each in fields(BatchOptions)}):
        batch_options = replace(BatchOptions.from_json(meta.get("options")), **values)  # type: ignore[arg-type]
    wanted = OldBatch(
        id=place.id,
        options=batch_options,
        errors_only=options.errors_only,
        force=options.force,
        settings=settings,
    )
    conclude = None
    if EXPERIMENT in meta:
        from plait.cli.experiments.endings import of_stored  # numpy and scipy

        wanted = replace(wanted, scoring=stored_scoring(place.info()))
        conclude = of_stored(meta, settings, sys.stdout).conclude
    sitting = Sitting(
        wanted=wanted,
        options=batch_options,
        settings=settings,
        out=sys.stdout,
        target=target,
        shown_target=shown,
        prints_rows=conclude is None,
        conclude=conclude,
        wait=options.pauses.wait,
        all_ended=meta.get("total") == ended,
        quiet=options.output.quiet,
        debug=options.debug,
    )

    async def run() -> int:
        if target is not None and str(target) != meta.get("out"):
            await _keep_target(place, target)
        return await sitting.follow()

    # What nodes print must not mix with results.
    with contextlib.redirect_stdout(sys.stderr):
        return run_loop(run())


def _place(shelf: Shelf, options: Options) -> Place:
    if options.batch is None and options.errors_only:
        for batch in shelf.batches():
            if sum(batch.counts.values()) > batch.counts.get("success", 0) and batch.status != "running":
                return batch.place
        raise BatchNotFound("there is no batch with failed rows; `plait batches` lists all there are")
    return shelf.find(options.batch)


def _settings(meta: Mapping[str, object], limits: Limits) -> Settings:
    """Those that the batch began with, as far as it keeps them, and the limits given now."""
    model, bounds = meta.get("model"), meta.get("bounds")
    _, settings = open_for_rows(app_folder(meta), model if isinstance(model, str) else None, Limits())
    if isinstance(bounds, Mapping):
        settings = settings.override(**{name: bounds.get(name) for name in BOUNDS})
    return settings.override(**limits.given())


def _target(meta: Mapping[str, object], options: Options) -> tuple[Path | None, str]:
    given, stored = options.output.out, meta.get("out")
    if given is not None:
        own = isinstance(stored, str) and given.expanduser().resolve() == Path(stored)
        return check_target(given, force=own or options.force), str(given)
    if not isinstance(stored, str):
        return None, ""
    # It holds this batch's own results of before.
    return check_target(Path(stored), force=True), stored


async def _keep_target(place: Place, target: Path) -> None:
    """Make `target` the batch's own, before it runs: the next resume writes it, too, however this one ends."""
    store = await place.open()
    try:
        await store.put_meta({"out": str(target)})
    finally:
        await store.close()

"""`plait resume`: goes on with a batch as it began, but for what is given anew."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from plait.batches import BatchOptions, OldBatch
from plait.cli.batch import check_home, flagged, open_for_rows, pause_values
from plait.cli.options import Limits, OutputFlags, PauseFlags
from plait.cli.sittings import Sitting
from plait.errors import BatchNotFound
from plait.exports import check_target
from plait.process import run_loop
from plait.sections import BOUNDS
from plait.settings import Settings, from_env
from plait.store.folders import find_batch, list_batches
from plait.store.readers import BatchReader


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
    folder = _folder(from_env().home, options)
    with BatchReader(folder) as reader:
        meta = reader.meta
    settings = _settings(meta, options.limits)
    check_home(settings)
    target, shown = _target(meta, options)
    values = pause_values(options.pauses)
    with flagged({each.name for each in fields(BatchOptions)}):
        batch_options = replace(BatchOptions.from_json(meta.get("options")), **values)  # type: ignore[arg-type]
    sitting = Sitting(
        wanted=OldBatch(
            id=folder.name,
            options=batch_options,
            errors_only=options.errors_only,
            force=options.force,
            settings=settings,
        ),
        options=batch_options,
        settings=settings,
        out=sys.stdout,
        target=target,
        shown_target=shown,
        wait=options.pauses.wait,
        quiet=options.output.quiet,
        debug=options.debug,
    )
    # What nodes print must not mix with results.
    with contextlib.redirect_stdout(sys.stderr):
        return run_loop(sitting.follow())


def _folder(home: Path, options: Options) -> Path:
    if options.batch is None and options.errors_only:
        for batch in list_batches(home):
            if sum(batch.counts.values()) > batch.counts.get("success", 0) and batch.status != "running":
                return batch.folder
        raise BatchNotFound("there is no batch with failed rows; `plait batches` lists all there are")
    return find_batch(home, options.batch)


def _settings(meta: Mapping[str, object], limits: Limits) -> Settings:
    """Those that the batch began with, as far as it keeps them, and the limits given now."""
    directory, model, bounds = meta.get("app"), meta.get("model"), meta.get("bounds")
    _, settings = open_for_rows(
        Path(directory) if isinstance(directory, str) else None,
        model if isinstance(model, str) else None,
        Limits(),
    )
    if isinstance(bounds, Mapping):
        settings = settings.override(**{name: bounds.get(name) for name in BOUNDS})
    return settings.override(**limits.given())


def _target(meta: Mapping[str, object], options: Options) -> tuple[Path | None, str]:
    if options.output.out is not None:
        return check_target(options.output.out, force=options.force), str(options.output.out)
    stored = meta.get("out")
    if not isinstance(stored, str):
        return None, ""
    # It holds this batch's own results of before.
    return check_target(Path(stored), force=True), stored

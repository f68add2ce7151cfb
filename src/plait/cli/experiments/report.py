"""`plait report`: one experiment, alone or against another, on the terminal, as JSON or as an HTML file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plait.batches.rows import known_keys
from plait.cli.apps import open_app
from plait.cli.durations import size
from plait.cli.experiments.tables import terminal
from plait.cli.experiments.words import comparison_brief, experiment_json, experiment_page
from plait.cli.values import clean
from plait.errors import BatchNotFound, InputError, SettingsError
from plait.experiments.comparisons import compare
from plait.experiments.findings import Comparison, Metric, Totals
from plait.experiments.metrics import metrics, totals
from plait.experiments.readings import find_experiment, read_experiment
from plait.experiments.records import Experiment
from plait.experiments.thresholds import ThresholdCheck, check_thresholds
from plait.json_values import dumps
from plait.process import run_loop
from plait.reports import ReportInput, write_report
from plait.settings import Settings
from plait.store.places import Shelf, shelf_of

__all__ = ["Options", "Shown", "check_html", "show_report", "write_html"]

_NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As the command line gives them."""

    name: str
    html: Path | None = None
    against: str | None = None
    """None: the experiment whose answers it reused; `none`: no other."""
    force: bool = False
    as_json: bool = False
    langsmith: bool = False
    """Send it to LangSmith instead of showing it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An experiment and all that was computed from it."""

    experiment: Experiment
    metrics: Sequence[Metric]
    totals: Totals
    checks: Sequence[ThresholdCheck]
    comparison: Comparison | None = None
    before: Experiment | None = None

    @classmethod
    def of(
        cls, experiment: Experiment, *, comparison: Comparison | None = None, before: Experiment | None = None
    ) -> Shown:
        """With its scores computed. Raises SettingsError without scipy."""
        found = metrics(experiment)
        return cls(
            experiment=experiment,
            metrics=found,
            totals=totals(experiment),
            checks=check_thresholds(experiment, found),
            comparison=comparison,
            before=before,
        )


def show_report(options: Options) -> int:
    """Print what is known of an experiment, or write it to the file that is wished; returns the exit code.

    Raises BatchNotFound, InputError, StoreError, and SettingsError without scipy or for the file.
    """
    target = check_html(options.html, force=options.force)
    _, settings = open_app(None)
    batch = find_experiment(shelf_of(settings), options.name)
    experiment = read_experiment(batch)
    if options.langsmith:
        from plait.cli.experiments.sending import check_key, send  # langsmith

        check_key(settings)
        run_loop(send(experiment, settings))
        return 0
    before, comparison = _compared(experiment, options, shelf_of(settings))
    shown = Shown.of(experiment, comparison=comparison, before=before)
    if options.as_json:
        told = experiment_json(experiment, shown.metrics, shown.totals, shown.checks, comparison)
        sys.stdout.write(f"{dumps(told, indent=2)}\n")
    elif target is None:
        console = terminal()
        console.print(experiment_page(experiment, shown.metrics, shown.totals, shown.checks, runs=batch.total))
        if comparison is not None:
            console.print(comparison_brief(comparison))
    if target is not None:
        sys.stdout.flush()
        write_html(target, shown, settings)
    return 0


def _compared(
    experiment: Experiment, options: Options, shelf: Shelf
) -> tuple[Experiment, Comparison] | tuple[None, None]:
    """The other experiment, where there is one that it can be compared with; on stderr which, or why not."""
    if options.against == _NONE or (options.against is None and experiment.reused is None):
        return None, None
    if options.against is not None:
        other = read_experiment(find_experiment(shelf, options.against))
        try:
            return other, compare(other, experiment)
        except InputError as error:
            ways = f"plait compare {options.against} {options.name} --intersect --html FILE"
            raise InputError(f"{error}: {ways}" if "--intersect" in str(error) else str(error)) from error
    assert experiment.reused is not None
    try:
        other = read_experiment(find_experiment(shelf, experiment.reused))
        comparison = compare(other, experiment)
    except (BatchNotFound, InputError) as error:
        _say(f"not compared with {experiment.reused}, whose answers it reused: {error}")
        return None, None
    _say(f"compared with {experiment.reused}, whose answers it reused (--against {_NONE}: alone)")
    return other, comparison


def _say(text: str) -> None:
    sys.stderr.write(f"{clean(text)}\n")
    sys.stderr.flush()


# --- the file ------------------------------------------------------------------------------------------


def check_html(file: Path | None, *, force: bool) -> Path | None:
    """The absolute path, if a report can be written there; for the time before anything is read. Blocks: files.

    Raises InputError for --force without a file, and SettingsError: another suffix, no such folder, not writable, or
    exists without `force`.
    """
    if file is None:
        if force:
            raise InputError("--force replaces the file of --html: expected --html FILE, found none")
        return None
    if file.suffix.lower() not in (".html", ".htm"):
        raise SettingsError(f"cannot write {file}: expected a name ending in .html, found {file.suffix or 'none'}")
    target = file.expanduser().resolve()
    if target.exists() and not target.is_file():
        raise SettingsError(f"cannot write {file}: it is no regular file; choose another name")
    if target.exists() and not force:
        raise SettingsError(f"{file} exists: choose another name, or replace it with --force")
    if not target.parent.is_dir():
        raise SettingsError(f"cannot write {file}: there is no folder {target.parent}; make it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise SettingsError(f"cannot write {file}: permission denied; choose a folder you may write to")
    return target


def write_html(target: Path, shown: Shown, settings: Settings) -> None:
    """Write the report, and say on stderr where it is and how large. Raises StoreError."""
    report = ReportInput(
        experiment=shown.experiment,
        metrics=shown.metrics,
        totals=shown.totals,
        comparison=shown.comparison,
        before=shown.before,
        thresholds=[(check.sentence, check.met) for check in shown.checks],
        generated_at=time.time(),
        keys=sorted(known_keys(settings)),
    )
    write_report(report, target)
    _say(f"wrote {target} ({size(target.stat().st_size)})")

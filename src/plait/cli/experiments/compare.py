"""`plait compare`: what one experiment shows against another, on the terminal, as JSON or as an HTML file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from plait.cli.apps import open_app
from plait.cli.experiments.report import Shown, check_html, write_html
from plait.cli.experiments.tables import terminal
from plait.cli.experiments.words import comparison_page
from plait.errors import InputError
from plait.experiments.comparisons import compare
from plait.experiments.readings import find_experiment, read_experiment
from plait.json_values import dumps
from plait.store.places import shelf_of

__all__ = ["Options", "show_comparison"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As the command line gives them."""

    before: str
    after: str
    intersect: bool = False
    examples: int = 5
    """How many that flipped are shown of each score."""
    html: Path | None = None
    force: bool = False
    as_json: bool = False


def show_comparison(options: Options) -> int:
    """Print what differs and write the file that is wished; returns the exit code, 0 whatever the verdict.

    Raises BatchNotFound, InputError over different examples, StoreError, and SettingsError without scipy.
    """
    if options.examples < 0:
        raise InputError(f"--examples: expected 0 or more, found {options.examples}")
    target = check_html(options.html, force=options.force)
    _, settings = open_app(None)
    batches = [find_experiment(shelf_of(settings), name) for name in (options.before, options.after)]
    before, after = map(read_experiment, batches)
    found = compare(before, after, intersect=options.intersect)
    if options.as_json:
        sys.stdout.write(f"{dumps(found, indent=2)}\n")
    else:
        page = comparison_page(found, experiment=after, before=before, examples=options.examples)
        terminal().print(page)
    if target is not None:
        sys.stdout.flush()
        write_html(target, Shown.of(after, comparison=found, before=before), settings)
    return 0

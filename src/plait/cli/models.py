"""`plait models` and `plait models pull`: what can be named, and the embedded model's weights fetched."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from plait.app import App
from plait.cli.apps import open_app
from plait.json_values import dumps
from plait.masking import masked
from plait.models import EMBEDDED_MODEL, ModelInfo, describe_models
from plait.settings import Settings
from plait.weights import WEIGHTS, find, known, pull


def show_models(directory: Path | None, *, as_json: bool) -> int:
    """Print what `--model` can name; returns the exit code."""
    _, settings = open_app(directory)
    models = [_as_shown(model) for model in describe_models(settings)]
    console = Console(highlight=False)
    if as_json:
        sys.stdout.write(f"{dumps({'model': settings.model, 'models': models}, indent=2)}\n")
        return 0
    for model in models:
        console.print(Text(model.name, style="bold"), soft_wrap=True)
        lines = [model.base_url, f"key {model.key}", model.note]
        console.print(Text("\n".join(f"  {line}" for line in lines if line)), soft_wrap=True)
    chosen = settings.model or f"none; `plait run` uses {EMBEDDED_MODEL}"
    sys.stderr.write(f"model: {chosen} (change it with --model or PLAIT_MODEL)\n")
    return 0


def _as_shown(model: ModelInfo) -> ModelInfo:
    note = model.note
    if model.name.startswith("local:") and importlib.util.find_spec("xllamacpp") is None:
        note = f"{note.removesuffix(', ready')}; the runtime is missing: pip install xllamacpp"
    return replace(model, base_url=masked(model.base_url), note=note)


def pull_weights(name: str | None, directory: Path | None) -> int:
    """Fetch the weights of one embedded model, or of all; returns the exit code."""
    _, settings = open_app(directory)
    for each in [name.removeprefix("local:")] if name else list(WEIGHTS):
        weights = known(each)
        sys.stderr.write(f"{each}: {weights.source}, {weights.licence}\n")
        sys.stdout.write(f"{fetch(each, settings)}\n")
    return 0


def fetch_embedded(app: App, settings: Settings) -> None:
    """Fetch the embedded model's weights where a run will need them and they are not there."""
    if settings.model is None and not app.bundled:
        return  # a foreign app brings its own models; where it asks for ours, the error names the cure
    endpoint, _, name = (settings.model or EMBEDDED_MODEL).partition(":")
    if endpoint == "local" and name in WEIGHTS and find(name, settings) is None:
        sys.stderr.write(f"fetching the embedded model {name}, once\n")
        fetch(name, settings)


def fetch(name: str, settings: Settings) -> Path:
    """`weights.pull`, with a progress bar on a terminal and a line for each quarter elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        return pull(name, settings, progress=_Quarters(name))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task(name, total=known(name).size_bytes)
        return pull(name, settings, progress=lambda done, total: bar.update(row, completed=done, total=total))


class _Quarters:
    def __init__(self, name: str) -> None:
        self._name = name
        self._said = -1

    def __call__(self, done: int, total: int) -> None:
        quarter = 4 * done // max(total, 1)
        if quarter > self._said:
            self._said = quarter
            sys.stderr.write(f"{self._name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB\n")
            sys.stderr.flush()

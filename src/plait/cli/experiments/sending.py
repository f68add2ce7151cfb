"""`--langsmith`: sends an experiment to LangSmith and says where it is."""

from __future__ import annotations

import sys

from plait.cli.values import clean
from plait.errors import SettingsError
from plait.experiments.langsmith.calls import KEYS, key_in
from plait.experiments.langsmith.uploads import upload_experiment
from plait.experiments.records import Experiment
from plait.settings import Settings

__all__ = ["check_key", "send"]


def check_key(settings: Settings) -> None:
    """Raise SettingsError where there is no key to send with."""
    if key_in(settings.langsmith) is None:
        raise SettingsError(f"--langsmith: expected a key of LangSmith, found none: set {KEYS[0]}")


async def send(experiment: Experiment, settings: Settings) -> None:
    """Send it; raises as `upload_experiment` does. Sending it again changes nothing."""
    upload = await upload_experiment(experiment, settings=settings)
    said = f"sent to LangSmith: {upload.runs:,} runs, {upload.feedback:,} scores, dataset {upload.dataset}"
    if upload.examples_changed:
        said += f" ({upload.examples_changed:,} examples are different there and were left)"
    sys.stderr.write(clean(said) + (f"\n{clean(upload.url)}" if upload.url else "") + "\n")
    sys.stderr.flush()

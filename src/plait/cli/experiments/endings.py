"""What `plait eval` does when all runs have ended: scores on stdout, thresholds, baseline, exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from plait.app import App, find_app
from plait.batches import Batch
from plait.batches.openings import app_folder
from plait.cli import exits
from plait.cli.experiments.sending import send
from plait.cli.experiments.tables import terminal
from plait.cli.experiments.words import comparison_brief, experiment_json, experiment_page
from plait.errors import PlaitError
from plait.experiments.baselines import read_baseline, write_baseline
from plait.experiments.comparisons import compare
from plait.experiments.endings import conclude
from plait.experiments.findings import Comparison
from plait.experiments.metrics import metrics, totals
from plait.experiments.readings import find_experiment, notes_of, read_experiment
from plait.experiments.records import Experiment
from plait.experiments.thresholds import ThresholdCheck, check_thresholds
from plait.json_values import dumps
from plait.settings import Settings
from plait.store.places import shelf_of

ENDING = "ending"
"""The key under which a batch keeps its Wishes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is to be done with an experiment when it has ended, kept with it: a resume does it, too."""

    baseline: str | None = None
    """What it is held against: a baseline's whole path, or an experiment's id."""
    update: str | None = None
    """The file that is to become its baseline."""
    langsmith: bool = False
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an experiment is told and judged."""

    app: App | None
    out: TextIO
    wishes: Wishes
    summary_evaluators: Sequence[object] = ()
    baseline: Experiment | None = None

    async def conclude(self, batch: Batch, code: int) -> int:
        """Tell what came out; returns the exit code. A Sitting's `conclude`."""
        experiment = await conclude(batch.place, self.summary_evaluators, app=self.app, settings=batch.settings)
        code = await asyncio.to_thread(self._tell, experiment, code)
        if not self.wishes.langsmith:
            return code
        try:
            await send(experiment, batch.settings)
        except PlaitError as error:
            exits.say(f"{error}\nthe experiment is kept; send it again: plait report {experiment.id} --langsmith")
            return code or exits.FAILED
        return code

    def _tell(self, experiment: Experiment, code: int) -> int:
        found, sums = metrics(experiment), totals(experiment)
        checks = check_thresholds(experiment, found)
        comparison = compare(self.baseline, experiment) if self.baseline is not None else None
        if self.wishes.as_json:
            told = experiment_json(experiment, found, sums, checks, comparison)
            self.out.write(f"{dumps(told, indent=2)}\n")
        else:
            console = terminal(self.out)
            console.print(experiment_page(experiment, found, sums, checks))
            if comparison is not None:
                console.print(comparison_brief(comparison))
        self.out.flush()
        code = code or self._judged(experiment, checks, comparison)
        if self.wishes.update is not None and code:
            exits.say(f"the baseline {self.wishes.update} was left as it was")
        elif self.wishes.update is not None:
            write_baseline(experiment, Path(self.wishes.update))
            exits.say(f"wrote the baseline {self.wishes.update}; commit it with what it belongs to")
        return code

    def _judged(self, experiment: Experiment, checks: Sequence[ThresholdCheck], comparison: Comparison | None) -> int:
        """The exit code, and on stderr what failed it."""
        wrong = [check.sentence for check in checks if not check.met]
        if comparison is not None:
            worse = [metric.sentence for metric in comparison.metrics if metric.verdict == "worse"]
            wrong += [f"worse than the baseline: {sentence}" for sentence in (*comparison.lost, *worse)]
        if experiment.runs and all(run.status != "success" for run in experiment.runs):
            wrong.append(f"none of its {len(experiment.runs):,} runs succeeded; plait show {experiment.id}")
        if wrong:
            exits.say("\n".join(wrong))
        return exits.FAILED if wrong else 0


def of_stored(meta: Mapping[str, object], settings: Settings, out: TextIO) -> Ending:
    """How an experiment that is gone on with is told: as it was begun. Raises as `read_held`. Blocks: files."""
    folder, stored = app_folder(meta), meta.get(ENDING)
    wishes = Wishes(**stored) if isinstance(stored, dict) else Wishes()
    return Ending(
        app=find_app(folder) if folder is not None else None,
        out=out,
        wishes=wishes,
        summary_evaluators=notes_of(meta).get("summary_evaluators") or (),
        baseline=None if wishes.baseline is None else read_held(wishes.baseline, settings),
    )


def read_held(baseline: str, settings: Settings) -> Experiment:
    """What an experiment is held against. Raises InputError and BatchNotFound. Blocks: files."""
    if baseline.endswith(".json"):
        return read_baseline(Path(baseline))
    return read_experiment(find_experiment(shelf_of(settings), baseline))

"""What `plait eval` does when all runs have ended: scores on stdout, thresholds, baseline, exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from plait.app import App, find_app
from plait.batches import Batch
from plait.cli import exits
from plait.cli.experiments.sending import send
from plait.cli.experiments.tables import terminal
from plait.cli.experiments.words import comparison_brief, experiment_json, experiment_page
from plait.errors import PlaitError
from plait.experiments.baselines import write_baseline
from plait.experiments.comparisons import compare
from plait.experiments.endings import conclude
from plait.experiments.findings import Comparison
from plait.experiments.metrics import metrics, totals
from plait.experiments.readings import notes_of
from plait.experiments.records import Experiment
from plait.experiments.thresholds import ThresholdCheck, check_thresholds
from plait.json_values import dumps
from plait.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an experiment is to be told and judged."""

    app: App | None
    out: TextIO
    summary_evaluators: Sequence[object] = ()
    baseline: Experiment | None = None
    update: Path | None = None
    """The file that is to become its baseline."""
    langsmith: Settings | None = None
    """Send it to LangSmith with the key in these."""
    as_json: bool = False

    async def conclude(self, batch: Batch, code: int) -> int:
        """Tell what came out; returns the exit code. A Sitting's `conclude`."""
        experiment = await conclude(batch.folder, self.summary_evaluators, app=self.app)
        code = await asyncio.to_thread(self._tell, experiment, code)
        if self.langsmith is None:
            return code
        try:
            await send(experiment, self.langsmith)
        except PlaitError as error:
            exits.say(f"{error}\nthe experiment is kept; send it again: plait report {experiment.id} --langsmith")
            return code or exits.FAILED
        return code

    def _tell(self, experiment: Experiment, code: int) -> int:
        found, sums = metrics(experiment), totals(experiment)
        checks = check_thresholds(experiment, found)
        comparison = compare(self.baseline, experiment) if self.baseline is not None else None
        if self.as_json:
            told = experiment_json(experiment, found, sums, checks, comparison)
            self.out.write(f"{dumps(told, indent=2)}\n")
        else:
            console = terminal(self.out)
            console.print(experiment_page(experiment, found, sums, checks))
            if comparison is not None:
                console.print(comparison_brief(comparison))
        self.out.flush()
        if self.update is not None:
            write_baseline(experiment, self.update)
            exits.say(f"wrote the baseline {self.update}; commit it with what it belongs to")
        return code or self._judged(experiment, checks, comparison)

    def _judged(self, experiment: Experiment, checks: Sequence[ThresholdCheck], comparison: Comparison | None) -> int:
        """The exit code, and on stderr what failed it."""
        wrong = [check.sentence for check in checks if not check.met]
        worse = comparison.metrics if comparison is not None else ()
        wrong += [f"worse than the baseline: {metric.sentence}" for metric in worse if metric.verdict == "worse"]
        if experiment.runs and all(run.status != "success" for run in experiment.runs):
            wrong.append(f"none of its {len(experiment.runs):,} runs succeeded; plait show {experiment.id}")
        if wrong:
            exits.say("\n".join(wrong))
        return exits.FAILED if wrong else 0


def of_stored(meta: Mapping[str, object], out: TextIO) -> Ending:
    """How an experiment that is gone on with is told. Baselines belong to the command line that began it."""
    app = meta.get("app")
    return Ending(
        app=find_app(Path(app)) if isinstance(app, str) else None,
        out=out,
        summary_evaluators=notes_of(meta).get("summary_evaluators") or (),
    )

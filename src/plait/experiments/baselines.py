"""Baselines: the scores of an experiment as a file that is kept with the app, for later ones to be compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from plait.app import App
from plait.errors import InputError, SettingsError
from plait.experiments.latencies import latency_s
from plait.experiments.records import Experiment, Origin
from plait.experiments.stored_runs import decode, encode
from plait.json_values import to_json
from plait.store.rows import RowError, RowRecord

__all__ = ["baseline_file", "read_baseline", "write_baseline"]

_FORMAT = 1


def baseline_file(app: App, definition: str) -> Path:
    """Where the baseline of a declared experiment lies: eval/baselines/NAME.json of the app."""
    return app.root / "eval" / "baselines" / f"{definition}.json"


def write_baseline(experiment: Experiment, file: Path) -> None:
    """Write scores, costs and examples of every run, a line each, so that changes can be reviewed; no outputs.

    Raises SettingsError where it cannot be written. Blocks: files.
    """
    head = {
        "format": _FORMAT,
        "id": experiment.id,
        "name": experiment.name,
        "definition": experiment.definition,
        "workflow": experiment.workflow,
        "created_at": experiment.created_at,
        "repetitions": experiment.repetitions,
        "cluster": experiment.cluster,
        "node": experiment.node,
        "origin": asdict(experiment.origin),
    }
    runs = []
    for run in experiment.runs:
        bare = replace(run, nodes=(), tools=(), scores=tuple(replace(score, metadata={}) for score in run.scores))
        lower = {score.key for score in run.scores} & experiment.lower_is_better
        error = None if run.error is None else {"type": run.error.type, "message": run.error.message}
        outer = {"position": run.position, "status": run.status, "error": error, "duration_s": round(latency_s(run), 6)}
        runs.append(outer | {"usage": dict(run.usage)} | encode(bare, lower_is_better=sorted(lower)))
    lines = ",\n".join(f"  {json.dumps(to_json(run), ensure_ascii=False)}" for run in runs)
    inner = json.dumps(to_json(head), ensure_ascii=False, indent=1).rstrip("}").rstrip()
    text = f'{inner},\n "runs": [\n{lines}\n ]\n}}\n'
    beside = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        raise SettingsError(f"cannot write the baseline {file}: {error.strerror}; give an app of your own") from error


def read_baseline(file: Path) -> Experiment:
    """The experiment that a baseline holds; its runs have no outputs. Raises InputError. Blocks: files."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(told, dict) or told.get("format") != _FORMAT:
            found = told.get("format") if isinstance(told, dict) else type(told).__name__
            raise InputError(
                f"{file}: expected a baseline of format {_FORMAT}, found {found!r}; "
                "write it anew with --update-baseline"
            )
        return _experiment(told, file)
    except OSError as error:
        raise InputError(f"cannot read the baseline {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: expected a baseline, found {type(error).__name__}: {error}; write it anew with --update-baseline"
        ) from error


def _experiment(told: Mapping[str, Any], file: Path) -> Experiment:
    decoded = [decode(_row(run)) for run in told["runs"]]
    lower: frozenset[str] = frozenset().union(*(keys for _, keys in decoded))
    return Experiment(
        id=str(told["id"]),
        name=str(told["name"]),
        definition=str(told["definition"]),
        workflow=str(told["workflow"]),
        place=str(file.parent),
        status="finished",
        created_at=float(told["created_at"]),
        repetitions=int(told["repetitions"]),
        runs=tuple(run for run, _ in decoded),
        lower_is_better=lower,
        cluster=told.get("cluster"),
        node=told.get("node"),
        origin=Origin(**told["origin"]),
    )


def _row(run: Mapping[str, Any]) -> RowRecord:
    error = run.get("error")
    return RowRecord(
        int(run["position"]),
        str(run["example"]["id"]),
        str(run["status"]),
        error=RowError(str(error["type"]), str(error["message"])) if error else None,
        usage=cast("Mapping[str, object]", run["usage"]),
        duration_s=float(run["duration_s"]),
        evaluation=run,
    )

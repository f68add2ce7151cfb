"""Evaluators, as the rest of plait uses them: made, loaded by name, and asked about a run."""

from __future__ import annotations

from plait.experiments.evaluators.forms import Evaluator, evaluator, failure_of
from plait.experiments.evaluators.rounds import Around, Outcome, score_all
from plait.experiments.evaluators.specs import describe, load_evaluator, load_evaluators, load_summary_evaluator

__all__ = [
    "Around",
    "Evaluator",
    "Outcome",
    "describe",
    "evaluator",
    "failure_of",
    "load_evaluator",
    "load_evaluators",
    "load_summary_evaluator",
    "score_all",
]

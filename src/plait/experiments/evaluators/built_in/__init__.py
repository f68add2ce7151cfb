"""Evaluators that need no code of the user's, by the names that experiments.toml calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from plait.experiments.evaluators.built_in.judges import judge
from plait.experiments.evaluators.built_in.numbers import cost_usd, latency_s, numeric, tokens
from plait.experiments.evaluators.built_in.similarities import similarity
from plait.experiments.evaluators.built_in.structures import json_schema
from plait.experiments.evaluators.built_in.texts import contains, edit_distance, exact, regex
from plait.experiments.evaluators.built_in.trajectories import trajectory
from plait.experiments.evaluators.forms import Evaluator

__all__ = [
    "FACTORIES",
    "contains",
    "cost_usd",
    "edit_distance",
    "exact",
    "json_schema",
    "judge",
    "latency_s",
    "numeric",
    "regex",
    "similarity",
    "tokens",
    "trajectory",
]

FACTORIES: Mapping[str, Callable[..., Evaluator]] = MappingProxyType(
    {
        factory.__name__: factory
        for factory in (
            exact,
            contains,
            regex,
            json_schema,
            numeric,
            edit_distance,
            similarity,
            judge,
            latency_s,
            cost_usd,
            tokens,
            trajectory,
        )
    }
)
"""By name; their parameters are the options of a table in experiments.toml."""

"""Quantiles and tails of the distributions that are needed, by scipy's special functions.

scipy comes with the extra `eval`. `scipy.stats` has all of this too, and takes half a second more to import.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from plait.errors import SettingsError

__all__ = ["binomial_cdf", "t_quantile", "t_two_sided"]


def _special() -> ModuleType:
    try:
        return importlib.import_module("scipy.special")
    except ImportError as error:
        raise SettingsError(
            "the statistics of experiments need scipy, which is not installed: pip install 'plait[eval]'"
        ) from error


def t_quantile(probability: float, freedom: float) -> float:
    """Of Student's t with `freedom` degrees of freedom. Raises SettingsError where scipy is not installed."""
    return float(_special().stdtrit(freedom, probability))


def t_two_sided(t: float, freedom: float) -> float:
    """The probability that Student's t is at least as far from 0 as `t`. Raises SettingsError as `t_quantile`."""
    return min(1.0, 2 * float(_special().stdtr(freedom, -abs(t))))


def binomial_cdf(successes: int, n: int, probability: float) -> float:
    """The probability of at most so many successes. Raises SettingsError as `t_quantile`."""
    return float(_special().bdtr(float(successes), n, probability))

"""What p-values of several tests together mean: the correction by Holm."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["holm"]


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values adjusted for being several, in their order; each is at most 1.

    With p sorted upward, p[i] becomes max over j <= i of min(1, (m - j) * p[j]), j from 0: rejecting those at most
    alpha keeps the chance of any false rejection at alpha, whatever depends on what.
    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979). Raises ValueError for a value
    outside 0 to 1.
    """
    if bad := [p for p in p_values if not 0 <= p <= 1]:
        raise ValueError(f"expected p-values from 0 to 1, found {bad[0]}")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)

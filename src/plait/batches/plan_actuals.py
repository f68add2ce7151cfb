"""What the rows of a planned batch really cost and took."""

from __future__ import annotations

from array import array
from collections.abc import Collection

from plait.forecasts import Actual
from plait.store.readers import BatchReader


def actual_of(reader: BatchReader, without: Collection[int], *, with_pauses: bool = False) -> Actual:
    """The rows of a batch but for those at these positions. Blocks: reads of all results all but their outputs.

    Its time is that in which any row was in flight; `with_pauses`, from the first row's begin to the last one's end.
    Raises StoreError where the batch cannot be read.
    """
    rows = priced = tokens = attempts = failures = 0
    cost = 0.0
    begins, ends = array("d"), array("d")
    left_out = frozenset(without)
    for position, status, usage, duration_s, finished_at in reader.ends():
        if position in left_out:
            continue
        rows += 1
        paid = usage.get("cost_usd")
        if isinstance(paid, int | float):
            priced, cost = priced + 1, cost + paid
        tokens += _number(usage.get("input_tokens")) + _number(usage.get("output_tokens"))
        attempts += _number(usage.get("attempts"))
        failures += status != "success"
        begins.append(finished_at - duration_s)
        ends.append(finished_at)
    return Actual(
        cost_usd=cost if rows and priced == rows else None,
        tokens=tokens,
        calls=attempts,
        duration_s=_duration_s(begins, ends, with_pauses=with_pauses),
        failures=failures,
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _duration_s(begins: array[float], ends: array[float], *, with_pauses: bool) -> float:
    """How long at least one row was in flight, or from the first one's begin to the last one's end."""
    if not begins:
        return 0.0
    if with_pauses:
        return max(ends) - min(begins)
    whole, until = 0.0, min(begins)
    for begin, end in sorted(zip(begins, ends, strict=True)):
        whole += max(0.0, end - max(begin, until))
        until = max(until, end)
    return whole

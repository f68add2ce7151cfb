"""What the rows of a planned batch really cost and took."""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path

from plait.forecasts import Actual
from plait.store.batches import DATABASE
from plait.store.files import explained, open_to_read

_SUMS = """
SELECT count(*), sum(json_extract(usage, '$.cost_usd')), count(json_extract(usage, '$.cost_usd')),
       sum(json_extract(usage, '$.input_tokens') + json_extract(usage, '$.output_tokens')),
       sum(json_extract(usage, '$.attempts')), sum(status != 'success')
FROM results WHERE position NOT IN (SELECT value FROM json_each(?))
"""
_SPANS = """
SELECT finished_at - duration_s, finished_at FROM results
WHERE position NOT IN (SELECT value FROM json_each(?))
"""


def actual_of(folder: Path, without: Collection[int], *, with_pauses: bool = False) -> Actual:
    """The rows of the batch in `folder` but for those at these positions. Blocks: reads all results.

    Its time is that in which any row was in flight; `with_pauses`, from the first row's begin to the last one's end.
    Raises StoreError where the batch cannot be read.
    """
    positions = json.dumps(sorted(without))
    file = folder / DATABASE
    with closing(open_to_read(file)) as connection:
        try:
            rows, cost, priced, tokens, calls, failed = connection.execute(_SUMS, (positions,)).fetchone()
            duration_s = _duration_s(connection.execute(_SPANS, (positions,)), with_pauses=with_pauses)
        except sqlite3.Error as error:
            raise explained(file, error, "read") from error
    return Actual(
        cost_usd=cost if rows and priced == rows else None,
        tokens=tokens or 0,
        calls=calls or 0,
        duration_s=duration_s,
        failures=failed or 0,
    )


def _duration_s(spans: Iterable[tuple[float, float]], *, with_pauses: bool) -> float:
    """How long at least one span lasted, or from the first one's begin to the last one's end."""
    begins, ends = array("d"), array("d")
    for begin, end in spans:
        begins.append(begin)
        ends.append(end)
    if not begins:
        return 0.0
    if with_pauses:
        return max(ends) - min(begins)
    whole, until = 0.0, min(begins)
    for begin, end in sorted(zip(begins, ends, strict=True)):
        whole += max(0.0, end - max(begin, until))
        until = max(until, end)
    return whole

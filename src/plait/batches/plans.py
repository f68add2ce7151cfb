"""Plans a batch: runs a probe of its rows, forecasts the others, and says afterwards how right that was."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from plait.batches.entrances import NewBatch, OpenBatch
from plait.batches.openings import open_new
from plait.batches.plan_actuals import actual_of
from plait.batches.plan_limits import known_parts
from plait.batches.sessions import Session
from plait.errors import InputError, PlaitError
from plait.flow.budget_places import read_budget
from plait.flow.entries import Entry
from plait.flow.usage import Tokens
from plait.forecasts import Forecast, Interval, ModelUse, Plan, ProbeRow, compare, forecast
from plait.settings import Settings
from plait.store.readers import BatchReader
from plait.store.rows import RowRecord

_INTERVALS = ("cost_usd", "tokens", "calls", "duration_s", "failures")
# A process that has just begun imports, compiles and connects; that is no measure of what a row takes.
_WARM_UP_CPU_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What the probe's rows did, added up."""

    rows: int
    failed: int
    calls: int
    """Requests sent, retries included."""
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float | None
    """None where a model has no price."""
    duration_s: float
    errors: Mapping[str, int] = field(default_factory=dict)
    """Failed rows by kind, the most frequent first."""
    last_errors: Mapping[str, str] = field(default_factory=dict)
    positions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A batch whose probe is done: what that cost, and what the rows that are left will."""

    batch_id: str
    total: int
    """Rows of the batch, the probe's included."""
    probe: Probe
    forecast: Forecast
    """Of the rows that are left."""
    unpriced: tuple[str, ...] = ()
    """Models that the probe used and that have no price."""
    made_at: float = 0.0
    """Seconds since the epoch."""

    def to_json(self) -> dict[str, object]:
        """Plain values; intervals as low, likely and high."""
        return asdict(self)


async def plan(new: NewBatch, *, note: Callable[[str, int], None] | None = None) -> Planned:
    """Run the probe of a batch (`new.probe` rows, 20 by default), keep its results, and forecast the others.

    The batch is left as `planned`, with the forecast in its meta values: a resume runs the rows that are left. `note`
    is told the batch's id and how many rows of the probe have ended. Raises what opening a batch raises, and
    BatchPaused where the probe cannot go on. Cancelled, it leaves a paused batch, whose finished rows are kept.
    """
    if new.probe is not None and new.probe < 1:
        raise InputError(f"--probe: expected 1 row or more, found {new.probe}")
    # The probe is too few rows for several processes, which would tell this one nothing of what they learnt.
    here = replace(new, probe=new.probe or 20, options=replace(new.options, workers=0, ray=None))
    async with AsyncExitStack() as stack:
        opened = await open_new(here, stack)
        began, cpu_s = time.monotonic(), time.process_time()
        records: list[RowRecord] = []
        async with Session(opened) as session, aclosing(session.results()) as results:
            async for record in results:
                records.append(record)
                if note is not None:
                    note(opened.store.id, len(records))
        duration_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
        planned = await asyncio.to_thread(_look_ahead, opened, records, duration_s, cpu_s)
        await opened.store.put_meta({"forecast": planned.to_json(), "options": new.options.to_json()})
        return planned


def stored_plan(meta: Mapping[str, object]) -> Planned | None:
    """The plan of a batch, from its meta values; None where it has none, or one that cannot be read."""
    stored: Any = meta.get("forecast")
    if not isinstance(stored, Mapping):
        return None
    try:
        probe: dict[str, Any] = {**stored["probe"], "positions": tuple(stored["probe"]["positions"])}
        found: dict[str, Any] = {**stored["forecast"], "advice": tuple(stored["forecast"]["advice"])}
        for name in _INTERVALS:
            found[name] = None if found[name] is None else Interval(**found[name])
        return Planned(
            batch_id=str(stored["batch_id"]),
            total=int(stored["total"]),
            probe=Probe(**probe),
            forecast=Forecast(**found),
            unpriced=tuple(stored["unpriced"]),
            made_at=float(stored["made_at"]),
        )
    except (KeyError, TypeError, ValueError):
        return None  # of another version: no reason to fail where it is only to be shown


def comparison(reader: BatchReader) -> list[str] | None:
    """Lines of a table, forecast beside actual, once all rows of a planned batch have ended; else None.

    Reads the results: call it in a thread where an event loop runs.
    """
    meta = reader.meta
    planned = stored_plan(meta)
    if planned is None or meta.get("status") != "finished" or not planned.forecast.rows:
        return None
    waits = planned.forecast.binding.endswith("/day")
    return compare(planned.forecast, actual_of(reader, planned.probe.positions, with_pauses=waits))


def probe_row(record: RowRecord) -> ProbeRow:
    """What a stored row says for a forecast.

    Times are known of the row as a whole, so its models share them as they share its calls. A row whose calls waited
    at once for `waits` of `busy + waits` seconds would have taken that share less without the waits.
    """
    usage = record.usage
    calls = _numbers(usage.get("model_calls"))
    tokens: Any = usage.get("models")
    used = {str(model): Tokens(*counts) for model, counts in tokens.items()} if isinstance(tokens, Mapping) else {}
    waits_s, busy_s = _times(record.timings)
    attempts, whole = _number(usage.get("attempts")), sum(calls.values())
    models = {}
    for model in {**used, **calls}:
        share = calls.get(model, 0.0) / whole if whole else 0.0
        models[model] = ModelUse(round(attempts * share), used.get(model, Tokens()), busy_s * share)
    idle_s = waits_s * min(1.0, record.duration_s / (waits_s + busy_s)) if waits_s else 0.0
    return ProbeRow(models, max(0.0, record.duration_s - idle_s), record.status != "success")


def _look_ahead(opened: OpenBatch, records: Sequence[RowRecord], duration_s: float, cpu_s: float) -> Planned:
    workflow, total = opened.workflow, opened.store.meta.get("total")
    settings = workflow.settings
    assert isinstance(total, int), "all rows were read when the probe was drawn"
    if not records:
        raise InputError("a plan needs rows to look at: expected 1 row or more in the dataset, found none")
    endpoint = (settings.model or "").partition(":")[0] or None
    rows = [probe_row(record) for record in records]
    probe = _probe(records, duration_s)
    busy_s = cpu_s - _WARM_UP_CPU_S
    found = forecast(
        rows,
        Plan(
            max(0, total - len(rows)),
            known_parts(workflow.gate, _entries(settings), max_concurrency=settings.max_concurrency, wall=time.time()),
            process_rows_per_s=len(rows) / busy_s * max(1, opened.options.workers) if busy_s > 0 else None,
        ),
        lambda tokens: opened.prices.cost_usd(tokens, endpoint),
    )
    models = [model for row in rows for model, use in row.models.items() if use.tokens != Tokens()]
    return Planned(
        batch_id=opened.store.id,
        total=total,
        probe=probe,
        forecast=found,
        unpriced=tuple(opened.prices.unpriced(models, endpoint)),
        made_at=time.time(),
    )


def _probe(records: Sequence[RowRecord], duration_s: float) -> Probe:
    def total(name: str) -> int:
        return round(sum(_number(record.usage.get(name)) for record in records))

    costs = [record.usage.get("cost_usd") for record in records]
    priced = [cost for cost in costs if isinstance(cost, int | float)]
    errors = [record.error for record in records if record.error is not None]
    return Probe(
        rows=len(records),
        failed=sum(record.status != "success" for record in records),
        calls=total("attempts"),
        input_tokens=total("input_tokens"),
        cached_tokens=total("cached_tokens"),
        output_tokens=total("output_tokens"),
        cost_usd=sum(priced) if len(priced) == len(costs) else None,
        duration_s=duration_s,
        errors=dict(Counter(error.type for error in errors).most_common()),
        last_errors={error.type: error.message for error in errors},
        positions=tuple(sorted(record.position for record in records)),
    )


def _entries(settings: Settings) -> Mapping[str, Entry]:
    with contextlib.suppress(PlaitError):
        return read_budget(settings)[0]
    return {}


def _times(timings: Mapping[str, object]) -> tuple[float, float]:
    """Seconds that the calls of a row waited, and that they were in flight, added up over its nodes."""
    waits_s = busy_s = 0.0
    for timing in timings.values():
        if isinstance(timing, Mapping):
            waits_s += sum(_numbers(timing.get("waits")).values())
            busy_s += sum(_number(timing.get(part)) for part in ("connect_s", "first_token_s", "generation_s"))
    return waits_s, busy_s


def _numbers(found: object) -> dict[str, float]:
    return {str(key): _number(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _number(found: object) -> float:
    return float(found) if isinstance(found, int | float) else 0.0

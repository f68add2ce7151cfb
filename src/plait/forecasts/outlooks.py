"""The forecast itself: many draws of what the rows that are left may cost and take, and the interval they span.

Two populations that the probe may have come from are drawn from, a reweighted probe and a log-normal law, and the
interval reaches from the lowest to the highest of both: each alone covers less than 9 of 10 cases where the other
is at home. A draw has the uncertainty of the mean and the chance of the future rows themselves; small batches are
ruled by the second, large ones by the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from plait.errors import InputError
from plait.flow.usage import Tokens
from plait.forecasts.advices import Finding, advise
from plait.forecasts.durations import Hold, Part, Work, draw_drift, finish_s, holds_of, waited_s
from plait.forecasts.probes import Interval, LogNormal, Population, ProbeRow, Quantity, Resampled, draw_total, quantile

CostUsd = Callable[[Mapping[str, Tokens]], float | None]
"""USD for tokens by model; None where a model has no price."""

# A little more than 90 % of the draws: with a probe of 20 rows the draws themselves are somewhat too sure.
_OUTSIDE = 0.04
_PROCESS_SPREAD = 0.1
_GUESS_SPREAD = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do, and what is known to limit it."""

    rows: int
    parts: tuple[Part, ...] = ()
    process_rows_per_s: float | None = None
    """What the process (all its workers) can do when nothing else holds it up, as measured in the probe."""
    start_up_s: float = 0.0
    seed: int = 0
    draws: int = 600
    """Of each population."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What `rows` more rows will cost and take, each as an interval that holds in 9 of 10 cases."""

    rows: int
    cost_usd: Interval | None
    """None where a model has no price."""
    tokens: Interval
    calls: Interval
    duration_s: Interval
    failures: Interval
    """Rows that will fail."""
    binding: str
    """requests/min, tokens/min, concurrency, requests/day, tokens/day, this process, or nothing known yet."""
    binding_part: str
    """Whose limit it is: the part's name, or nothing."""
    advice: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Quantities:
    cost: Quantity | None
    tokens: Quantity
    calls: Quantity
    latency: Quantity
    duration: Quantity
    parts: tuple[tuple[Part, Quantity, Quantity, Quantity], ...]


@dataclass(slots=True)
class _Draws:
    cost: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    duration: list[float] = field(default_factory=list)


def forecast(probe: Sequence[ProbeRow], plan: Plan, cost_usd: CostUsd) -> Forecast:
    """Forecast `plan.rows` rows from the rows of a probe, which must be a random choice among all.

    Takes up to a second of CPU: call it in a thread where an event loop runs. The same arguments give the same answer.
    Raises InputError for a probe without rows, or a plan with a negative number of rows.
    """
    if not probe:
        raise InputError("a forecast needs rows that were run: expected a probe of 1 row or more, found none")
    if plan.rows < 0:
        raise InputError(f"expected 0 or more rows to forecast, found {plan.rows}")
    random = Random(plan.seed)  # noqa: S311 - simulation, no secret
    quantities = _quantities(probe, plan, cost_usd)
    all_draws, held = _draw_all(quantities, plan, random)
    (binding, part), _ = Counter((last[-1].limit, last[-1].part) for last in held).most_common(1)[0]
    means: dict[tuple[str, str], float] = {}
    for hold in (hold for once in held for hold in once):
        means[hold.limit, hold.part] = means.get((hold.limit, hold.part), 0.0) + hold.seconds / len(held)
    duration = _hull([draws.duration for draws in all_draws])
    finding = Finding(
        binding,
        part,
        means,
        duration,
        probe=probe,
        parts=plan.parts,
        rows=plan.rows,
        cached_saves=_saving(probe, cost_usd),
    )
    return Forecast(
        rows=plan.rows,
        cost_usd=None if quantities.cost is None else _hull([draws.cost for draws in all_draws]),
        tokens=_hull([draws.tokens for draws in all_draws]),
        calls=_hull([draws.calls for draws in all_draws]),
        duration_s=duration,
        failures=_failures(probe, plan, random),
        binding=binding,
        binding_part=part,
        advice=advise(finding),
    )


def _draw_all(known: _Quantities, plan: Plan, random: Random) -> tuple[list[_Draws], list[list[Hold]]]:
    """The draws of each population, and what held each up."""
    all_draws: list[_Draws] = []
    held: list[list[Hold]] = []
    for draw in (Resampled.draw, Resampled.draw_low, LogNormal.draw):
        draws = _Draws()
        populations = (draw(len(known.calls.values), random) for _ in range(plan.draws))
        held += [_draw_once(known, plan, population, draws, random) for population in populations]
        all_draws.append(draws)
    return all_draws, held


def _draw_once(known: _Quantities, plan: Plan, population: Population, draws: _Draws, random: Random) -> list[Hold]:
    """One draw of everything, appended to `draws`; returns what held it up, the one that binds last."""

    def total(quantity: Quantity) -> float:
        return draw_total(population.moments(quantity), plan.rows, random)

    if known.cost is not None:
        draws.cost.append(total(known.cost))
    calls = total(known.calls)
    draws.calls.append(calls)
    draws.tokens.append(total(known.tokens))
    drift = draw_drift(random)
    works = [(part, Work(total(c), total(t), total(s))) for part, c, t, s in known.parts]
    holds = [hold for part, work in works for hold in holds_of(part, work, drift, random)]
    if not holds:
        slots = len(known.duration.values) * random.lognormvariate(0.0, _GUESS_SPREAD)
        holds.append(Hold("nothing known yet", "", total(known.latency) * drift / max(1.0, slots)))
    if plan.process_rows_per_s:
        pace = plan.process_rows_per_s * random.lognormvariate(0.0, _PROCESS_SPREAD)
        holds.append(Hold("this process", "", plan.rows / pace))
    holds.sort(key=lambda hold: hold.seconds)
    base = holds[-1]
    rows = plan.rows
    seconds = 0.0
    if rows:
        seconds = drift * finish_s(
            rows,
            Hold(base.limit, base.part, base.seconds / drift),
            known.duration,
            population,
            calls_a_row=calls / rows,
            random=random,
        )
    for hold in (hold for part, work in works for hold in _parked(part, work, base.seconds)):
        if hold.seconds > holds[-1].seconds * 1.001:
            holds.append(hold)
    draws.duration.append(plan.start_up_s + seconds + holds[-1].seconds - base.seconds)
    return holds


def _parked(part: Part, work: Work, seconds: float) -> list[Hold]:
    """How long the day's quotas of a part make work take that would be done in `seconds`."""
    return [
        Hold(limit, part.name, waited_s(quota, amount, seconds))
        for limit, quota, amount in (
            ("requests/day", part.requests_per_day, work.calls),
            ("tokens/day", part.tokens_per_day, work.tokens),
        )
        if quota is not None
    ]


def _quantities(probe: Sequence[ProbeRow], plan: Plan, cost_usd: CostUsd) -> _Quantities:
    costs = [cost_usd({model: use.tokens for model, use in row.models.items()}) for row in probe]
    priced = [cost for cost in costs if cost is not None]

    def three(models: frozenset[str] | None) -> tuple[Quantity, Quantity, Quantity]:
        used = [[use for model, use in row.models.items() if models is None or model in models] for row in probe]
        return (
            Quantity.of([sum(use.calls for use in uses) for uses in used]),
            Quantity.of([sum(use.tokens.input + use.tokens.output for use in uses) for uses in used]),
            Quantity.of([sum(use.latency_s for use in uses) for uses in used]),
        )

    calls, tokens, latency = three(None)
    return _Quantities(
        cost=Quantity.of(priced) if len(priced) == len(costs) else None,
        tokens=tokens,
        calls=calls,
        latency=latency,
        duration=Quantity.of([row.duration_s for row in probe]),
        parts=tuple((part, *three(part.models)) for part in plan.parts),
    )


def _hull(draws: Sequence[list[float]]) -> Interval:
    ordered = [sorted(each) for each in draws]
    low = min(quantile(each, _OUTSIDE) for each in ordered)
    high = max(quantile(each, 1 - _OUTSIDE) for each in ordered)
    everything = sorted(value for each in draws for value in each)
    return Interval(low, quantile(everything, 0.5), high)


def _failures(probe: Sequence[ProbeRow], plan: Plan, random: Random) -> Interval:
    """By Jeffreys' interval for a share (Brown, Cai and DasGupta, Statistical Science 16, 2001)."""
    failed, fine = sum(row.failed for row in probe), sum(not row.failed for row in probe)
    shares = sorted(random.betavariate(failed + 0.5, fine + 0.5) for _ in range(plan.draws))
    low = quantile(shares, 0.05) if failed else 0.0
    high = quantile(shares, 0.95) if fine else 1.0
    return Interval(low * plan.rows, failed / len(probe) * plan.rows, high * plan.rows)


def _saving(probe: Sequence[ProbeRow], cost_usd: CostUsd) -> float:
    """The share of the cost that would be saved if all input came from the provider's cache, 0 where unknown."""
    now = best = 0.0
    for row in probe:
        cached = {
            model: Tokens(use.tokens.input, use.tokens.input, use.tokens.output) for model, use in row.models.items()
        }
        costs = cost_usd({model: use.tokens for model, use in row.models.items()}), cost_usd(cached)
        if costs[0] is None or costs[1] is None:
            return 0.0
        now, best = now + costs[0], best + costs[1]
    return 1 - best / now if now > 0 else 0.0

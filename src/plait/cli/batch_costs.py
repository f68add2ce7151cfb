"""What a stored batch was paid for, by model, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plait.flow.usage import Tokens
from plait.prices import Prices, load_prices
from plait.settings import Settings
from plait.store.readers import BatchReader, ModelTotals


@dataclass(frozen=True, slots=True)
class Spent:
    """Of one model; `cost_usd` is None where it has no price."""

    model: str
    totals: ModelTotals
    cost_usd: float | None


def prices_of(settings: Settings) -> Prices:
    """The prices that hold here. Raises SettingsError."""
    return load_prices(settings.prices, settings.prices_file)


def spent_by_model(reader: BatchReader, prices: Prices) -> list[Spent]:
    """By model, from the journals, or from the rows of a batch that keeps none. Reads them whole."""
    meta = reader.meta
    options, model = meta.get("options"), meta.get("model")
    endpoint = model.partition(":")[0] if isinstance(model, str) and ":" in model else None
    journal = not isinstance(options, Mapping) or bool(options.get("journal", True))
    found = reader.models() if journal else _of_rows(reader)
    spent = []
    for name, totals in found.items():
        tokens = Tokens(totals.input_tokens, totals.cached_tokens, totals.output_tokens)
        spent.append(Spent(name, totals, prices.cost_usd({name: tokens}, endpoint)))
    return spent


def cost_usd(spent: list[Spent]) -> float | None:
    """Together; None where a model has no price."""
    costs = [each.cost_usd for each in spent]
    return None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None)


def _of_rows(reader: BatchReader) -> dict[str, ModelTotals]:
    sums: dict[str, list[int]] = {}
    for row in reader.rows():
        models = row.usage.get("models")
        if not isinstance(models, Mapping):
            continue
        for model, counts in models.items():
            known = sums.setdefault(str(model), [0, 0, 0, 0])
            by_model = row.usage.get("model_calls")
            calls = by_model.get(model) if isinstance(by_model, Mapping) else None
            for index, number in enumerate([calls, *counts]):
                known[index] += number if isinstance(number, int) else 0
    return {
        model: ModelTotals(calls, found, cached, output, 0)
        for model, (calls, found, cached, output) in sorted(sums.items())
    }

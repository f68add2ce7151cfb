"""Built-in evaluators of numbers: an answer near its reference, and what a run took."""

from __future__ import annotations

import math

from plait.errors import InputError
from plait.experiments.evaluators.built_in.paths import pair_of, text_of
from plait.experiments.evaluators.forms import UNSCORED, Evaluator
from plait.experiments.evaluators.scores import MissingValue
from plait.experiments.latencies import latency_s as run_latency_s
from plait.experiments.records import CallTrace, ExampleRun, Score

__all__ = ["cost_usd", "latency_s", "numeric", "tokens"]


def numeric(
    *, tolerance: float = 0.0, relative: float = 0.0, output: str | None = None, reference: str | None = None
) -> Evaluator:
    """Passed where |output - reference| <= max(tolerance, relative * |reference|).

    Texts that are a number count as one (`1,234.5`, `12 %` as 12); an output that is none has not passed. `output` and
    `reference` are dotted paths (see `pair_of`). Raises InputError for a negative tolerance.
    """
    for name, value in (("tolerance", tolerance), ("relative", relative)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise InputError(f"numeric: {name}: expected a number of 0 or more, found {value!r}")

    def call(run: ExampleRun) -> Score:
        given, expected = pair_of(run, output, reference)
        wanted, found = _number(expected), _number(given)
        if wanted is None:
            raise MissingValue(f"expected a number as reference, found {text_of(expected)[:80]!r}")
        if found is None:
            return Score(score=False, comment=f"expected a number, found {text_of(given)[:80]!r}")
        allowed = max(tolerance, relative * abs(wanted))
        # Decimal fractions such as 0.3 - 0.2 miss their value by rounding.
        passed = abs(found - wanted) <= allowed or math.isclose(abs(found - wanted), allowed, rel_tol=1e-9)
        return Score(score=passed, comment=None if passed else f"expected {wanted:g}, found {found:g}")

    return Evaluator(name="numeric", call=call, way="inline", takes=frozenset({"outputs", "reference_outputs"}))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value if isinstance(value, int | float) else text_of(value).strip().rstrip("%").replace(",", ""))
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def latency_s() -> Evaluator:
    """How long the run took, in seconds, less the time it only waited for permits (see `latencies`); less is better.

    A run with replayed calls has none: what it took says nothing of the workflow, and counting it would make any
    experiment that reuses answers look quicker.
    """

    def call(run: ExampleRun) -> object:
        return UNSCORED if run.usage.get("replayed_calls") else run_latency_s(run)

    return Evaluator(name="latency_s", call=call, way="inline", lower_is_better=True)


def tokens() -> Evaluator:
    """Tokens that the run's models read and wrote, those of replayed calls as when they were paid; less is better.

    Without traces of the calls it is what the usage counts, and a run with replayed calls has no score then: usage
    counts what was paid now.
    """

    def call(run: ExampleRun) -> object:
        if calls := [call for node in run.nodes for call in node.calls]:
            return sum(call.input_tokens + call.output_tokens for call in calls)
        if run.usage.get("replayed_calls"):
            return UNSCORED
        counts = [run.usage.get("input_tokens"), run.usage.get("output_tokens")]
        known = [count for count in counts if isinstance(count, int)]
        if not known:
            raise MissingValue("expected the tokens of the run, found that its usage has none")
        return sum(known)

    return Evaluator(name="tokens", call=call, way="inline", lower_is_better=True)


def cost_usd() -> Evaluator:
    """What the run's model calls cost in dollars, replayed ones as when they were paid; less is better.

    A run with a model that has no price has no score, and a failure says which.
    """
    return Evaluator(name="cost_usd", call=_cost, way="inline", lower_is_better=True)


def _cost(run: ExampleRun) -> float:
    usage, replayed = run.usage, run.usage.get("replayed_calls")
    whole = usage.get("cost_usd")
    if not replayed and isinstance(whole, int | float):
        return float(whole)
    calls = [call for node in run.nodes for call in node.calls]
    if not calls and (usage.get("calls") or replayed):
        raise _unpriced(usage.get("models"))
    return sum(_price(call) for call in calls)


def _price(call: CallTrace) -> float:
    if call.cost_usd is None and not call.failed:
        raise _unpriced({call.model: 1})
    return call.cost_usd or 0.0


def _unpriced(models: object) -> MissingValue:
    names = ", ".join(map(repr, models)) if isinstance(models, dict) and models else "a model of this run"
    return MissingValue(
        f'expected a price, found none for {names}: add it to langgraph.json: "plait": {{"prices": ...}}'
    )

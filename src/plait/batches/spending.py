"""What a batch has spent, and whether another call may be."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from plait.errors import BudgetReached, SettingsError
from plait.flow.usage import Tokens
from plait.prices import Prices


class Spending:
    """Sums up paid answers and holds calls against a budget of dollars or tokens; any thread may use it.

    A call is counted with what it is expected to cost from the moment it is sent until its answer says what it did.
    """

    def __init__(
        self,
        prices: Prices,
        *,
        endpoint: str | None = None,
        budget_usd: float | None = None,
        budget_tokens: int | None = None,
        spent: Mapping[str, Tokens] | None = None,
    ) -> None:
        for name, value in (("budget_usd", budget_usd), ("budget_tokens", budget_tokens)):
            if value is not None and not value > 0:
                raise SettingsError(f"{name}: expected a number above 0, found {value:g}")
        self._prices = prices
        self._endpoint = endpoint
        self._budget_usd = budget_usd
        self._budget_tokens = budget_tokens
        self._lock = threading.Lock()
        self._spent: dict[str, Tokens] = dict(spent or {})
        self._expected: dict[str, Tokens] = {}
        self._elsewhere: dict[str, Tokens] = {}

    def check_model(self, model: str) -> None:
        """Raise BudgetReached where a budget in dollars cannot be held because the model has no price."""
        if self._budget_usd is not None and self._prices.price(model, self._endpoint) is None:
            raise BudgetReached(
                f"--budget-usd needs a price for {model}, and there is none: use --budget-tokens, or add one to "
                f'langgraph.json, in dollars per 1,000,000 tokens: "plait": {{"prices": {{"{model}": '
                '{"input": 0.5, "output": 1.5}}}'
            )

    def admit(self, model: str, expected: Tokens) -> bool:
        """Count a call that is about to be sent, and return True.

        False where calls in flight may use up what is left. Raises BudgetReached where it is too much without them,
        and where a budget in dollars cannot be held because this model, or one that was paid, has no price.
        """
        self.check_model(model)
        with self._lock:
            following = {model: expected}
            if problem := self._problem(following):
                raise BudgetReached(problem)
            if self._problem(self._expected, following):
                return False
            self._expected[model] = self._expected.get(model, Tokens()).plus(expected)
            return True

    def settle(self, model: str, expected: Tokens, tokens: Tokens | None) -> None:
        """The call is over: what it cost, None for a failed one."""
        with self._lock:
            known = self._expected[model]
            self._expected[model] = Tokens(
                known.input - expected.input, known.cached - expected.cached, known.output - expected.output
            )
            if tokens is not None:
                self._spent[model] = self._spent.get(model, Tokens()).plus(tokens)

    def note_elsewhere(self, spent: Mapping[str, Tokens]) -> None:
        """What other processes of this batch have spent by now."""
        with self._lock:
            self._elsewhere = dict(spent)

    @property
    def spent(self) -> dict[str, Tokens]:
        """By model, here and elsewhere."""
        with self._lock:
            return sum_of(self._spent, self._elsewhere)

    @property
    def spent_here(self) -> dict[str, Tokens]:
        """By model, in this process."""
        with self._lock:
            return dict(self._spent)

    def cost_of(self, tokens: Mapping[str, Tokens]) -> float | None:
        """What these tokens cost, in dollars; None where a model has no price."""
        return self._prices.cost_usd(tokens, self._endpoint)

    @property
    def cost_usd(self) -> float | None:
        """What was spent, in dollars; None where a model has no price."""
        return self._prices.cost_usd(self.spent, self._endpoint)

    def _problem(self, *expected: Mapping[str, Tokens]) -> str | None:
        if self._budget_usd is None and self._budget_tokens is None:
            return None
        whole = sum_of(self._spent, self._elsewhere, *expected)
        if self._budget_tokens is not None:
            tokens = sum(found.input + found.output for found in whole.values())
            if tokens > self._budget_tokens:
                return (
                    f"the budget of {self._budget_tokens:,} tokens is reached: with the next call it would be about "
                    f"{tokens:,}; raise it with --budget-tokens"
                )
        if self._budget_usd is None:
            return None
        cost = self.cost_of(whole)
        if cost is None:
            for model, used in whole.items():
                if used.input or used.output:
                    self.check_model(model)
            raise AssertionError("what has no cost has a model without a price")
        if cost > self._budget_usd:
            return (
                f"the budget of ${self._budget_usd:g} is reached: with the next call it would be about ${cost:.4g}; "
                "raise it with --budget-usd"
            )
        return None


def sum_of(*parts: Mapping[str, Tokens]) -> dict[str, Tokens]:
    """Tokens by model, added up."""
    found: dict[str, Tokens] = {}
    for part in parts:
        for model, tokens in part.items():
            found[model] = found.get(model, Tokens()).plus(tokens)
    return found

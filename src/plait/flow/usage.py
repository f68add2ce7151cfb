"""What model calls consumed: counts that add up over calls, runs and batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Tokens(NamedTuple):
    """What a model read and wrote."""

    input: int = 0
    """`cached` included."""
    cached: int = 0
    output: int = 0

    def plus(self, other: Tokens) -> Tokens:
        """The sum of both."""
        return Tokens(self.input + other.input, self.cached + other.cached, self.output + other.output)


@dataclass(slots=True)
class Usage:
    """Model calls and tokens of a run and everything below it."""

    calls: int = 0
    """Model calls that were begun."""
    attempts: int = 0
    """Requests sent for them, retries included."""
    failed_calls: int = 0
    """Calls that ended in an error after their last attempt."""
    replayed_calls: int = 0
    """Calls answered from a journal: their tokens count below, though they were paid for earlier."""
    reused_calls: int = 0
    """Those of them that another batch paid for."""
    input_tokens: int = 0
    """Those that the provider had cached (`cached_tokens`) included."""
    cached_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    """True when an endpoint did not report the tokens of some call and they were estimated from text length."""
    unscoped_calls: int = 0
    """Calls made from threads or tasks that were started outside the run's context: bounded, but not of the run."""
    models: dict[str, int] = field(default_factory=dict)
    """Calls by model name."""
    tokens: dict[str, Tokens] = field(default_factory=dict)
    """Tokens by model name."""

    def copy(self) -> Usage:
        """The counts as they are now."""
        # By hand: dataclasses.replace takes several times as long, for every row.
        return Usage(
            self.calls,
            self.attempts,
            self.failed_calls,
            self.replayed_calls,
            self.reused_calls,
            self.input_tokens,
            self.cached_tokens,
            self.output_tokens,
            self.estimated,
            self.unscoped_calls,
            dict(self.models),
            dict(self.tokens),
        )

    def add_tokens(self, model: str, tokens: Tokens) -> None:
        """Count what an answer cost."""
        self.input_tokens += tokens.input
        self.cached_tokens += tokens.cached
        self.output_tokens += tokens.output
        self.tokens[model] = self.tokens.get(model, Tokens()).plus(tokens)

    def add(self, other: Usage) -> None:
        """Add the counts of another."""
        for name in ("calls", "attempts", "failed_calls", "replayed_calls", "reused_calls", "unscoped_calls"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.estimated |= other.estimated
        for model, count in other.models.items():
            self.models[model] = self.models.get(model, 0) + count
        for model, tokens in other.tokens.items():
            self.add_tokens(model, tokens)

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

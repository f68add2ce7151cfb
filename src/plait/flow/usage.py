"""What model calls consumed: counts that add up over calls, runs and batches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class Usage:
    """Model calls and tokens of a run and everything below it."""

    calls: int = 0
    """Model calls that were begun."""
    attempts: int = 0
    """Requests sent for them, retries included."""
    failed_calls: int = 0
    """Calls that ended in an error after their last attempt."""
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    """True when an endpoint did not report the tokens of some call and they were estimated from text length."""
    unscoped_calls: int = 0
    """Calls made from threads or tasks that were started outside the run's context: bounded, but not of the run."""
    models: dict[str, int] = field(default_factory=dict)
    """Calls by model name."""

    def copy(self) -> Usage:
        """The counts as they are now."""
        return replace(self, models=dict(self.models))

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

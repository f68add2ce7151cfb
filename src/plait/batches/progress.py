"""How far a batch is: what a screen, a line of a log or a caller wants to know of it now."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from plait.store.rows import RowRecord

_WINDOW_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a batch. Rows of earlier sessions count as done or failed; rates are of the last half minute."""

    total: int | None
    """Rows of the dataset, None while unknown."""
    done: int
    failed: int
    """Rows that ended in an error, a timeout or an interrupt."""
    running: int
    """Rows in flight."""
    calls_in_flight: int
    calls_waiting: int
    """Calls that wait for a permit."""
    rows_per_s: float
    tokens_per_s: float
    elapsed_s: float
    """Of this session."""
    eta_s: float | None
    tokens: int
    """Paid so far, input and output."""
    cost_usd: float | None
    """Of what was paid so far; None where a model has no price."""
    expected_cost_usd: float | None
    """Of all rows, at the cost of those so far."""
    replayed_calls: int
    """Calls of this session that the journal answered."""
    limit: str | None
    """What calls wait for now, in words."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Failed rows of this session by kind, the most frequent first."""
    last_errors: Mapping[str, str] = field(default_factory=dict)
    """The latest message of each kind."""
    bad_rows: int = 0
    """Rows of the dataset that could not be read and were skipped."""


class Pace:
    """Rates over the last half minute."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._rows: deque[tuple[float, int]] = deque()

    def note(self, tokens: int) -> None:
        """A row ended, having used so many tokens."""
        now = self._now()
        self._rows.append((now, tokens))
        self._forget(now)

    def rates(self) -> tuple[float, float]:
        """Rows and tokens per second."""
        now = self._now()
        self._forget(now)
        span_s = min(_WINDOW_S, now - self._began)
        if span_s <= 0:
            return 0.0, 0.0
        return len(self._rows) / span_s, sum(tokens for _, tokens in self._rows) / span_s

    @property
    def elapsed_s(self) -> float:
        return self._now() - self._began

    def _forget(self, now: float) -> None:
        while self._rows and now - self._rows[0][0] > _WINDOW_S:
            self._rows.popleft()


class Failures:
    """The failed rows of a session, by kind."""

    def __init__(self) -> None:
        self.count = 0
        self._kinds: Counter[str] = Counter()
        self._latest: dict[str, str] = {}

    def note(self, record: RowRecord) -> None:
        """A row failed."""
        self.count += 1
        if record.error is not None:
            self._kinds[record.error.type] += 1
            self._latest[record.error.type] = record.error.message

    @property
    def kinds(self) -> dict[str, int]:
        """Rows by kind, the most frequent first."""
        return dict(self._kinds.most_common())

    @property
    def latest(self) -> dict[str, str]:
        """The latest message of each kind."""
        return {kind: self._latest[kind] for kind in self.kinds}

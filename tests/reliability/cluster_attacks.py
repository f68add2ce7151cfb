"""One scenario of the kill matrix: a batch whose parts are struck at random moments until it is done."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.cluster_checks import begun, check, ended, recorded
from tests.reliability.cluster_graphs import CALLS
from tests.reliability.cluster_grounds import Ground, Needs, open_ground
from tests.reliability.cluster_strikes import Strike, title

_POLL_S = 0.05
_PATIENCE_S = 120.0
"""Without a call, a result or an end."""
_WIRE_S = 0.05
"""So long a request may be on its way to the provider when its sender dies."""
_FAILED = 1
_SIGKILL = -9


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is struck, how often, and what is promised of it."""

    part: str
    where: str
    strike: Strike
    needs: Needs
    kills: int
    limit_s: float
    """So long after a blow all rows that were under way have their results."""
    free: bool = False
    """No call is lost: a server is struck, and those who called live on."""
    starts: bool = False
    """Somebody must start the batch again, which takes as long as its first start did: that is not counted."""
    pauses: bool = False
    """The batch may pause, and is gone on with."""
    mend: Callable[[Ground], None] | None = None
    """Done once the batch has recovered from a blow."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """What came of a scenario."""

    part: str
    where: str
    rows: int
    kills: int = 0
    resumed: int = 0
    needed: int = 0
    received: int = 0
    in_flight: int = 0
    """At the kills: sent, and no answer of theirs was durable just before."""
    start_s: float = 0.0
    """From the first process to its first call."""
    recovered_s: float = 0.0
    """The longest time until all rows that were under way had their results."""
    limit_s: float = 0.0
    seconds: float = 0.0
    violation: str = ""

    @property
    def paid_again(self) -> int:
        """Beyond what was needed."""
        return max(0, self.received - self.needed)


def attacked(folder: Path, scenario: Scenario) -> Figures:
    """Play a scenario through; what was not kept is said in the figures' `violation`."""
    figures = Figures(
        part=scenario.part,
        where=scenario.where,
        rows=scenario.needs.rows,
        limit_s=scenario.limit_s,
        needed=CALLS * scenario.needs.rows,
    )
    with open_ground(folder, scenario.needs) as ground:
        clock = time.monotonic()
        try:
            _Attack(ground, scenario, figures).run()
            figures.received = ground.provider.counters.received
            figures.seconds = time.monotonic() - clock
            check(ground, kills=figures.kills, in_flight=figures.in_flight)
        except AssertionError as error:
            figures.violation = str(error)
        figures.received = ground.provider.counters.received
        figures.seconds = figures.seconds or time.monotonic() - clock
    return figures


class _Attack:
    def __init__(self, ground: Ground, scenario: Scenario, figures: Figures) -> None:
        self._ground = ground
        self._scenario = scenario
        self._figures = figures
        self._chance = random.Random(scenario.needs.seed)

    def run(self) -> None:
        """From the batch's first process to the end of its last."""
        began = time.monotonic()
        self._ground.begin()
        self._reach(1)
        self._figures.start_s = time.monotonic() - began
        while self._figures.kills < self._scenario.kills and self._reach(self._next_moment()):
            while self._runs() and not self._strike():
                time.sleep(_POLL_S)  # a worker that was killed is replaced within seconds
            if not self._runs():
                break
        while self._runs():
            self._progress(lambda: False)
        assert self._figures.kills > 0, "the batch was over before anything could be struck"

    def _next_moment(self) -> float:
        received = self._ground.provider.counters.received
        share = max(0.0, self._figures.needed - received) / (self._scenario.kills - self._figures.kills + 1)
        return received + self._chance.uniform(0.2, 1.8) * share

    def _reach(self, count: float) -> bool:
        """Wait until the provider has had so many requests; False where the batch is over before."""
        while self._ground.provider.counters.received < count:
            if not self._runs():
                return False
            self._progress(lambda: self._ground.provider.counters.received >= count)
        return True

    def _strike(self) -> bool:
        ground, figures = self._ground, self._figures
        before = recorded(ground)
        doomed = self._scenario.strike(ground, self._chance) if ground.driver.poll() is None else None
        if doomed is None:
            return False
        figures.kills += 1
        at = time.monotonic()
        if not self._scenario.free:
            # Until they die they may send calls and keep answers.
            while any(map(title, doomed)):
                before = recorded(ground)
                assert time.monotonic() - at < self._scenario.limit_s, f"still there: {list(map(title, doomed))}"
            time.sleep(_WIRE_S)
            figures.in_flight += ground.provider.counters.received - before
        self._recover(at)
        if self._scenario.mend is not None:
            self._scenario.mend(ground)
        return True

    def _recover(self, at: float) -> None:
        """Wait until every row that was under way has its result."""
        open_rows = begun(self._ground, ended(self._ground))
        while open_rows:
            over = not self._runs()
            open_rows -= ended(self._ground)
            took_s = self._took_s(at)
            assert not (over and open_rows), f"the batch is over, {len(open_rows)} rows are not"
            assert took_s <= self._scenario.limit_s, (
                f"{len(open_rows)} rows that were under way have no result {self._scenario.limit_s:g} s after the "
                f"blow: {sorted(open_rows)[:5]}; {self._said()}"
            )
            time.sleep(_POLL_S)
        self._figures.recovered_s = max(self._figures.recovered_s, self._took_s(at))

    def _took_s(self, at: float) -> float:
        return max(0.0, time.monotonic() - at - (self._figures.start_s if self._scenario.starts else 0.0))

    def _runs(self) -> bool:
        """Whether the batch goes on; goes on with it where it was killed, or may have paused."""
        code = self._ground.driver.poll()
        if code is None:
            return True
        if code == 0:
            return False
        paused = self._scenario.pauses and "plait resume" in self._said()
        assert code == _SIGKILL or paused, f"the batch ended with {code}: {self._said()}"
        if self._ground.cluster is not None and not self._ground.cluster.raylets():
            self._ground.renew_cluster()
        self._figures.resumed += 1
        self._ground.begin()
        return True

    def _progress(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so, or the driver ends; fails where nothing happens for long."""
        seen, since = -1, time.monotonic()
        while self._ground.driver.poll() is None and not reached():
            received = self._ground.provider.counters.received
            if received != seen:
                seen, since = received, time.monotonic()
            assert time.monotonic() - since < _PATIENCE_S, f"nothing happens for {_PATIENCE_S:g} s: {self._said()}"
            time.sleep(_POLL_S)

    def _said(self) -> str:
        return self._ground.log.read_text(encoding="utf-8", errors="replace")[-3000:]

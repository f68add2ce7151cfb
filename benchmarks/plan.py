"""How often `plait plan` is right: small live batches against the simulator, forecast from a probe, then run.

Every batch takes seconds, so that fixed costs weigh more than in the batches that forecasts are for.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import plait
from benchmarks.subjects import one_call_graph
from plait.batches import NewBatch
from plait.batches.plan_actuals import actual_of
from plait.batches.plans import Planned, plan
from plait.datasets import Selection
from plait.forecasts import Actual
from plait.models import chat_model
from plait.settings import Settings, from_env
from plait.simulator import Profile, Simulator
from plait.store.folders import FolderShelf

SIZES: Mapping[str, Callable[[Random], float]] = {
    "constant": lambda _: 100.0,
    "uniform": lambda random: random.uniform(20, 180),
    "log-normal 0.5": lambda random: random.lognormvariate(4.6, 0.5),
    "log-normal 1": lambda random: random.lognormvariate(4.2, 1.0),
    "1 in 4 tenfold": lambda random: 50 * (10 if random.random() < 0.25 else 1),
}
"""Words of a row's prompt; the answer repeats it."""
_FAST = Profile(latency_s=0.05, latency_law="lognormal", sigma=0.3)
LIMITS: Mapping[str, tuple[Profile, dict[str, object]]] = {
    "6,000 rpm, told": (_FAST.but(rpm=6000, burst=20), {}),
    "8 at once, queued": (_FAST.but(max_concurrency=8, over_limit="queue", headers="none"), {}),
    "10 at once, set": (_FAST, {"max_concurrency": 10}),
    "7,500 rpm, set": (_FAST, {"rpm": 7500}),
}
PRICES = {"m": {"input": 1.0, "output": 4.0}}


@dataclass(frozen=True, slots=True)
class Case:
    """One batch."""

    size: str
    limit: str
    rows: int = 300
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was foreseen of the rows beyond the probe, and what they did."""

    planned: Planned
    actual: Actual

    @property
    def cost_inside(self) -> bool:
        cost = self.planned.forecast.cost_usd
        return cost is not None and self.actual.cost_usd in cost

    @property
    def time_inside(self) -> bool:
        return self.actual.duration_s in self.planned.forecast.duration_s


def texts(case: Case) -> list[dict[str, str]]:
    """The rows: the same case, the same rows."""
    random = Random(f"{case.size} {case.seed}")
    return [
        {"question": " ".join([f"q{row}", *["word"] * round(SIZES[case.size](random))])} for row in range(case.rows)
    ]


def settings_for(case: Case, simulator: Simulator, home: Path) -> Settings:
    """With prices and the limits that the case sets; keeps nothing outside `home`."""
    env = {"OPENAI_BASE_URL": simulator.base_url, "OPENAI_API_KEY": "none", "PLAIT_HOME": str(home)}
    return replace(from_env(env), prices=PRICES, model="openai:m").override(**LIMITS[case.limit][1])


async def play(case: Case, home: Path) -> Outcome:
    """Plan the batch, run the rest of it, and compare."""
    async with Simulator(LIMITS[case.limit][0], record=False) as simulator:
        settings = settings_for(case, simulator, home)
        graph = one_call_graph(chat_model("openai:m", settings=settings))
        file = home / f"rows-{case.seed}-{case.rows}.jsonl"
        await asyncio.to_thread(_write, file, texts(case))
        new = NewBatch(workflow=graph, rows=file, selection=Selection(seed=case.seed), settings=settings)
        planned = await plan(new)
        async for _ in plait.resume(planned.batch_id, workflow=graph, settings=settings):
            pass
        return Outcome(planned, await asyncio.to_thread(_actual, home, planned))


def _actual(home: Path, planned: Planned) -> Actual:
    with FolderShelf(home).find(planned.batch_id).read() as reader:
        return actual_of(reader, planned.probe.positions)


def _write(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(f'{{"question": "{row["question"]}"}}\n' for row in rows), encoding="utf-8")


def main() -> None:
    """A line per batch, then how many costs and times were inside."""
    # Every batch has a home of its own, and what is learnt of limits is missed when that is gone.
    logging.getLogger("plait.flow").setLevel(logging.ERROR)
    outcomes = []
    for seed, size in enumerate(SIZES):
        for limit in LIMITS:
            with tempfile.TemporaryDirectory() as home:
                outcome = asyncio.run(play(Case(size, limit, seed=seed), Path(home)))
            outcomes.append(outcome)
            foreseen, actual = outcome.planned.forecast, outcome.actual
            cost, time = foreseen.cost_usd, foreseen.duration_s
            assert cost is not None
            assert actual.cost_usd is not None
            print(
                f"{size:<15} {limit:<18} ${actual.cost_usd:.4f} of {cost.low:.4f} to {cost.high:.4f} "
                f"{'' if outcome.cost_inside else 'OUT '}  {actual.duration_s:5.2f} s of {time.low:5.2f} to "
                f"{time.high:5.2f} {'' if outcome.time_inside else 'OUT '}  {foreseen.binding}"
            )
    costs, times = (sum(getattr(each, name) for each in outcomes) for name in ("cost_inside", "time_inside"))
    print(f"inside: {costs} of {len(outcomes)} costs, {times} of {len(outcomes)} finish times")


if __name__ == "__main__":
    main()
